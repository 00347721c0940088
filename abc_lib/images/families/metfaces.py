"""MetFaces: faces in works of art, whose data sources are the artists (B.1)."""

import json
from pathlib import Path

import torch

from abc_lib.ground.errors import DataCorrupt
from abc_lib.images.files import ImageFiles, numbered, odd_images, read_text

_FOLDER, _LIST = "metfaces", "metfaces.json"


def present(root: Path, split: str) -> bool:
    """Whether a data folder has the set."""
    return (root / _FOLDER).is_dir()


def load(root: Path, split: str) -> tuple[ImageFiles, torch.Tensor, str]:
    """All images, scaled from 1024x1024 to 256x256; labels and owners are the artists' numbers by name.

    An artist is what ``artist_display_name`` says, spaces at its ends aside: works without
    a name are of one source. The paper does not say what it made of them.
    """
    path = root / _FOLDER / _LIST
    try:
        entries = json.loads(read_text(path, "MetFaces"))
        images = {
            str(each["image_path"]): str(each["artist_display_name"] or "").strip()
            for each in entries
        }
    except (ValueError, KeyError, TypeError) as error:
        raise DataCorrupt(
            f"{path} is not the list of MetFaces ({type(error).__name__}: {error}); replace it with a fresh copy"
        ) from None
    if not images:
        raise DataCorrupt(f"{path} names no image; replace it with a fresh copy")
    names = sorted(images)
    owners = numbered(images[name] for name in names)
    files = ImageFiles(
        "MetFaces",
        root / _FOLDER,
        tuple(names),
        owners,
        "artist",
        (1024, 1024),
        1024,
        256,
        odd_images(),
    ).checked()
    return files, files.owners.clone(), "MetFaces"
