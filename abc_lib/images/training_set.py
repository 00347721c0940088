"""Images, labels and data sources of one family each (B.1).

A family is looked for first in the folder that ``$ABC_DATA`` names, then in
``data/raw``; what torchvision can download it then downloads there, checked. Its file in
``families`` says which folders it may lie in. The images of large sets stay in their files
until they are asked for (:class:`ImageFiles`); the environment variable ``ABC_ODD_IMAGES``
says what becomes of files that are not as they should be.
"""

import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch

from abc_lib.ground.errors import BadValue, DataCorrupt, DataMissing, NotAvailable, unknown
from abc_lib.ground.paths import RAW, data_roots
from abc_lib.ground.seeds import generator
from abc_lib.images.families import FAMILIES
from abc_lib.images.family import Family, Split
from abc_lib.images.files import ImageFiles, odd_images
from abc_lib.images.own.content import is_own, kept
from abc_lib.method.distance import distance
from abc_lib.method.recipe import Data, image_shape

_AT_ONCE = 1024
"""images of a source that a sample is held against side by side"""


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
    pictures: torch.Tensor | None = field(default=None, kw_only=True)
    """(K,) int64 where a picture has several sources and so stands here once for each: which
    picture a row is. It goes when any of its sources goes."""

    def __len__(self) -> int:
        return len(self.images)

    def of_sources(self, sources) -> "TrainingSet":
        """What a member of some sources trains on, in its order here: each image once."""
        within = torch.isin(self.sources, torch.as_tensor(sources, dtype=torch.int64))
        return self._only(self.whole(within)).once

    @property
    def once(self) -> "TrainingSet":
        """Everything, each image once."""
        if self.pictures is None:
            return self
        return dataclasses.replace(self._only(self.firsts), pictures=None)

    def without(self, source: int) -> "TrainingSet":
        """Everything but one source's images; the other sources keep their numbers."""
        return self._only(self.whole(self.sources != source))

    def whole(self, within: torch.Tensor) -> torch.Tensor:
        """Of rows ``within``, (K,) booleans, those of images all of whose sources are within."""
        if self.pictures is None:
            return within
        return ~torch.isin(self.pictures, self.pictures[~within])

    @property
    def firsts(self) -> torch.Tensor:
        """Whether a row is an image's first, (K,)."""
        if self.pictures is None:
            return torch.ones(len(self), dtype=torch.bool)
        return self.pictures.diff(prepend=torch.tensor([-1])) != 0

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
            pictures=None if self.pictures is None else self.pictures[keep],
        )

    @property
    def fingerprint(self) -> str:
        """A hash of the images in their order: of pixels, or of files' names and sizes."""
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
        if self.pictures is not None:
            digest.update(self.pictures.numpy().tobytes())
        return digest.hexdigest()


