"""Images that stay in their files until they are asked for."""

import dataclasses
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from abc_lib.ground.errors import DataCorrupt, unknown

ODD = ("refuse", "convert", "skip")
"""what ``ABC_ODD_IMAGES`` may say; see :func:`odd_images`"""


def odd_images() -> str:
    """What to do with image files that are not as their data set says: ``$ABC_ODD_IMAGES``.

    ``refuse``, the default, raises :class:`DataCorrupt` with the name of the first; ``convert``
    takes grey, transparent and other colour spaces as RGB, and refuses the rest; ``skip`` looks at
    every file first, leaves out those that are missing, unreadable, of another size or not RGB, and
    says so in a line.
    """
    odd = os.environ.get("ABC_ODD_IMAGES") or "refuse"
    if odd not in ODD:
        raise unknown("value of ABC_ODD_IMAGES", odd, ODD)
    return odd


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files of one size that read like a float32 tensor (K, 3, H, W) with values in [0, 1].

    Indexing reads: ``files[3]`` one image, ``files[2:5]``, a list or a tensor of positions
    or of booleans several. Nothing is kept, so a set of any size can be gone through.
    ``owners`` (K,) int64 says whose each image is, by number in the data set, and ``owner``
    what they are called. ``expected`` are the sides (H, W) that a file must have; of that
    the middle ``crop`` x ``crop`` pixels are taken, then scaled to ``size`` x ``size`` (bilinear,
    with Pillow's antialiasing when that makes them smaller).
    """

    title: str
    root: Path
    names: tuple[str, ...]
    owners: torch.Tensor
    owner: str
    expected: tuple[int, int]
    crop: int
    size: int
    odd: str = "refuse"

    def __len__(self) -> int:
        return len(self.names)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """K, 3, H, W"""
        return len(self), 3, self.size, self.size

    def select(self, which) -> "ImageFiles":
        """Some of these files, by position or by booleans, still unread."""
        which = self._positions(which)
        return dataclasses.replace(
            self, names=tuple(self.names[k] for k in which.tolist()), owners=self.owners[which]
        )

    def scaled(self, size: int) -> "ImageFiles":
        """The same files, scaled to another size in the end."""
        return dataclasses.replace(self, size=size)

    def _positions(self, which) -> torch.Tensor:
        if not isinstance(which, (slice, int)):
            which = torch.as_tensor(which)
            which = which if which.dtype == torch.bool else which.long()
        return torch.arange(len(self))[which].reshape(-1)

    def __getitem__(self, which) -> torch.Tensor:
        images = self.bytes(which).float() / 255
        return images[0] if isinstance(which, int) else images

    def bytes(self, which) -> torch.Tensor:
        """As indexing, but uint8 and always four axes: a quarter of the memory."""
        which = self._positions(which).tolist()
        pixels = torch.empty(len(which), *self.shape[1:], dtype=torch.uint8)
        for row, k in enumerate(which):
            pixels[row] = torch.from_numpy(self._read(self.names[k])).permute(2, 0, 1)
        return pixels

    def _read(self, name: str) -> np.ndarray:
        from PIL import Image

        path = self.root / name
        try:
            with Image.open(path) as image:
                image.load()
        except FileNotFoundError:
            raise self._refused(path, "is missing", "unpack the data set again") from None
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise self._refused(
                path, f"cannot be read ({reason})", "replace it with a fresh copy"
            ) from None
        height, width = self.expected
        if image.size != (width, height):
            raise self._refused(
                path,
                f"is {image.size[0]}x{image.size[1]}, not {width}x{height}",
                "replace it with a fresh copy",
            )
        if image.mode != "RGB":
            if self.odd != "convert":
                raise self._refused(
                    path,
                    f"is of mode {image.mode}, not RGB",
                    "set ABC_ODD_IMAGES=convert to take it as RGB",
                )
            image = image.convert("RGB")
        left, top = round((width - self.crop) / 2), round((height - self.crop) / 2)
        image = image.crop((left, top, left + self.crop, top + self.crop))
        if self.size != self.crop:
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return np.array(image)

    def _refused(self, path: Path, why: str, remedy: str) -> DataCorrupt:
        return DataCorrupt(
            f"{path} of {self.title} {why}; {remedy}, or set ABC_ODD_IMAGES=skip to do without "
            "such files"
        )

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the files' names and sizes, in order, and of how they are prepared: cheap."""
        prepared = self.title, self.expected, self.crop, self.size, self.odd == "convert"
        digest = hashlib.sha256(repr(prepared).encode())
        for name in self.names:
            try:
                digest.update(f"{name}\x1f{(self.root / name).stat().st_size}\x1e".encode())
            except OSError:
                raise self._refused(
                    self.root / name, "is missing", "unpack the data set again"
                ) from None
        return digest.hexdigest()

    def checked(self) -> "ImageFiles":
        """These files if every one is there; with ``skip`` the usable, after a look at each."""
        folders: dict[Path, set[str]] = {}
        missing = [k for k, name in enumerate(self.names) if not self._is_there(name, folders)]
        if self.odd != "skip":
            if missing:
                raise DataCorrupt(
                    f"{self.root} lacks {len(missing):,} of the {len(self):,} images of "
                    f"{self.title}, the first is {self.names[missing[0]]}; unpack the data set "
                    "again, or set ABC_ODD_IMAGES=skip to do without such files"
                )
            return self
        left_out = {self.names[k]: "is missing" for k in missing} | self._unusable(set(missing))
        if not left_out:
            return self
        name, why = next(iter(left_out.items()))
        print(
            f"{self.title}: {len(left_out):,} of {len(self):,} images are left out, as "
            f"ABC_ODD_IMAGES=skip asks; the first: {name} {why}"
        )
        return self.select([k for k, name in enumerate(self.names) if name not in left_out])

    def _is_there(self, name: str, folders: dict[Path, set[str]]) -> bool:
        # One listing a folder is faster than a question a file.
        folder, _, base = name.rpartition("/")
        path = self.root / folder
        if path not in folders:
            folders[path] = set(os.listdir(path)) if path.is_dir() else set()
        return base in folders[path]

    def _unusable(self, missing: set[int]) -> dict[str, str]:
        from abc_lib.ground.tasks import tqdm

        title = f"looking at {self.title}"
        unusable = {}
        for k, name in enumerate(tqdm(self.names, desc=title, unit="image", mininterval=1.0)):
            if k not in missing:
                try:
                    self._read(name)
                except DataCorrupt as error:
                    unusable[name] = str(error).split(f"of {self.title} ", 1)[1].split(";")[0]
        return unusable


def numbered(keys: Iterable[str]) -> torch.Tensor:
    """Each key's number in the sorted list of all of them, int64."""
    keys = list(keys)
    numbers = {key: k for k, key in enumerate(sorted(set(keys)))}
    return torch.tensor([numbers[key] for key in keys], dtype=torch.int64)


def read_text(path: Path, title: str) -> str:
    """A text file of a data set; :class:`DataCorrupt` where it is missing or not text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataCorrupt(
            f"{path} is missing, so {title} is not whole; put the file there"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataCorrupt(
            f"{path} cannot be read ({error}); replace it with a fresh copy"
        ) from None
