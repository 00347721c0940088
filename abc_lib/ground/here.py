"""Where work is done: one value in place of a store, a device, jobs, memory and progress."""

import dataclasses
import os
from dataclasses import dataclass, field

import torch

from abc_lib.ground.devices import parse_bytes, resolve_device
from abc_lib.ground.errors import BadValue
from abc_lib.ground.store import Store

_CLUSTERS = ("tcp://", "tls://", "ray://")


@dataclass(frozen=True)
class Here:
    """This machine, as work is to use it: ``Here(store, device, jobs, memory, progress)``.

    Whatever looks up, trains or computes takes one as its last argument; by default it is
    ``Here()``. Raises :class:`BadValue` for a device that is not on this machine, for a
    budget that is not understood and for a cluster that is none.
    """

    store: Store = field(default_factory=Store)
    """where results are looked for and kept"""
    device: torch.device | str = "auto"
    """``auto`` takes a GPU if there is one; otherwise ``cpu``, ``cuda``, ``cuda:1``, ``mps``"""
    jobs: int | None = None
    """tasks side by side; None is one a core on a CPU and one on a GPU, -1 one a core"""
    memory: int | str = "2GiB"
    """what all jobs together may hold of activations and states, as bytes or a text like 512MiB"""
    progress: bool = True
    """whether long work shows a bar"""
    cluster: str | None = ""
    """where tasks are sent: ``tcp://host:8786`` for Dask, ``ray://host:10001`` for Ray, None for
    this machine; an empty text is what the environment variable ``ABC_CLUSTER`` names, or None"""

    def __post_init__(self):
        object.__setattr__(self, "device", resolve_device(str(self.device)))
        object.__setattr__(self, "memory", parse_bytes(self.memory))
        if self.cluster == "":
            object.__setattr__(self, "cluster", os.environ.get("ABC_CLUSTER") or None)
        if self.cluster is not None and not str(self.cluster).startswith(_CLUSTERS):
            raise BadValue(
                f"a cluster is tcp://host:8786 (Dask) or ray://host:10001 (Ray), not "
                f"{self.cluster!r}"
            )

    def anew(self) -> "Here":
        """The same, but passing over what is published: what this machine computed still counts."""
        return dataclasses.replace(self, store=self.store.anew())
