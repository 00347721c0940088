"""MNIST and Fashion-MNIST: IDX files, checked by their MD5."""

import gzip
import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from abc_lib.ground.errors import DataCorrupt
from abc_lib.images.families.names import TITLES, TORCHVISION

# MD5 of the unzipped IDX files. A wrong file gives wrong science silently, so it is refused.
IDX_MD5 = {
    ("mnist", "t10k-images"): "2646ac647ad5339dbf082846283269ea",
    ("mnist", "t10k-labels"): "27ae3e4e09519cfbb04c329615203637",
    ("mnist", "train-images"): "6bbc9ace898e44ae57da46a324031adb",
    ("mnist", "train-labels"): "a25bea736e30d166cdddb491f175f624",
    ("fashion", "t10k-images"): "8181f5470baa50b63fa0f6fddb340f0a",
    ("fashion", "t10k-labels"): "15d484375f8d13e6eb1aabb0c3f46965",
    ("fashion", "train-images"): "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    ("fashion", "train-labels"): "9018921c3c673c538a1fc5bad174d6f9",
}
_PREFIX = {"train": "train", "test": "t10k"}
_KINDS = ("images", "labels")


def _idx(path: Path, family: str, part: str) -> np.ndarray:
    """One IDX file of unsigned bytes, checked."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataCorrupt(
            f"{path} cannot be read ({error}); replace it with a fresh copy"
        ) from None
    if hashlib.md5(raw).hexdigest() != IDX_MD5[family, part]:
        raise DataCorrupt(
            f"{path} is not the {TITLES[family]} file {part} (its MD5 differs); replace it with a fresh copy"
        )
    dims = struct.unpack(f">{raw[3]}I", raw[4 : 4 + 4 * raw[3]])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(dims)


def _find_idx(root: Path, family: str, part: str) -> Path | None:
    rank = 3 if part.endswith("images") else 1
    for folder in (root / family, root / TORCHVISION[family] / "raw"):
        for name in (f"{part}-idx{rank}-ubyte.gz", f"{part}-idx{rank}-ubyte"):
            if (folder / name).is_file():
                return folder / name
    return None


def present(root: Path, family: str, split: str) -> bool:
    """Whether images and labels of a split are in a data folder."""
    return all(_find_idx(root, family, f"{_PREFIX[split]}-{kind}") for kind in _KINDS)


def load(root: Path, family: str, split: str) -> tuple[torch.Tensor, torch.Tensor, str]:
    """A split from a data folder that has it."""
    parts = [f"{_PREFIX[split]}-{kind}" for kind in _KINDS]
    images, labels = [_idx(_find_idx(root, family, part), family, part) for part in parts]
    # Padded by two black pixels on every side (B.1).
    padded = F.pad(torch.from_numpy(images.copy())[:, None], (2, 2, 2, 2))
    return padded, torch.from_numpy(labels.copy()).long(), f"{TITLES[family]} {split} split"
