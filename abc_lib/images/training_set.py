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

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from abc_lib.ground.errors import BadValue, DataMissing, positive_int, unknown
from abc_lib.ground.paths import RAW, data_roots
from abc_lib.ground.seeds import generator
from abc_lib.images.families import artbench, celeba, cifar, digits, idx, metfaces
from abc_lib.images.families import paintings as landscapes
from abc_lib.images.families.names import REMEDIES, TITLES, TORCHVISION
from abc_lib.images.files import ImageFiles, odd_images
from abc_lib.method.recipe import Data, image_shape


@dataclass(frozen=True)
class TrainingSet:
    """The images of an ensemble and who owns them.

    ``images`` (K, C, H, W) float32 in [0, 1], or :class:`ImageFiles` that read as such a
    tensor; ``labels`` (K,) int64; ``sources`` (K,) int64 in 0..N-1; ``where`` (K,) int64,
    each image's index in its split; ``origin`` says in words which copy of the data this is.
    """

    images: torch.Tensor | ImageFiles
    labels: torch.Tensor
    sources: torch.Tensor
    where: torch.Tensor
    origin: str

    def __len__(self) -> int:
        return len(self.images)

    def of_sources(self, sources) -> "TrainingSet":
        """Only the images of some sources, in their order here."""
        return self._only(torch.isin(self.sources, torch.as_tensor(sources, dtype=torch.int64)))

    def without(self, source: int) -> "TrainingSet":
        """Everything but one source's images; the other sources keep their numbers."""
        return self._only(self.sources != source)

    def _only(self, keep: torch.Tensor) -> "TrainingSet":
        images = (
            self.images.select(keep) if isinstance(self.images, ImageFiles) else self.images[keep]
        )
        return dataclasses.replace(
            self,
            images=images,
            labels=self.labels[keep],
            sources=self.sources[keep],
            where=self.where[keep],
        )

    @property
    def fingerprint(self) -> str:
        """A hash of the images in their order, whoever owns them: of pixels, or of files' names and sizes."""
        if isinstance(self.images, ImageFiles):
            return self.images.fingerprint
        return hashlib.sha256(self.images.numpy().tobytes()).hexdigest()

    @property
    def checksum(self) -> str:
        """SHA-256 of images and sources: two sets with the same one train the same members."""
        lazy = isinstance(self.images, ImageFiles)
        digest = hashlib.sha256(
            self.images.fingerprint.encode() if lazy else self.images.numpy().tobytes()
        )
        digest.update(self.sources.numpy().tobytes())
        return digest.hexdigest()


