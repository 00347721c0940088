"""A folder looked at: which pictures are taken, which are not and why, and whose each is."""

import csv
import io
import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from abc_lib.ground.errors import BadValue, DataMissing
from abc_lib.ground.tasks import tqdm
from abc_lib.images.own.content import Content
from abc_lib.images.own.duplicates import Signature, pairs_alike, signature_of
from abc_lib.images.own.pictures import NotTaken, is_grey, open_picture, squared

SIZES = (32, 64)
"""pixels a side that members are trained at"""
DUPLICATES = ("merge", "drop", "keep")
"""what becomes of pictures that look alike and lie in different sources"""
BY_FOLDER, BY_FILE = "folder", "file"


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that is taken: ``name`` below its folder, its true ``size``, and what is kept.

    It has several ``owners`` where several people made it.
    """

    name: str
    owners: tuple[str, ...]
    size: tuple[int, int]
    grey: bool
    squares: dict[int, np.ndarray]
    """uint8 (S, S, 3), by S"""
    signature: Signature


@dataclass(frozen=True, eq=False)
class Look:
    """What a folder holds: pictures by name, and why other files are not taken."""

    path: Path
    pictures: list[Picture]
    refused: list[tuple[str, str]]

    @property
    def people(self) -> list[str]:
        """The sources, in the order of their names."""
        return sorted({owner for picture in self.pictures for owner in picture.owners})

    @cached_property
    def pairs(self) -> list[tuple[int, int, float]]:
        """Pictures of different sources that look alike: see :func:`pairs_alike`."""
        if not self.pictures:
            return []
        signatures = [picture.signature for picture in self.pictures]
        known: dict[tuple[str, ...], int] = {}
        owners = [known.setdefault(each.owners, len(known)) for each in self.pictures]
        return pairs_alike(signatures, owners)


def look_at(path: Path | str, sources: str = BY_FOLDER, progress: bool = False) -> Look:
    """Looks at every file below a folder, hidden ones aside, each read once.

    ``sources`` is ``folder`` (the subfolder right below it owns a picture), ``file`` (each is its
    own source) or the path of a CSV file with columns ``file`` and ``source``. Raises
    :class:`DataMissing` where there is no such folder, and :class:`BadValue` for a CSV file that
    does not fit it.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataMissing(f"{path} is no folder; give the folder that holds the pictures")
    if sources in (BY_FOLDER, BY_FILE):
        table, stamp = None, ()
    else:
        table, stamp = Path(sources), (_stamp(Path(sources)),)
    names = tuple(_files(path))
    stamps = tuple(_stamp(path / name) for name in names)
    return _look(path, sources, table, names, (*stamps, *stamp), progress)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _files(path: Path) -> list[str]:
    """Names of all files below a folder, hidden ones aside, sorted.

    Folders that cannot be gone into, links to folders among them, count as files.
    """
    shut: list[str] = []
    names: list[str] = []
    for folder, folders, files in os.walk(
        path, onerror=lambda e, shut=shut: shut.append(e.filename)
    ):
        folders[:] = [name for name in folders if name[0] != "."]
        below = [os.path.join(folder, name) for name in folders]
        shut += [name for name in below if os.path.islink(name)]
        names += [os.path.join(folder, name) for name in files if name[0] != "."]
    return sorted(Path(name).relative_to(path).as_posix() for name in names + shut)


@lru_cache(maxsize=4)
def _look(path, sources, table, names, stamps, progress) -> Look:
    owners = _owners(names, sources) if table is None else _listed(table, names)
    pictures, refused = [], []
    bar = tqdm(names, desc=f"looking at {path.name}", unit="file", disable=not progress)
    for name in bar:
        try:
            image, size = open_picture(path / name)
            if name not in owners:
                raise NotTaken(
                    "lies in no subfolder, so it is nobody's"
                    if table is None
                    else f"is not named in {table.name}"
                )
        except NotTaken as reason:
            refused.append((name, str(reason)))
            continue
        squares = {size: squared(image, size) for size in SIZES}
        signature = signature_of(image)
        pictures.append(Picture(name, owners[name], size, is_grey(image), squares, signature))
    return Look(path, pictures, refused)


