"""Random numbers as a function of what they are for.

Nothing in this library draws from a global generator. Every stream of random
numbers is named by the things it depends on, so that the same step of the same
member gets the same numbers whether or not the process was stopped in between.
"""

import hashlib

import torch


def derive(*names: object) -> int:
    """A 63-bit seed that depends on every one of ``names``, in order."""
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*names: object) -> torch.Generator:
    """A CPU generator seeded by :func:`derive`."""
    return torch.Generator().manual_seed(derive(*names))
