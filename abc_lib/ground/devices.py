"""What a machine offers: devices, threads, cores, and memory in bytes."""

import contextlib
import math
import os
import re
import threading
from collections.abc import Iterator

import torch

from abc_lib.ground.errors import BadValue, unknown


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread within.

    Every task on a CPU runs like this: two tasks on two threads each would crawl on
    two cores, and the order of a sum over threads would change its bits.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resolve_device(name: str = "auto") -> torch.device:
    """``auto`` takes a GPU if there is one; otherwise ``cpu``, ``cuda``, ``cuda:1``, ``mps``."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "gpu":
        raise BadValue(
            "unknown device 'gpu'; a GPU is 'cuda' (or 'mps' on a Mac), 'auto' takes one if there "
            "is one"
        )
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise unknown("device", name, ("auto", "cpu", "cuda", "mps")) from None
    if device.type == "cuda" and (
        not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()
    ):
        raise BadValue(
            f"device '{name}' is not on this machine; use 'cpu', or 'auto' to take what there is"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise BadValue(
            f"device '{name}' is not on this machine; use 'cpu', or 'auto' to take what there is"
        )
    if device.type not in ("cpu", "cuda", "mps"):
        raise unknown("device", name, ("auto", "cpu", "cuda", "mps"))
    return device


def parse_bytes(budget: int | str) -> int:
    """A memory budget in bytes, from a number or a text such as ``512MiB`` or ``2GB``."""
    if isinstance(budget, int) and not isinstance(budget, bool):
        value = budget
    else:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", str(budget), re.IGNORECASE)
        if not match:
            raise BadValue(
                f"memory budget '{budget}' is not understood; write it like 512MiB or 2GiB"
            )
        power = " KMGT".index(match[2].upper() or " ")
        value = int(float(match[1]) * (1024 if match[3] else 1000) ** power)
    if value < 1:
        raise BadValue(
            f"memory budget {budget!r} leaves nothing to work with; write it like 512MiB or 2GiB"
        )
    return value


class Peak:
    """The most bytes that this process held within a ``with``, beyond what it held before.

    A thread looks every ``seconds``; what comes and goes in between is missed. ``most`` is NaN
    where the system does not say (no ``/proc``).
    """

    def __init__(self, seconds: float = 0.01):
        self.seconds, self.most = seconds, math.nan
        self._over = threading.Event()

    def __enter__(self) -> "Peak":
        self._before, self.most = self._held(), 0.0
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *error) -> None:
        self._over.set()
        self._watch.join()

    def _look(self) -> None:
        over = False
        while not over:
            over = self._over.wait(self.seconds)
            held = self._held() - self._before
            self.most = held if math.isnan(held) else max(held, self.most)

    @staticmethod
    def _held() -> float:
        try:
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            return math.nan