def _owners(names: tuple[str, ...], sources: str) -> dict[str, tuple[str, ...]]:
    if sources == BY_FILE:
        return {name: (name,) for name in names}
    return {name: (name.split("/")[0],) for name in names if "/" in name}


def _listed(table: Path, names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Whose each file is, by a CSV file: several sources on several lines, or between ``;``."""
    try:
        rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig")), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadValue(
            f"{table} cannot be read as a CSV file ({' '.join(str(error).split())}); save it as "
            "UTF-8 with the columns file and source"
        ) from None
    if not rows or not {"file", "source"} <= set(rows[0]):
        raise BadValue(f"{table} has no columns file and source; name them in its first line")
    owners: dict[str, set[str]] = {}
    for line, row in enumerate(rows, 2):
        name = (row["file"] or "").strip()
        several = {part.strip() for part in (row["source"] or "").split(";")} - {""}
        if not name or not several:
            raise BadValue(f"line {line} of {table} lacks a file or a source; complete it")
        if name not in names:
            raise BadValue(f"line {line} of {table} names {name}, which is not in the folder")
        owners.setdefault(name, set()).update(several)
    return {name: tuple(sorted(several)) for name, several in owners.items()}


def content_of(look: Look, size: int, colour: bool, duplicates: str) -> Content:
    """What members see of a folder: middle squares, ``size`` pixels a side.

    ``duplicates`` says what becomes of pictures of different sources that look alike: see
    :data:`DUPLICATES`. Raises :class:`BadValue` where fewer than two sources are left.
    """
    pictures, origin = look.pictures, "a folder of own pictures"
    owners = [picture.owners for picture in pictures]
    if duplicates == "merge":
        owners = _merged(owners, look.pairs)
    elif duplicates == "drop":
        gone = {k for i, j, _ in look.pairs for k in (i, j)}
        pictures, owners = (
            [each for k, each in enumerate(many) if k not in gone] for many in (pictures, owners)
        )
    elif look.pairs:
        origin += (
            "; some pictures lie in several sources, nearly or exactly, and were kept there: "
            "leaving one of those sources out does not take its picture away"
        )
    people = sorted({owner for several in owners for owner in several})
    if len(people) < 2:
        raise BadValue(
            f"{look.path} has pictures of {len(people)} source{'s' * (len(people) != 1)} to train "
            f"on{f', as duplicates = {duplicates!r} leaves them' if look.pairs else ''}; two are "
            "needed: give each its subfolder, or say sources = 'file'"
        )
    pixels = np.stack([picture.squares[size] for picture in pictures])
    if not colour:
        # Pillow's weights of grey (ITU-R 601)
        pixels = (pixels @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)[..., None]
    number = {name: k for k, name in enumerate(people)}
    return Content(
        torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
        tuple(tuple(number[owner] for owner in several) for several in owners),
        tuple(picture.name for picture in pictures),
        tuple(people),
        origin,
    )


def _merged(
    owners: list[tuple[str, ...]], pairs: list[tuple[int, int, float]]
) -> list[tuple[str, ...]]:
    """The owners, where those whose pictures look alike are one, named after all of them."""
    names = sorted({owner for several in owners for owner in several})
    number = {name: k for k, name in enumerate(names)}
    together = [[number[owner] for k in (i, j) for owner in owners[k]] for i, j, _ in pairs]
    links = np.array([(few[0], each) for few in together for each in few]).reshape(-1, 2)
    graph = coo_array((np.ones(len(links)), tuple(links.T)), shape=(len(names),) * 2)
    _, groups = connected_components(graph, directed=False)
    title = [" + ".join(np.array(names)[groups == group]) for group in groups]
    return [tuple(sorted({title[number[owner]] for owner in several})) for several in owners]
