"""ArtBench-10: paintings of ten styles, whose data sources are the artists (B.1).

Two layouts of the official 256x256 images are understood, in ``artbench/`` or right in
the data folder:

- ``artbench-10-imagefolder-split/{train,test}/<style>/<artist>_<title>.jpg``,
- ``artbench-10-imagefolder/<style>/<artist>_<title>.jpg`` with ``ArtBench-10.csv``, which
  says which split an image is in.

Where ``ArtBench-10.csv`` is there, it names the artists; otherwise files' names do.
"""

import csv
import io
from pathlib import Path

import torch

from abc_lib.ground.errors import DataCorrupt
from abc_lib.images.files import ImageFiles, numbered, odd_images, read_text

_SPLIT, _WHOLE, _LIST = (
    "artbench-10-imagefolder-split",
    "artbench-10-imagefolder",
    "ArtBench-10.csv",
)


def _folder(root: Path) -> Path | None:
    for folder in (root / "artbench", root):
        if (folder / _SPLIT).is_dir() or (folder / _WHOLE).is_dir():
            return folder
    return None


def present(root: Path, split: str) -> bool:
    """Whether a data folder has the set."""
    return _folder(root) is not None


def _listed(path: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """Style and name of each image in the csv file, with its artist and its split."""
    rows = list(csv.DictReader(io.StringIO(read_text(path, "ArtBench-10"))))
    if not rows or not {"name", "artist", "label", "split"} <= set(rows[0]):
        raise DataCorrupt(
            f"{path} has no columns name, artist, label and split; replace it with a fresh copy"
        )
    return {(row["label"], row["name"]): (row["artist"], row["split"]) for row in rows}


def _artist(name: str, where: Path) -> str:
    artist, found, _ = name.partition("_")
    if not (artist and found):
        raise DataCorrupt(
            f"{where / name} does not begin with its artist and '_'; put {_LIST} beside the images, or restore its name"
        )
    return artist


def load(root: Path, split: str) -> tuple[ImageFiles, torch.Tensor, str]:
    """A split: 256x256 images; labels are the styles in alphabetical order, owners the artists by name."""
    folder = _folder(root)
    table = next(
        (
            path
            for path in (folder / _LIST, folder / _SPLIT / _LIST, folder / _WHOLE / _LIST)
            if path.is_file()
        ),
        None,
    )
    listed = _listed(table) if table else {}
    images = folder / _SPLIT / split if (folder / _SPLIT).is_dir() else folder / _WHOLE
    if images.name == _WHOLE:
        if table is None:
            raise DataCorrupt(
                f"{folder / _LIST} is missing, and {images} does not say which split an image is in; put the file there"
            )
        keys = [key for key, (_, part) in listed.items() if part == split]
    else:
        keys = [(path.parent.name, path.name) for path in images.glob("*/*.jpg")]
    keys.sort()
    if not keys:
        raise DataCorrupt(
            f"{images} holds no images of the {split} split; unpack ArtBench-10 again"
        )
    artists = [
        listed[key][0] if key in listed else _artist(key[1], images / key[0]) for key in keys
    ]
    names = tuple(f"{style}/{name}" for style, name in keys)
    files = ImageFiles(
        "ArtBench-10",
        images,
        names,
        numbered(artists),
        "artist",
        (256, 256),
        256,
        256,
        odd_images(),
    ).checked()
    styles = dict(zip(names, numbered(style for style, _ in keys).tolist()))
    return files, torch.tensor([styles[name] for name in files.names]), f"ArtBench-10 {split} split"