def owned_subset(
    owners: torch.Tensor, size: int, num_sources: int, owner: str, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Picks ``num_sources`` owners with ``size`` images in all: positions (size,), ascending, and sources (size,).

    ``owners`` (K,) says whose each image is. If everything is asked for, everything is
    taken. Otherwise owners are drawn at random among those with at least
    size // num_sources images. The paper says how many images its 512 celebrities have,
    30.006 on average, but not how they were chosen; this rule gives such numbers, as 30 is
    the most frequent number of images in CelebA and few have more. If those drawn have too few
    images, some make room for the next in line with more; if they have too many, the last
    images of those with most are left out. Sources are numbered in the order of the owners'
    numbers. Raises :class:`BadValue` where it cannot be done.
    """
    people, number, counts = torch.unique(owners, return_inverse=True, return_counts=True)
    if len(people) == num_sources and len(owners) == size:
        return torch.arange(size), number
    floor = size // num_sources
    order = torch.randperm(len(people), generator=rng)
    rich = order[counts[order] >= max(1, floor)].tolist()
    problem = (
        f"no {num_sources:,} of the {len(people):,} {owner}s have {size:,} images between them"
    )
    remedy = "ask for other numbers with recipe.replace(data={'size': ..., 'num_sources': ...})"
    if len(rich) < num_sources:
        raise BadValue(f"{problem}: only {len(rich):,} have {max(1, floor)} or more; {remedy}")
    kept = {k: int(counts[k]) for k in rich[:num_sources]}
    waiting = rich[num_sources:]
    while sum(kept.values()) < size:
        least = min(kept, key=kept.get)
        better = next((k for k in waiting if counts[k] > kept[least]), None)
        if better is None:
            raise BadValue(f"{problem}; {remedy}")
        del kept[least]
        waiting.remove(better)
        kept[better] = int(counts[better])
    for _ in range(sum(kept.values()) - size):
        kept[max(kept, key=kept.get)] -= 1
    taken = (
        torch.cat([(number == k).nonzero().squeeze(1)[:many] for k, many in kept.items()])
        .sort()
        .values
    )
    numbers = {k: s for s, k in enumerate(sorted(kept))}
    return taken, torch.tensor([numbers[int(k)] for k in number[taken]])


FOLDERS = {
    "mnist": "mnist",
    "fashion": "fashion",
    "cifar10": "cifar10_jpeg",
    "cifar100": "cifar-100-python",
    "celeba": "celeba",
    "metfaces": "metfaces",
    "artbench": "artbench",
}
"""what to put into a data folder for each family that is not built in"""
SPLITS = {
    "digits": ("ensemble", "held out"),
    **{family: ("train", "test") for family in TORCHVISION},
    "celeba": ("train", "valid", "test"),
    "metfaces": ("all",),
    "artbench": ("train", "test", "landscapes"),
}
_SMALL = {"mnist": idx, "fashion": idx, "cifar10": cifar, "cifar100": cifar}
_FILES = {"celeba": celeba, "metfaces": metfaces, "artbench": artbench}


def _present(root: Path, family: str, split: str) -> bool:
    return (
        _SMALL[family].present(root, family, split)
        if family in _SMALL
        else _FILES[family].present(root, split)
    )


def _load(roots: tuple[Path, ...], family: str, split: str) -> tuple | None:
    for root in roots:
        if _present(root, family, split):
            return (
                _SMALL[family].load(root, family, split)
                if family in _SMALL
                else _FILES[family].load(root, split)
            )
    return None


def _download(family: str, split: str) -> None:
    """Into ``data/raw`` through torchvision, which verifies checksums and shows progress."""
    import torchvision.datasets

    title = TITLES[family]
    places = " or ".join(str(root) for root in data_roots())
    print(f"{title} is not in {places}; downloading it to {RAW}")
    try:
        RAW.mkdir(parents=True, exist_ok=True)
        getattr(torchvision.datasets, TORCHVISION[family])(
            RAW, train=split == "train", download=True
        )
    except (OSError, RuntimeError) as error:
        # torchvision lists its mirrors one a line
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataMissing(
            f"{title} is not at hand and could not be downloaded ({reason}): set ABC_DATA to a folder that holds "
            f"{FOLDERS[family]}/, or put that folder into {RAW}, or try again with a network"
        ) from None


@lru_cache(maxsize=4)
def _load_split(
    family: str, split: str, roots: tuple, odd: str
) -> tuple[torch.Tensor | ImageFiles, torch.Tensor, str]:
    if family == "digits":
        return digits.load(split)
    part = "train" if split == "landscapes" else split
    found = _load(roots, family, part)
    if found is None and family in REMEDIES:
        raise DataMissing(
            f"{TITLES[family]} is not at hand: {REMEDIES[family]} in the folder that ABC_DATA names, or in {RAW}"
        )
    if found is None:
        _download(family, part)
        found = _load(roots, family, part)
    if split == "landscapes":
        images, labels, _ = found
        taken = landscapes.are_landscapes(landscapes.cosines(images))
        found = (
            images.select(taken),
            labels[taken],
            "ArtBench-10 train split, landscapes by OpenCLIP",
        )
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
    where = torch.randperm(
        len(images), generator=generator("subset", data.family, data.split, data.subset_seed)
    )
    if data.binarise:
        images = (images > 127).to(torch.uint8) * 255
        where = where[_first_of_each(images[where])]
    if data.size > len(where):
        raise BadValue(
            f"{origin} has {len(where)} images, fewer than the {data.size} that the recipe asks for"
        )
    owners = (
        images.owners if isinstance(images, ImageFiles) and images.owner == data.sources else None
    )
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
        raise BadValue(
            f"sources of {data.family} cannot be '{data.sources}'; choose image, class or group"
        )
    owned = len(torch.unique(sources))
    if owned != data.num_sources or int(sources.max()) != data.num_sources - 1:
        raise BadValue(
            f"the recipe names {data.num_sources} sources, but its {len(where)} images have {owned}"
        )
    chosen = (
        images.select(where).scaled(image_shape(data)[-1])
        if isinstance(images, ImageFiles)
        else images[where].float() / 255
    )
    return TrainingSet(chosen, labels, sources, where, origin)


def _first_of_each(images: torch.Tensor) -> torch.Tensor:
    """Positions of the first copy of every distinct image, ascending."""
    flat = np.packbits(images.flatten(1).numpy() > 0, axis=1)
    _, first = np.unique(flat, axis=0, return_index=True)
    return torch.from_numpy(np.sort(first))
