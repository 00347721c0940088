"""Formats that several families come in: IDX files, and CIFAR's folders or zips of JPEG files."""

import gzip
import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from abc_lib.ground.errors import DataCorrupt


@dataclass(frozen=True)
class IdxFiles:
    """Images and labels in four IDX files, gzipped or not, in one of some folders.

    ``md5`` has the digest of each file when it is unzipped, by the beginning of its name: a wrong
    file gives wrong science silently, so it is refused.
    """

    title: str
    folders: tuple[str, ...]
    md5: Mapping[str, str]

    def present(self, root: Path, split: str) -> bool:
        """Whether images and labels of a split are in a data folder."""
        return all(self._path(root, part) is not None for part in self._parts(split))

    def load(self, root: Path, split: str) -> tuple[torch.Tensor, torch.Tensor, str]:
        """A split, padded by two black pixels on every side (B.1)."""
        images, labels = (self._array(root, part) for part in self._parts(split))
        padded = F.pad(torch.from_numpy(images.copy())[:, None], (2, 2, 2, 2))
        return padded, torch.from_numpy(labels.copy()).long(), f"{self.title} {split} split"

    @staticmethod
    def _parts(split: str) -> tuple[str, str]:
        prefix = {"train": "train", "test": "t10k"}[split]
        return f"{prefix}-images", f"{prefix}-labels"

    def _path(self, root: Path, part: str) -> Path | None:
        rank = 3 if part.endswith("images") else 1
        for folder in self.folders:
            for name in (f"{part}-idx{rank}-ubyte.gz", f"{part}-idx{rank}-ubyte"):
                if (root / folder / name).is_file():
                    return root / folder / name
        return None

    def _array(self, root: Path, part: str) -> np.ndarray:
        """One file of unsigned bytes, checked."""
        path = self._path(root, part)
        try:
            raw = path.read_bytes()
            raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
        except (OSError, EOFError, zlib.error) as error:
            raise DataCorrupt(
                f"{path} cannot be read ({error}); replace it with a fresh copy"
            ) from None
        if hashlib.md5(raw).hexdigest() != self.md5[part]:
            raise DataCorrupt(
                f"{path} is not the {self.title} file {part} (its MD5 differs); "
                "replace it with a fresh copy"
            )
        shape = struct.unpack(f">{raw[3]}I", raw[4 : 4 + 4 * raw[3]])
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


@dataclass(frozen=True)
class CifarFiles:
    """32x32 images in torchvision's folder, or in a zip of JPEG files, one folder a class.

    ``dataset`` is torchvision's class. The zips, ``train.zip`` and ``test.zip`` in ``zips``, are
    re-encoded copies, which is said wherever they are used.
    """

    title: str
    dataset: str
    folder: str
    zips: str

    def present(self, root: Path, split: str) -> bool:
        """Whether a split is in a data folder, in one of the two layouts."""
        return (root / self.folder).is_dir() or (root / self.zips / f"{split}.zip").is_file()

    def load(self, root: Path, split: str) -> tuple[torch.Tensor, torch.Tensor, str]:
        """A split from a data folder that has it."""
        folder = root / self.folder
        if not folder.is_dir():
            images, labels = _read_jpegs(root / self.zips / f"{split}.zip")
            note = "JPEG copy (re-encoded, not the original pixels)"
            return images, labels, f"{self.title} {split} split, {note}"
        import torchvision.datasets

        try:
            dataset = getattr(torchvision.datasets, self.dataset)(root, train=split == "train")
        except RuntimeError as error:
            raise DataCorrupt(
                f"{folder} fails torchvision's checksums ({error}); replace it with a fresh copy"
            ) from None
        images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
        return images, torch.tensor(dataset.targets), f"{self.title} {split} split"


def _read_jpegs(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = [], []
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(n for n in archive.namelist() if n.lower().endswith((".jpg", ".jpeg")))
            classes = sorted({name.split("/")[0] for name in names})
            for name in names:
                if name.count("/") != 1:
                    raise DataCorrupt(
                        f"{name} in {path} is not in the folder of its class; replace the file"
                    )
                images.append(_read_jpeg(archive.read(name), f"{name} in {path}"))
                labels.append(classes.index(name.split("/")[0]))
    except (
        OSError,
        EOFError,
        zlib.error,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
    ) as error:
        raise DataCorrupt(
            f"{path} cannot be read ({error}); replace it with a fresh copy"
        ) from None
    if not images:
        raise DataCorrupt(f"{path} holds no JPEG files; replace it with a fresh copy")
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def _read_jpeg(content: bytes, where: str) -> np.ndarray:
    from PIL import Image

    try:
        image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    except OSError:
        raise DataCorrupt(f"{where} is not a whole JPEG image; replace the file") from None
    if image.shape != (32, 32, 3):
        raise DataCorrupt(
            f"{where} is {image.shape[1]}x{image.shape[0]}, not 32x32; replace the file"
        )
    return image
