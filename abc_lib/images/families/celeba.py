"""CelebA: aligned photographs of celebrities, each of them a data source (B.1)."""

from pathlib import Path

import torch

from abc_lib.ground.errors import DataCorrupt
from abc_lib.images.family import Family
from abc_lib.images.files import ImageFiles, odd_images, read_text

_FOLDER = "celeba"
_IMAGES = "img_align_celeba"
_IDENTITIES = "identity_CelebA.txt"
_PARTITION = "list_eval_partition.txt"
_SPLITS = {"train": 0, "valid": 1, "test": 2}


def _present(root: Path, split: str) -> bool:
    return (root / _FOLDER).is_dir()


def _column(path: Path) -> dict[str, int]:
    """A file of lines ``000001.jpg 2880``."""
    numbers = {}
    for k, line in enumerate(read_text(path, "CelebA").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or not words[1].isdigit():
            raise DataCorrupt(
                f"line {k} of {path} is '{line.strip()[:40]}', not an image's name and a number; "
                "replace the file"
            )
        numbers[words[0]] = int(words[1])
    return numbers


def _load(root: Path, split: str) -> tuple[ImageFiles, torch.Tensor, str]:
    """A split: the middle 128x128 of images of 178x218; labels and owners are the celebrities."""
    folder = root / _FOLDER
    identities = _column(folder / _IDENTITIES)
    partition = _column(folder / _PARTITION)
    if identities.keys() != partition.keys():
        name = min(identities.keys() ^ partition.keys())
        raise DataCorrupt(
            f"{folder / _IDENTITIES} and {_PARTITION} do not name the same images ({name}); "
            "replace both with fresh copies"
        )
    names = [name for name in sorted(partition) if partition[name] == _SPLITS[split]]
    if not names:
        raise DataCorrupt(
            f"{folder / _PARTITION} names no image of the {split} split; replace the file"
        )
    files = ImageFiles(
        title="CelebA",
        root=folder / _IMAGES,
        names=tuple(names),
        owners=torch.tensor([identities[name] for name in names], dtype=torch.int64),
        owner="celebrity",
        expected=(218, 178),
        crop=128,
        size=128,
        odd=odd_images(),
    ).checked()
    return files, files.owners.clone(), f"CelebA {split} split"


FAMILY = Family(
    name="celeba",
    title="CelebA",
    shape=(3, 128, 128),
    # Scaled up for the Stable Diffusion autoencoder (B.1).
    scaled={"stable-diffusion": (3, 256, 256)},
    splits=tuple(_SPLITS),
    reference={"train": "test"},
    present=_present,
    read=_load,
    folder=_FOLDER,
    remedy=f"download {_IMAGES}.zip, {_IDENTITIES} and {_PARTITION} from "
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and put them, the zip unpacked, "
    f"into {_FOLDER}/",
    unseen="test",
    laptop_members=16,
)
