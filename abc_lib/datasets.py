"""Images, labels and data sources of one family each (B.1).

A family is looked for first in the folder that ``$ABC_DATA`` names, then in
``data/raw``, then downloaded there through torchvision, which checks it. In the
local folders

- ``mnist/`` and ``fashion/`` hold the four IDX files, gzipped or not,
- ``cifar10_jpeg/`` holds ``train.zip`` and ``test.zip`` with one folder of JPEG files
  a class: a re-encoded copy, which is recorded as such wherever it is used,
- torchvision's own folders (``MNIST/raw``, ``cifar-10-batches-py``, ...) are understood too.

Scikit-learn's digits are built in.
"""

import gzip
import hashlib
import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from .errors import BadValue, DataCorrupt, DataMissing, positive_int, unknown
from .paths import RAW, data_roots
from .recipes import Data
from .seeds import generator

# MD5 of the unzipped IDX files. A wrong file gives wrong science silently, so it is refused.
_IDX_MD5 = {
    ("mnist", "t10k-images"): "2646ac647ad5339dbf082846283269ea",
    ("mnist", "t10k-labels"): "27ae3e4e09519cfbb04c329615203637",
    ("mnist", "train-images"): "6bbc9ace898e44ae57da46a324031adb",
    ("mnist", "train-labels"): "a25bea736e30d166cdddb491f175f624",
    ("fashion", "t10k-images"): "8181f5470baa50b63fa0f6fddb340f0a",
    ("fashion", "t10k-labels"): "15d484375f8d13e6eb1aabb0c3f46965",
    ("fashion", "train-images"): "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    ("fashion", "train-labels"): "9018921c3c673c538a1fc5bad174d6f9",
}
_TITLES = {"digits": "digits", "mnist": "MNIST", "fashion": "Fashion-MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
_TORCHVISION = {"mnist": "MNIST", "fashion": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
_CIFAR_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
FOLDERS = {"mnist": "mnist", "fashion": "fashion", "cifar10": "cifar10_jpeg", "cifar100": "cifar-100-python"}
"""what to put into a data folder for each family that is not built in"""
SHAPES = {"digits": (1, 8, 8), "mnist": (1, 32, 32), "fashion": (1, 32, 32), "cifar10": (3, 32, 32), "cifar100": (3, 32, 32)}
"""C, H, W of an image of each family, as the networks see it"""


@dataclass(frozen=True)
class TrainingSet:
    """The images of an ensemble and who owns them.

    ``images`` (K, C, H, W) float32 in [0, 1]; ``labels`` (K,) int64; ``sources`` (K,)
    int64 in 0..N-1; ``where`` (K,) int64, each image's index in its split; ``origin``
    says in words which copy of the data this is.
    """

    images: torch.Tensor
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
        return TrainingSet(self.images[keep], self.labels[keep], self.sources[keep], self.where[keep], self.origin)

    @property
    def checksum(self) -> str:
        """SHA-256 of pixels and sources: two sets with the same one train the same members."""
        digest = hashlib.sha256(self.images.numpy().tobytes())
        digest.update(self.sources.numpy().tobytes())
        return digest.hexdigest()


def _idx(path: Path, family: str, part: str) -> np.ndarray:
    """One IDX file of unsigned bytes, checked."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataCorrupt(f"{path} cannot be read ({error}); replace it with a fresh copy") from None
    if hashlib.md5(raw).hexdigest() != _IDX_MD5[family, part]:
        raise DataCorrupt(f"{path} is not the {_TITLES[family]} file {part} (its MD5 differs); replace it with a fresh copy")
    dims = struct.unpack(f">{raw[3]}I", raw[4 : 4 + 4 * raw[3]])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(dims)


def _find_idx(root: Path, family: str, part: str) -> Path | None:
    rank = 3 if part.endswith("images") else 1
    for folder in (root / family, root / _TORCHVISION[family] / "raw"):
        for name in (f"{part}-idx{rank}-ubyte.gz", f"{part}-idx{rank}-ubyte"):
            if (folder / name).is_file():
                return folder / name
    return None


def _mnist_like(family: str, split: str) -> tuple[torch.Tensor, torch.Tensor, str]:
    prefix = {"train": "train", "test": "t10k"}[split]

    def load():
        for root in data_roots():
            paths = [_find_idx(root, family, f"{prefix}-{kind}") for kind in ("images", "labels")]
            if all(paths):
                return [_idx(path, family, f"{prefix}-{kind}") for path, kind in zip(paths, ("images", "labels"))]
        return None

    arrays = load()
    if arrays is None:
        _download(family, split)
        arrays = load()
    images, labels = arrays
    # Padded by two black pixels on every side (B.1).
    padded = F.pad(torch.from_numpy(images.copy())[:, None], (2, 2, 2, 2))
    return padded, torch.from_numpy(labels.copy()).long(), f"{_TITLES[family]} {split} split"


def _jpeg_zip(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    from PIL import Image

    images, labels = [], []
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.lower().endswith((".jpg", ".jpeg")))
            classes = sorted({name.split("/")[0] for name in names})
            for name in names:
                if name.count("/") != 1:
                    raise DataCorrupt(f"{name} in {path} is not in the folder of its class; replace the file")
                content = archive.read(name)
                try:
                    image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
                except OSError:
                    raise DataCorrupt(f"{name} in {path} is not a whole JPEG image; replace the file") from None
                if image.shape != (32, 32, 3):
                    raise DataCorrupt(f"{name} in {path} is {image.shape[1]}x{image.shape[0]}, not 32x32; replace the file")
                images.append(image)
                labels.append(classes.index(name.split("/")[0]))
    except (OSError, EOFError, zlib.error, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise DataCorrupt(f"{path} cannot be read ({error}); replace it with a fresh copy") from None
    if not images:
        raise DataCorrupt(f"{path} holds no JPEG files; replace it with a fresh copy")
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def _cifar(family: str, split: str) -> tuple[torch.Tensor, torch.Tensor, str]:
    import torchvision.datasets

    loader = getattr(torchvision.datasets, _TORCHVISION[family])
    folder = _CIFAR_FOLDERS[family]

    def load():
        for root in data_roots():
            if (root / folder).is_dir():
                try:
                    found = loader(root, train=split == "train")
                except RuntimeError as error:
                    raise DataCorrupt(f"{root / folder} fails torchvision's checksums ({error}); replace it with a fresh copy") from None
                images = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
                return images, torch.tensor(found.targets), f"{_TITLES[family]} {split} split"
            jpeg = root / f"{family}_jpeg" / f"{split}.zip"
            if jpeg.is_file():
                return *_jpeg_zip(jpeg), f"{_TITLES[family]} {split} split, JPEG copy (re-encoded, not the original pixels)"
        return None

    found = load()
    if found is None:
        _download(family, split)
        found = load()
    return found


def _download(family: str, split: str) -> None:
    """Into ``data/raw`` through torchvision, which verifies checksums and shows progress."""
    import torchvision.datasets

    title = _TITLES[family]
    places = " or ".join(str(root) for root in data_roots())
    print(f"{title} is not in {places}; downloading it to {RAW}")
    try:
        RAW.mkdir(parents=True, exist_ok=True)
        getattr(torchvision.datasets, _TORCHVISION[family])(RAW, train=split == "train", download=True)
    except (OSError, RuntimeError) as error:
        # torchvision lists its mirrors one a line
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataMissing(
            f"{title} is not at hand and could not be downloaded ({reason}): set ABC_DATA to a folder that holds "
            f"{FOLDERS[family]}/, or put that folder into {RAW}, or try again with a network"
        ) from None


def _digits(split: str) -> tuple[torch.Tensor, torch.Tensor, str]:
    from sklearn.datasets import load_digits

    found = load_digits()
    # 1,024 images are for ensembles; the other 773 are never seen by one, so that whatever
    # has to be trained on something else (a classifier, say) can use them.
    order = torch.randperm(len(found.images), generator=generator("digits split"))
    chosen = {"ensemble": order[:1024], "held out": order[1024:]}[split]
    # Grey levels are 0..16; 255 / 16 keeps white at exactly 255.
    images = torch.from_numpy((found.images * 255 / 16).round().astype(np.uint8))[:, None]
    return images[chosen], torch.from_numpy(found.target).long()[chosen], f"scikit-learn digits, {split} half"


_LOADERS = {"mnist": _mnist_like, "fashion": _mnist_like, "cifar10": _cifar, "cifar100": _cifar}
SPLITS = {"digits": ("ensemble", "held out"), **{family: ("train", "test") for family in _LOADERS}}


@lru_cache(maxsize=4)
def _load_split(family: str, split: str, roots: tuple) -> tuple[torch.Tensor, torch.Tensor, str]:
    if family == "digits":
        return _digits(split)
    return _LOADERS[family](family, split)


def load_split(family: str, split: str) -> tuple[torch.Tensor, torch.Tensor, str]:
    """All images of one split: uint8 (K, C, H, W), labels int64 (K,), and where they come from.

    Raises :class:`DataMissing` when they are neither here nor to be had, and
    :class:`DataCorrupt` when a file is not what its name says.
    """
    if family not in SPLITS:
        raise unknown("data family", family, SPLITS)
    if split not in SPLITS[family]:
        raise unknown(f"split of {family}", split, SPLITS[family])
    return _load_split(family, split, tuple(data_roots()))


def available(family: str, split: str) -> bool:
    """Whether a split's images are on this machine, so that nothing would be downloaded."""
    if family == "digits":
        return True
    for root in data_roots():
        if family in ("mnist", "fashion"):
            prefix = {"train": "train", "test": "t10k"}[split]
            found = all(_find_idx(root, family, f"{prefix}-{kind}") for kind in ("images", "labels"))
        else:
            found = (root / _CIFAR_FOLDERS[family]).is_dir() or (root / f"{family}_jpeg" / f"{split}.zip").is_file()
        if found:
            return True
    return False


def training_set(data: Data) -> TrainingSet:
    """The images a recipe asks for, with their data sources.

    The subset is the first ``size`` images of a permutation of the split given by
    ``subset_seed``, so that smaller sets are nested in larger ones. Sources that are
    single images are numbered in that order; classes by label; groups are drawn at
    random with sizes that differ by one at most.
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
    where = where[: data.size]
    images, labels = images[where], labels[where]
    if data.sources == "image":
        sources = torch.arange(len(images))
    elif data.sources == "class":
        sources = labels.clone()
    elif data.sources == "group":
        sources = torch.arange(len(images)) % data.num_sources
    else:
        raise BadValue(f"sources of {data.family} cannot be '{data.sources}'; choose image, class or group")
    owned = len(torch.unique(sources))
    if owned != data.num_sources or int(sources.max()) != data.num_sources - 1:
        raise BadValue(f"the recipe names {data.num_sources} sources, but its {len(images)} images have {owned}")
    return TrainingSet(images.float() / 255, labels, sources, where, origin)


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
