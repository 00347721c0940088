"""One member's network as an ONNX graph whose parameters are left out: every member fits it."""

import warnings

import numpy as np
import torch

from abc_lib.ground.errors import NotAvailable
from abc_lib.method.ensemble import Ensemble

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
