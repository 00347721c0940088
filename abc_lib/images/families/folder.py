"""A reader's own folder of pictures: read by its recipe, kept in the cache by its digest.

The digest is the split. Shape is part of the name, as in every family it is the family's.
"""

from pathlib import Path

import torch

from abc_lib.images.family import Family
from abc_lib.images.own.content import PREFIX, is_kept, kept

SIZES = (32, 64)


def _load(root: Path, split: str) -> tuple[torch.Tensor, torch.Tensor, str]:
    content = kept(split)
    first = torch.tensor([owners[0] for owners in content.owners])
    return content.images, first, content.origin


FAMILIES = tuple(
    Family(
        name=f"{PREFIX}{word}_{size}",
        title=f"own pictures, {word}, {size}x{size}",
        shape=(channels, size, size),
        splits=(),
        present=lambda root, split: is_kept(split),
        read=_load,
        remedy="read the recipe of their folder again; no folder is needed",
    )
    for word, channels in (("grey", 1), ("colour", 3))
    for size in SIZES
)
