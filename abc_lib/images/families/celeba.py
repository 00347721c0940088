"""CelebA: aligned photographs of celebrities, each of them a data source (B.1)."""

from pathlib import Path

import torch

from abc_lib.ground.errors import DataCorrupt
from abc_lib.images.files import ImageFiles, odd_images, read_text

_SPLITS = {"train": 0, "valid": 1, "test": 2}
_FOLDER, _IMAGES, _IDENTITIES, _PARTITION = (
    "celeba",
    "img_align_celeba",
    "identity_CelebA.txt",
    "list_eval_partition.txt",
)


def present(root: Path, split: str) -> bool:
    """Whether a data folder has the set."""
    return (root / _FOLDER).is_dir()


def _column(path: Path) -> dict[str, int]:
    """A file of lines ``000001.jpg 2880``."""
    found = {}
    for number, line in enumerate(read_text(path, "CelebA").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or not words[1].isdigit():
            raise DataCorrupt(
                f"line {number} of {path} is '{line.strip()[:40]}', not an image's name and a number; replace the file"
            )
        found[words[0]] = int(words[1])
    return found


def load(root: Path, split: str) -> tuple[ImageFiles, torch.Tensor, str]:
    """A split: the middle 128x128 of images of 178x218, whose labels and owners are the celebrities' numbers."""
    folder = root / _FOLDER
    identities, partition = (_column(folder / name) for name in (_IDENTITIES, _PARTITION))
    if identities.keys() != partition.keys():
        name = min(identities.keys() ^ partition.keys())
        raise DataCorrupt(
            f"{folder / _IDENTITIES} and {_PARTITION} do not name the same images ({name}); replace both with fresh copies"
        )
    names = [name for name in sorted(partition) if partition[name] == _SPLITS[split]]
    if not names:
        raise DataCorrupt(
            f"{folder / _PARTITION} names no image of the {split} split; replace the file"
        )
    owners = torch.tensor([identities[name] for name in names], dtype=torch.int64)
    files = ImageFiles(
        "CelebA",
        folder / _IMAGES,
        tuple(names),
        owners,
        "celebrity",
        (218, 178),
        128,
        128,
        odd_images(),
    ).checked()
    return files, files.owners.clone(), f"CelebA {split} split"
