"""Images, labels and data sources of one family each (B.1).

A family is looked for first in the folder that ``$ABC_DATA`` names, then in
``data/raw``; what torchvision can download it then downloads there, checked. In the
local folders

- ``mnist/`` and ``fashion/`` hold the four IDX files, gzipped or not,
- ``cifar10_jpeg/`` holds ``train.zip`` and ``test.zip`` with one folder of JPEG files
  a class: a re-encoded copy, which is recorded as such wherever it is used,
- torchvision's own folders (``MNIST/raw``, ``cifar-10-batches-py``, ...) are understood too,
- ``celeba/`` holds ``img_align_celeba/``, ``identity_CelebA.txt`` and
  ``list_eval_partition.txt``, ``metfaces/`` holds ``metfaces.json`` and ``images/``,
  ``artbench/`` holds ``artbench-10-imagefolder-split/``: large sets, whose images stay in
  their files until they are asked for (:class:`ImageFiles`). The environment variable
  ``ABC_ODD_IMAGES`` says what becomes of files that are not as they should be.

Scikit-learn's digits are built in.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ..errors import BadValue, DataMissing, positive_int, unknown
from ..paths import RAW, data_roots
from ..recipes import Data
from ..seeds import generator
from . import artbench, celeba, cifar, digits, idx, landscapes, metfaces
from .files import ImageFiles, odd_images
from .idx import IDX_MD5 as _IDX_MD5
from .names import REMEDIES, TITLES, TORCHVISION
from .owned import owned_subset
from .values import TrainingSet

__all__ = [
    "FOLDERS",
    "ImageFiles",
    "REMEDIES",
    "SHAPES",
    "SPLITS",
    "TrainingSet",
    "_IDX_MD5",
    "available",
    "image_shape",
    "load_split",
    "to_images",
    "to_model",
    "training_set",
]

FOLDERS = {
    "mnist": "mnist", "fashion": "fashion", "cifar10": "cifar10_jpeg", "cifar100": "cifar-100-python",
    "celeba": "celeba", "metfaces": "metfaces", "artbench": "artbench",
}
"""what to put into a data folder for each family that is not built in"""
SHAPES = {
    "digits": (1, 8, 8), "mnist": (1, 32, 32), "fashion": (1, 32, 32), "cifar10": (3, 32, 32), "cifar100": (3, 32, 32),
    "celeba": (3, 128, 128), "metfaces": (3, 256, 256), "artbench": (3, 256, 256),
}
"""C, H, W of an image of each family"""
SPLITS = {
    "digits": ("ensemble", "held out"), **{family: ("train", "test") for family in TORCHVISION},
    "celeba": ("train", "valid", "test"), "metfaces": ("all",), "artbench": ("train", "test", "landscapes"),
}
_SMALL = {"mnist": idx, "fashion": idx, "cifar10": cifar, "cifar100": cifar}
_FILES = {"celeba": celeba, "metfaces": metfaces, "artbench": artbench}


def _present(root: Path, family: str, split: str) -> bool:
    return _SMALL[family].present(root, family, split) if family in _SMALL else _FILES[family].present(root, split)


def _load(roots: tuple[Path, ...], family: str, split: str) -> tuple | None:
    for root in roots:
        if _present(root, family, split):
            return _SMALL[family].load(root, family, split) if family in _SMALL else _FILES[family].load(root, split)
    return None


def _download(family: str, split: str) -> None:
    """Into ``data/raw`` through torchvision, which verifies checksums and shows progress."""
    import torchvision.datasets

    title = TITLES[family]
    places = " or ".join(str(root) for root in data_roots())
    print(f"{title} is not in {places}; downloading it to {RAW}")
    try:
        RAW.mkdir(parents=True, exist_ok=True)
        getattr(torchvision.datasets, TORCHVISION[family])(RAW, train=split == "train", download=True)
    except (OSError, RuntimeError) as error:
        # torchvision lists its mirrors one a line
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataMissing(
            f"{title} is not at hand and could not be downloaded ({reason}): set ABC_DATA to a folder that holds "
            f"{FOLDERS[family]}/, or put that folder into {RAW}, or try again with a network"
        ) from None


@lru_cache(maxsize=4)
def _load_split(family: str, split: str, roots: tuple, odd: str) -> tuple[torch.Tensor | ImageFiles, torch.Tensor, str]:
    if family == "digits":
        return digits.load(split)
    part = "train" if split == "landscapes" else split
    found = _load(roots, family, part)
    if found is None and family in REMEDIES:
        raise DataMissing(f"{TITLES[family]} is not at hand: {REMEDIES[family]} in the folder that ABC_DATA names, or in {RAW}")
    if found is None:
        _download(family, part)
        found = _load(roots, family, part)
    if split == "landscapes":
        images, labels, _ = found
        taken = landscapes.are_landscapes(landscapes.cosines(images))
        found = images.select(taken), labels[taken], "ArtBench-10 train split, landscapes by OpenCLIP"
    return found


def load_split(family: str, split: str) -> tuple[torch.Tensor | ImageFiles, torch.Tensor, str]:
    """All images of one split: uint8 (K, C, H, W), labels int64 (K,), and where they come from.

    The images of a family that is too large to hold are :class:`ImageFiles` instead.
    Raises :class:`DataMissing` when they are neither here nor to be had, and
    :class:`DataCorrupt` when a file is not what its name says.
    """
    if family not in SPLITS:
        raise unknown("data family", family, SPLITS)
    if split not in SPLITS[family]:
        raise unknown(f"split of {family}", split, SPLITS[family])
    return _load_split(family, split, tuple(data_roots()), odd_images())


def available(family: str, split: str) -> bool:
    """Whether a split's images are on this machine, so that nothing would be downloaded."""
    return family == "digits" or any(_present(root, family, split) for root in data_roots())


