"""Hashes that name things: of a spec, of a model's parameters."""

import dataclasses
import hashlib
import json

import torch


def spec_of(part) -> dict:
    """The fields of a recipe's part that differ from their defaults, ready for JSON.

    Leaving defaults out means that a field added later does not rename what exists.
    The other side of it: a default, once published, never changes.
    """
    return {
        f.name: getattr(part, f.name)
        for f in dataclasses.fields(part)
        if getattr(part, f.name) != f.default
    }


def digest(spec: object) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def identity_of(parameters: list[dict[str, torch.Tensor]]) -> str:
    """A hash of the members' parameters, in order: the same recipe trained elsewhere is another
    ensemble.
    """
    sha = hashlib.sha256()
    for each in parameters:
        for name in sorted(each):
            sha.update(name.encode())
            # As bytes: numpy has no bfloat16.
            sha.update(each[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]
