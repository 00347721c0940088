"""Members as ONNX graphs: for a browser, and for ONNX Runtime on this machine.

A member's graph leaves its parameters out, so that every member of an ensemble fits it.
"""

import copy
import dataclasses
import warnings
from typing import Any

import numpy as np
import torch

from abc_lib.ground.errors import BadValue, NotAvailable
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.network import NoisePredictor

__all__ = ["BACKENDS", "TOLERANCE", "member_graph", "on_onnx"]

BACKENDS = ("torch", "onnx")
TOLERANCE = 1e-4
"""a pixel in [0, 1] of a sample by ONNX Runtime is as near to PyTorch's"""

LOCATION = "member"
"""where the graph looks for a member's parameters: in single precision, one after another"""


def member_graph(ensemble: Ensemble) -> tuple[bytes, list[tuple[str, int]]]:
    """The graph of ``(x, t) -> eps``, x (B, C, H, W) float32 and t (B,) int64, and the names and
    sizes of its parameters in the order in which it wants them.

    Raises :class:`NotAvailable` without the extra ``lab``.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError:
        raise NotAvailable(
            "ONNX is not installed, and a lab needs it; pip install -e '.[lab]'"
        ) from None
    member = ensemble.members[0]
    x, t = torch.zeros(2, *ensemble.shape), torch.zeros(2, dtype=torch.int64)
    batch = {0: torch.export.Dim("batch")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            member.cpu(),
            (x, t),
            dynamo=True,
            optimize=False,
            verbose=False,
            input_names=["x", "t"],
            output_names=["eps"],
            dynamic_shapes=(batch, batch),
        )
    model = program.model_proto
    names, sizes = set(dict(member.named_parameters())), []
    for part in model.graph.initializer:
        if part.name in names:
            count = int(np.prod(part.dims))
            where = {"location": LOCATION, "offset": 4 * sum(size for _, size in sizes)}
            part.ClearField("raw_data")
            part.ClearField("float_data")
            part.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (where | {"length": 4 * count}).items():
                entry = part.external_data.add()
                entry.key, entry.value = key, str(value)
            sizes.append((part.name, count))
    if {name for name, _ in sizes} != names:
        raise NotAvailable(
            "this version of torch names parameters otherwise in ONNX; use torch 2.15"
        )
    # What is left says where in torch a node comes from, and is most of the file.
    del model.metadata_props[:]
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        for node in nodes:
            node.doc_string = ""
            del node.metadata_props[:]
    for value in model.graph.value_info:
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    return model.SerializeToString(), sizes


class _OnnxMember(NoisePredictor):
    """A member that shares a network's parameters and evaluates it by ONNX Runtime."""

    graph: bytes
    order: list[str]
    session: Any

    @classmethod
    def of(cls, member: NoisePredictor, graph: bytes, order: list[str]) -> "_OnnxMember":
        made = copy.copy(member)
        made.__class__ = cls
        made.graph, made.order, made.session = graph, order, None
        return made

    def __getstate__(self) -> dict:
        # a session does not travel to another process; it is made there
        return {**super().__getstate__(), "session": None}

    def _open(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        parameters = dict(self.named_parameters())
        values = [
            onnxruntime.OrtValue.ortvalue_from_numpy(parameters[name].detach().numpy())
            for name in self.order
        ]
        options.add_external_initializers(self.order, values)
        return onnxruntime.InferenceSession(self.graph, options, providers=["CPUExecutionProvider"])

    def forward(self, x: torch.Tensor, t: torch.Tensor | int) -> torch.Tensor:
        if not isinstance(x, torch.Tensor):
            raise BadValue(
                "ONNX Runtime does not differentiate; get the ensemble with backend torch"
            )
        if x.device.type != "cpu":
            raise BadValue("the onnx backend runs on the CPU; get the ensemble on device cpu")
        self.session = self.session or self._open()
        times = torch.as_tensor(t, dtype=torch.int64).expand(len(x))
        feeds = {"x": x.float().numpy(), "t": times.numpy()}
        return torch.from_numpy(self.session.run(None, feeds)[0])


def on_onnx(ensemble: Ensemble) -> Ensemble:
    """The same members evaluated by ONNX Runtime, on the CPU.

    Several times as fast where few states go through a member at once, as for a single sample.
    Its samples are :data:`TOLERANCE` near, not the same to the bit, so its identity is another one
    and nothing that it computes is taken for PyTorch's. Raises :class:`NotAvailable` without the
    extra ``lab``.
    """
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        raise NotAvailable(
            "ONNX Runtime is not installed, and the onnx backend needs it; pip install -e '.[lab]'"
        ) from None
    ensemble = ensemble.to("cpu")
    graph, sizes = member_graph(ensemble)
    order = [name for name, _ in sizes]
    members = [_OnnxMember.of(member, graph, order) for member in ensemble.members]
    identity = f"{ensemble.identity} by ONNX Runtime"
    return dataclasses.replace(ensemble, members=members, identity=identity)