def image_shape(data: Data) -> tuple[int, int, int]:
    """C, H, W of a recipe's images: CelebA is scaled up to 256x256 for the Stable Diffusion autoencoder (B.1)."""
    if data.family not in SHAPES:
        raise unknown("data family", data.family, SHAPES)
    return (3, 256, 256) if data.family == "celeba" and data.space == "stable-diffusion" else SHAPES[data.family]


def training_set(data: Data) -> TrainingSet:
    """The images a recipe asks for, with their data sources.

    The subset is the first ``size`` images of a permutation of the split given by
    ``subset_seed``, so that smaller sets are nested in larger ones. Sources that are
    single images are numbered in that order; classes by label; groups are drawn at
    random with sizes that differ by one at most. Where sources are celebrities or artists,
    ``num_sources`` of them are drawn, and the subset is theirs (see :func:`owned_subset`).
    """
    positive_int("size", data.size)
    positive_int("num_sources", data.num_sources)
    images, labels, origin = load_split(data.family, data.split)
    where = torch.randperm(len(images), generator=generator("subset", data.family, data.split, data.subset_seed))
    if data.binarise:
        images = (images > 127).to(torch.uint8) * 255
        where = where[_first_of_each(images[where])]
    if data.size > len(where):
        raise BadValue(f"{origin} has {len(where)} images, fewer than the {data.size} that the recipe asks for")
    owners = images.owners if isinstance(images, ImageFiles) and images.owner == data.sources else None
    if owners is not None:
        rng = generator("owners", data.family, data.split, data.subset_seed)
        taken, sources = owned_subset(owners[where], data.size, data.num_sources, images.owner, rng)
        where = where[taken]
    else:
        where = where[: data.size]
    labels = labels[where]
    if data.sources == "image":
        sources = torch.arange(len(where))
    elif data.sources == "class":
        sources = labels.clone()
    elif data.sources == "group":
        sources = torch.arange(len(where)) % data.num_sources
    elif owners is None:
        raise BadValue(f"sources of {data.family} cannot be '{data.sources}'; choose image, class or group")
    owned = len(torch.unique(sources))
    if owned != data.num_sources or int(sources.max()) != data.num_sources - 1:
        raise BadValue(f"the recipe names {data.num_sources} sources, but its {len(where)} images have {owned}")
    chosen = images.select(where).scaled(image_shape(data)[-1]) if isinstance(images, ImageFiles) else images[where].float() / 255
    return TrainingSet(chosen, labels, sources, where, origin)


def _first_of_each(images: torch.Tensor) -> torch.Tensor:
    """Positions of the first copy of every distinct image, ascending."""
    flat = np.packbits(images.flatten(1).numpy() > 0, axis=1)
    _, first = np.unique(flat, axis=0, return_index=True)
    return torch.from_numpy(np.sort(first))


def to_model(images: torch.Tensor, data: Data) -> torch.Tensor:
    """Images in [0, 1] to the range the networks are trained in (B.2)."""
    return (images - data.shift) * data.factor


def to_images(x: torch.Tensor, data: Data) -> torch.Tensor:
    """The inverse of :func:`to_model`, clipped to [0, 1]."""
    return (x / data.factor + data.shift).clamp(0, 1)
