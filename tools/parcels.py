"""Carries the study to a machine without network, and its results back.

    python tools/parcels.py archive FILE [FAMILY ...]   # here: the library and data sets
    python tools/parcels.py publish FOLDER [NAME ...]   # there: works, and fills parcels
    python tools/parcels.py unpack FILE ...             # here again: each artefact checked

One archive of under 64 MiB goes there: the library, the paper's numbers, the small
classifiers and autoencoders, and the data sets. Results come back in parcels of under
16 MiB: plain tar files of whole artefacts, each checked against its manifest before it is
believed.
"""

import argparse
import io
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load

# An archive that was unpacked is run as it lies there.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from abc_lib.exchange.guards import decoding
from abc_lib.ground.errors import ArtefactError, BadValue, DataMissing
from abc_lib.ground.files import atomic_file, bounded_file
from abc_lib.ground.here import Here
from abc_lib.ground.paths import ROOT, data_roots
from abc_lib.ground.store import Artefact, Store, open_artefact
from abc_lib.images.training_set import FOLDERS
from abc_lib.method.recipe import SCALES
from abc_lib.study.command import answer, file_to_write, study_arguments, study_pieces
from abc_lib.study.run import run_study

TRAVELS = 64 * 2**20
"""bytes that an archive may have"""
PARCEL = 16 * 2**20
"""bytes that a parcel may have"""
_CODE = (
    "abc_lib",
    "tools/parcels.py",
    "data/paper",
    "data/published/classifier",
    "data/published/autoencoder",
    "pyproject.toml",
    "constraints.txt",
    "LICENSE",
    "README.md",
)


_MAY_LACK = ("looks", "yardstick")
"""kinds of artefacts with values that may be missing"""


class Parcels:
    """Tar files ``parcel-000.tar``, ... in a folder, filled one after another with artefacts."""

    def __init__(self, folder: Path | str, limit: int = PARCEL):
        self.folder, self.limit = Path(folder), limit
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadValue(f"{folder} cannot be a folder ({error.strerror})") from None

    @property
    def files(self) -> list[Path]:
        """The parcels so far, in order."""
        return sorted(self.folder.glob("parcel-[0-9][0-9][0-9].tar"))

    def add(self, artefact: Artefact) -> Path:
        """Puts an artefact into the last parcel, or into a new one; once there, it stays there.

        A parcel is written anew and renamed, so it is never half there. Raises
        :class:`BadValue` for an artefact that no parcel can hold.
        """
        artefact.verify()
        name = f"{artefact.path.parent.name}/{artefact.path.name}"
        held = {path: _contents(path) for path in self.files}
        for path, contents in held.items():
            if f"{name}/manifest.json" in contents:
                return path
        files = {
            f"{name}/{file}": (artefact.path / file).read_bytes()
            for file in [*artefact.manifest["files"], "manifest.json"]
        }
        path, data = self.folder / f"parcel-{len(held):03d}.tar", _tar(files)
        if len(data) > self.limit:
            raise BadValue(
                f"{artefact.path} takes {len(data) / 2**20:.1f} MiB, more than the "
                f"{self.limit / 2**20:.1f} MiB of a parcel; compute fewer samples at once"
            )
        if held:
            last, contents = list(held.items())[-1]
            together = _tar(contents | files)
            if len(together) <= self.limit:
                path, data = last, together
        with atomic_file(path) as file:
            file.write(data)
        return path


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _contents(path: Path) -> dict[str, bytes]:
    """The files of a parcel by name, all of them ``kind/artefact/file``."""
    contents, total = {}, 0
    with bounded_file(path, 2 * PARCEL) as file, decoding(path, "parcel", "fetch it again"):
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for info in tar:
                parts = info.name.split("/")
                hidden = [p for p in parts if p in ("", ".", "..") or "\\" in p or p[0] == "~"]
                if not info.isreg() or info.size > PARCEL or len(parts) != 3 or hidden:
                    raise ValueError(f"it holds {info.name!r}, which is no file of an artefact")
                if info.name in contents:
                    raise ValueError(f"it holds {info.name!r} twice")
                # a sparse file takes no room in the parcel, and all of its size in memory
                total += info.size
                if total > 2 * PARCEL:
                    raise ValueError("it holds more than a parcel may")
                data = tar.extractfile(info).read()
                if len(data) != info.size:
                    raise ValueError("cut short")
                contents[info.name] = data
    return contents


def unpack(files: Iterable[Path | str], store: Store | None = None) -> list[Artefact]:
    """Puts the artefacts of parcels into what is published, each verified first.

    Those that are there stay as they are. Raises :class:`ArtefactError` for a parcel that is
    not whole, holds anything but artefacts, or an artefact that does not fit its manifest, is of
    another recipe than it is called, or holds values that are none; nothing of that parcel is then
    unpacked.
    """
    store, made = store or Store(), []
    for path in map(Path, files):
        with tempfile.TemporaryDirectory(prefix="abc-parcel-") as folder:
            try:
                for name, data in _contents(path).items():
                    target = Path(folder) / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(data)
                artefacts = [
                    open_artefact(place, place.parent.name)
                    for place in sorted(Path(folder).glob("*/*"))
                ]
                for artefact in artefacts:
                    artefact.verify()
                    _require_sound(artefact)
            except ArtefactError as error:
                why = f"{path} is refused, nothing of it was unpacked: {error}"
                raise ArtefactError(why) from None
            made += [store.copy(artefact, artefact.path.parent.name) for artefact in artefacts]
    return made


