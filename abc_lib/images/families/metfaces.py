"""MetFaces: faces in works of art, whose data sources are the artists (B.1)."""

import json
from pathlib import Path

import torch

from abc_lib.ground.errors import DataCorrupt
from abc_lib.images.family import Family
from abc_lib.images.files import ImageFiles, numbered, odd_images, read_text

_FOLDER = "metfaces"
_LIST = "metfaces.json"


def _present(root: Path, split: str) -> bool:
    return (root / _FOLDER).is_dir()


def _load(root: Path, split: str) -> tuple[ImageFiles, torch.Tensor, str]:
    """All images, scaled from 1024x1024 to 256x256; labels and owners are the artists by name.

    An artist is what ``artist_display_name`` says, spaces at its ends aside: works without
    a name are of one source. The paper does not say what it made of them.
    """
    path = root / _FOLDER / _LIST
    try:
        artists = {
            str(entry["image_path"]): str(entry["artist_display_name"] or "").strip()
            for entry in json.loads(read_text(path, "MetFaces"))
        }
    except (ValueError, KeyError, TypeError) as error:
        raise DataCorrupt(
            f"{path} is not the list of MetFaces ({type(error).__name__}: {error}); "
            "replace it with a fresh copy"
        ) from None
    if not artists:
        raise DataCorrupt(f"{path} names no image; replace it with a fresh copy")
    names = sorted(artists)
    files = ImageFiles(
        title="MetFaces",
        root=root / _FOLDER,
        names=tuple(names),
        owners=numbered(artists[name] for name in names),
        owner="artist",
        expected=(1024, 1024),
        crop=1024,
        size=256,
        odd=odd_images(),
    ).checked()
    return files, files.owners.clone(), "MetFaces"


FAMILY = Family(
    name="metfaces",
    title="MetFaces",
    shape=(3, 256, 256),
    splits=("all",),
    present=_present,
    read=_load,
    folder=_FOLDER,
    remedy=f"download {_LIST} and images/ from https://github.com/NVlabs/metfaces-dataset "
    f"and put them into {_FOLDER}/",
    flips=True,
    steps=100_000,
)
