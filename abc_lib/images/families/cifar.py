"""CIFAR-10 and CIFAR-100: torchvision's folders, or a zip of JPEG files."""

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from abc_lib.ground.errors import DataCorrupt
from abc_lib.images.families.names import TITLES, TORCHVISION

_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


def _jpeg_zip(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    from PIL import Image

    images, labels = [], []
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(
                name for name in archive.namelist() if name.lower().endswith((".jpg", ".jpeg"))
            )
            classes = sorted({name.split("/")[0] for name in names})
            for name in names:
                if name.count("/") != 1:
                    raise DataCorrupt(
                        f"{name} in {path} is not in the folder of its class; replace the file"
                    )
                content = archive.read(name)
                try:
                    image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
                except OSError:
                    raise DataCorrupt(
                        f"{name} in {path} is not a whole JPEG image; replace the file"
                    ) from None
                if image.shape != (32, 32, 3):
                    raise DataCorrupt(
                        f"{name} in {path} is {image.shape[1]}x{image.shape[0]}, not 32x32; replace the file"
                    )
                images.append(image)
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


def _zip(root: Path, family: str, split: str) -> Path:
    return root / f"{family}_jpeg" / f"{split}.zip"


def present(root: Path, family: str, split: str) -> bool:
    """Whether a split is in a data folder, in one of the two layouts."""
    return (root / _FOLDERS[family]).is_dir() or _zip(root, family, split).is_file()


def load(root: Path, family: str, split: str) -> tuple[torch.Tensor, torch.Tensor, str]:
    """A split from a data folder that has it."""
    import torchvision.datasets

    folder = root / _FOLDERS[family]
    if not folder.is_dir():
        origin = f"{TITLES[family]} {split} split, JPEG copy (re-encoded, not the original pixels)"
        return *_jpeg_zip(_zip(root, family, split)), origin
    try:
        found = getattr(torchvision.datasets, TORCHVISION[family])(root, train=split == "train")
    except RuntimeError as error:
        raise DataCorrupt(
            f"{folder} fails torchvision's checksums ({error}); replace it with a fresh copy"
        ) from None
    images = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(found.targets), f"{TITLES[family]} {split} split"