def _require_sound(artefact: Artefact) -> None:
    """Refuses what a maker of artefacts would not write, though its checksums are right."""
    kind, label, spec = artefact.path.parent.name, artefact.path.name[:-17], artefact.spec
    whose = spec.get("recipe") or f"{spec.get('name') or spec.get('family')}-"
    if not f"{label}-".startswith(f"{whose}-" if "recipe" in spec else whose):
        raise ArtefactError(f"{artefact.path.name} is of {whose.rstrip('-')}, not of {label}")
    for name in artefact.manifest["files"]:
        data = artefact.read(name)
        with decoding(name, name.rpartition(".")[2] + " file"):
            if name.endswith(".parquet"):
                table = pd.read_parquet(io.BytesIO(data)).select_dtypes("number")
                values = {key: torch.tensor(table[key].to_numpy()) for key in table}
            else:
                values = load(data) if name.endswith(".safetensors") else {}
        for key, value in values.items():
            if kind not in _MAY_LACK and not torch.isfinite(value).all():
                raise ArtefactError(f"{name} of {artefact.path.name} has {key} that are no numbers")
            if "distance" in key and (value < 0).any():
                raise ArtefactError(f"{name} of {artefact.path.name} has negative {key}")


def _below(place: Path) -> list[Path]:
    """A file, or all files of a folder but what Python and editors leave there."""
    if place.is_file():
        return [place]
    return [
        path
        for path in sorted(place.rglob("*"))
        if path.is_file()
        and not any(p[0] == "." or p == "__pycache__" for p in path.relative_to(place).parts)
    ]


def _data_set(family: str) -> Path:
    if family not in FOLDERS:
        raise BadValue(f"the images of {family} do not travel; choose {', '.join(FOLDERS)}")
    for root in data_roots():
        if (root / FOLDERS[family]).is_dir():
            return root / FOLDERS[family]
    raise DataMissing(
        f"the images of {family} are not at hand: put {FOLDERS[family]}/ into the folder that "
        "ABC_DATA names"
    )


def write_archive(
    path: Path | str,
    families: Iterable[str] = (),
    wheels: Iterable[Path | str] = (),
    limit: int = TRAVELS,
) -> Path:
    """Writes a ``.tar.gz`` with all that the study needs without a network; returns its path.

    It holds the library as it lies here, the data sets of ``families`` from where they lie,
    in ``data/raw``, and ``wheels`` of packages that the machine lacks. There: unpack it, ``pip
    install --no-index --find-links wheels diffusers`` if need be, and ``python
    tools/parcels.py publish OUT --hours 0.5``. Raises :class:`DataMissing` for a family whose
    images are not here, :class:`BadValue` for a wheel that is no file and for an archive over
    the limit, which is then not written.
    """
    files = {p.relative_to(ROOT).as_posix(): p for name in _CODE for p in _below(ROOT / name)}
    for family in families:
        if family != "digits":
            place = _data_set(family)
            inside = f"data/raw/{FOLDERS[family]}"
            files |= {f"{inside}/{p.relative_to(place).as_posix()}": p for p in _below(place)}
    for wheel in map(Path, wheels):
        if not wheel.is_file():
            raise BadValue(f"{wheel} is not a file; give the wheels of packages")
        files[f"wheels/{wheel.name}"] = wheel
    with atomic_file(file_to_write(path)) as file:
        with tarfile.open(fileobj=file, mode="w:gz") as tar:
            for name, source in files.items():
                tar.add(source, f"abc/{name}", recursive=False)
        size = file.tell()
        if size > limit:
            raise BadValue(
                f"the archive would take {size / 2**20:.1f} MiB, more than "
                f"{limit / 2**20:.0f} MiB; let fewer data sets travel at once"
            )
    return Path(path)


def main() -> int:
    """The command line; returns the exit status, 2 for a slip."""
    parser = argparse.ArgumentParser(prog="python tools/parcels.py", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(required=True)
    archive = commands.add_parser("archive", help="write one file with all that the study needs")
    archive.add_argument("file")
    archive.add_argument("families", nargs="*", help="data sets that travel along, as mnist")
    archive.add_argument(
        "--wheels", nargs="*", default=[], metavar="FILE", help="packages that the machine lacks"
    )
    archive.set_defaults(run=_archive)
    publish = commands.add_parser("publish", help="work through the study, and fill parcels")
    publish.add_argument("folder", help="where the parcels go")
    publish.add_argument("--scale", choices=SCALES, default="laptop")
    study_arguments(publish)
    publish.set_defaults(run=_publish)
    unpacking = commands.add_parser("unpack", help="put what parcels hold into data/published")
    unpacking.add_argument("files", nargs="+")
    unpacking.set_defaults(run=_unpack)
    return answer(parser)


def _archive(arguments: argparse.Namespace) -> None:
    print(write_archive(arguments.file, arguments.families, arguments.wheels))


def _publish(arguments: argparse.Namespace) -> None:
    pieces, here = study_pieces(arguments), Here(device=arguments.device)
    run_study(pieces, arguments.hours, done=Parcels(arguments.folder).add, here=here)


def _unpack(arguments: argparse.Namespace) -> None:
    for artefact in unpack(arguments.files):
        print(artefact.path)


if __name__ == "__main__":
    sys.exit(main())