def owned_subset(
    owners: torch.Tensor, size: int, num_sources: int, owner: str, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Picks ``num_sources`` owners with ``size`` images in all.

    ``owners`` (K,) says whose each image is; returns positions (size,), ascending, and sources
    (size,). If everything is asked for, everything is taken. Otherwise owners are drawn at random
    among those with at least size // num_sources images. The paper says how many images its 512
    celebrities have, 30.006 on average, but not how they were chosen; this rule gives such
    numbers, as 30 is the most frequent number of images of theirs and few have more. If those
    drawn have too few images, some make room for the next in line with more; if they have too
    many, the last images of those with most are left out. Sources are numbered in the order of
    the owners' numbers. Raises :class:`BadValue` where it cannot be done.
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
    parts = [(number == k).nonzero().squeeze(1)[:many] for k, many in kept.items()]
    taken = torch.cat(parts).sort().values
    numbers = {k: s for s, k in enumerate(sorted(kept))}
    return taken, torch.tensor([numbers[int(k)] for k in number[taken]])


# --- splits ---

SPLITS = {family.name: family.splits for family in FAMILIES.values()}
"""the splits of each family"""
FOLDERS = {family.name: family.folder for family in FAMILIES.values() if family.folder}
"""what to put into a data folder for each family that is not built in"""


def load_split(family: str, split: str) -> Split:
    """All images of one split: uint8 (K, C, H, W), labels int64 (K,), and where they come from.

    The images of a family that is too large to hold are :class:`ImageFiles` instead.
    Raises :class:`DataMissing` when they are neither here nor to be had, and
    :class:`DataCorrupt` when a file is not what its name says.
    """
    splits = FAMILIES[family].splits
    if splits and split not in splits:
        raise unknown(f"split of {family}", split, splits)
    return _load_split(family, split, tuple(data_roots()), odd_images())


def available(family: str, split: str) -> bool:
    """Whether a split's images are on this machine, so that nothing would be downloaded."""
    return any(FAMILIES[family].present(root, split) for root in data_roots())


def how_to_get(family: str) -> str:
    """In a clause, what brings images to this machine that are not :func:`available`."""
    folder, remedy = FAMILIES[family].folder, FAMILIES[family].remedy
    if remedy:
        return f"{remedy} in the folder that ABC_DATA names"
    return (
        f"set ABC_DATA to a folder with {folder}/, put that into data/raw, "
        "or let torchvision download them"
    )


@lru_cache(maxsize=4)
def _load_split(name: str, split: str, roots: tuple, odd: str) -> Split:
    family = FAMILIES[name]
    if not any(family.present(root, split) for root in roots):
        if family.remedy:
            raise DataMissing(
                f"{family.title} is not at hand: {family.remedy} in the folder that ABC_DATA "
                f"names, or in {RAW}"
            )
        _download(family, split)
    root = next(root for root in roots if family.present(root, split))
    return family.read(root, split)


def _download(family: Family, split: str) -> None:
    """Into ``data/raw`` through torchvision, which verifies checksums and shows progress."""
    import torchvision.datasets

    places = " or ".join(str(root) for root in data_roots())
    print(f"{family.title} is not in {places}; downloading it to {RAW}")
    try:
        RAW.mkdir(parents=True, exist_ok=True)
        dataset = getattr(torchvision.datasets, family.torchvision)
        dataset(RAW, train=split == "train", download=True)
    except (OSError, RuntimeError) as error:
        # torchvision lists its mirrors one a line
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataMissing(
            f"{family.title} is not at hand and could not be downloaded ({reason}): set ABC_DATA "
            f"to a folder that holds {family.folder}/, or put that folder into {RAW}, or try "
            "again with a network"
        ) from None


# --- the images a recipe asks for ---


def training_set(data: Data) -> TrainingSet:
    """The images a recipe asks for, with their data sources.

    The subset is the first ``size`` images of a permutation of the split given by
    ``subset_seed``, so that smaller sets are nested in larger ones. Sources that are
    single images are numbered in that order; classes by label; groups are drawn at
    random with sizes that differ by one at most. Where sources are celebrities or artists,
    ``num_sources`` of them are drawn, and the subset is theirs (see :func:`owned_subset`).
    Raises :class:`BadValue` where the images do not have that size or that many sources.
    """
    if not data.num_sources:
        raise BadValue("num_sources is not said; the recipe names how many own its images")
    if is_own(data.family):
        return _own(data)
    images, labels, origin = load_split(data.family, data.split)
    seed = data.family, data.split, data.subset_seed
    where = torch.randperm(len(images), generator=generator("subset", *seed))
    if data.binarise:
        images = (images > 127).to(torch.uint8) * 255
        where = where[_first_of_each(images[where])]
    if data.size > len(where):
        raise BadValue(
            f"{origin} has {len(where)} images, fewer than the {data.size} that the recipe asks for"
        )
    in_files = isinstance(images, ImageFiles)
    if in_files and images.owner == data.sources:
        rng = generator("owners", *seed)
        taken, sources = owned_subset(
            images.owners[where], data.size, data.num_sources, images.owner, rng
        )
        where = where[taken]
    else:
        where = where[: data.size]
        sources = _sources(data, labels[where])
    owned = len(torch.unique(sources))
    if owned != data.num_sources or int(sources.max()) != data.num_sources - 1:
        raise BadValue(
            f"the recipe names {data.num_sources} sources, but its {len(where)} images have {owned}"
        )
    if in_files:
        chosen = images.select(where).scaled(image_shape(data)[-1])
    else:
        chosen = images[where].float() / 255
    return TrainingSet(chosen, labels[where], sources, where, origin)


def _own(data: Data) -> TrainingSet:
    """Own pictures, in the files' order: one that changes leaves the others where they are."""
    content = kept(data.split)
    rows, owners = content.rows
    pictures = rows if len(rows) > len(content.images) else None
    images = content.images[rows].float() / 255
    return TrainingSet(images, owners, owners, rows, content.origin, pictures=pictures)


def training_set_at_hand(data: Data) -> TrainingSet | None:
    """:func:`training_set` if it is on this machine and sound: welcome but not needed."""
    if not available(data.family, data.split):
        return None
    try:
        return training_set(data)
    except (DataMissing, DataCorrupt, NotAvailable) as error:
        print(f"training images are not shown: {error}")
        return None


def _sources(data: Data, labels: torch.Tensor) -> torch.Tensor:
    """Whose each image is, where nobody's name stands beside it."""
    if data.sources == "image":
        return torch.arange(len(labels))
    if data.sources in ("class", "owner"):
        return labels.clone()
    if data.sources == "group":
        return torch.arange(len(labels)) % data.num_sources
    raise BadValue(
        f"sources of {data.family} cannot be '{data.sources}'; choose image, class or group"
    )


def _first_of_each(images: torch.Tensor) -> torch.Tensor:
    """Positions of the first copy of every distinct image, ascending."""
    flat = np.packbits(images.flatten(1).numpy() > 0, axis=1)
    _, first = np.unique(flat, axis=0, return_index=True)
    return torch.from_numpy(np.sort(first))


# --- images that are shown beside samples ---


def attributed_image(images: TrainingSet, source: int, sample: torch.Tensor) -> int:
    """The position in ``images`` of a source's image that is nearest to a sample (figure 4)."""
    mine = torch.nonzero(images.sources == source).squeeze(1)
    if len(mine) == 0:
        raise BadValue(f"source {source} owns no image of this training set")
    # In parts, because a source may own more image files than memory holds.
    distances = [distance(images.images[part], sample) for part in mine.split(_AT_ONCE)]
    return int(mine[torch.cat(distances).argmin()])


def as_shown(bytes_: torch.Tensor) -> torch.Tensor:
    """Images in [0, 1] from an artefact's bytes, as they were read from files of bytes."""
    return bytes_.float() / 255


def shown_images(images: TrainingSet, sources: Iterable[int], samples: torch.Tensor) -> dict:
    """The training images that attribution points to, as tensors of an artefact; images as bytes,
    of which :func:`as_shown` makes images again.
    """
    shown = [
        attributed_image(images, int(source), sample)
        for source, sample in zip(sources, samples, strict=True)
    ]
    return {
        "images": (images.images[shown] * 255).round().byte(),
        "labels": images.labels[shown].clone(),
        "where": images.where[shown].clone(),
    }
