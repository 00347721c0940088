"""Carries the study to a machine without network, and its results back.

One archive of under 64 MiB goes there: the library, the paper's numbers, the small
classifiers and autoencoders, and the data sets. Results come back in parcels of under
16 MiB: plain tar files of whole artefacts, each checked against its manifest before it is
believed.
"""

import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from abc_lib.ground.errors import ArtefactError, BadValue, DataMissing
from abc_lib.ground.paths import ROOT, data_roots
from abc_lib.ground.store import Artefact, Store, _open
from abc_lib.images.training_set import FOLDERS

TRAVELS = 64 * 2**20
"""bytes that an archive may have"""
PARCEL = 16 * 2**20
"""bytes that a parcel may have"""
_CODE = (
    "abc_lib",
    "data/paper",
    "data/published/classifier",
    "data/published/autoencoder",
    "pyproject.toml",
    "constraints.txt",
    "LICENSE",
    "README.md",
)


class Parcels:
    """Tar files ``parcel-000.tar``, ... in a folder, filled one after another with artefacts as they are made."""

    def __init__(self, folder: str | os.PathLike, limit: int = PARCEL):
        self.folder, self.limit = Path(folder), limit
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def files(self) -> list[Path]:
        """The parcels so far, in order."""
        return sorted(self.folder.glob("parcel-[0-9][0-9][0-9].tar"))

    def add(self, artefact: Artefact) -> Path:
        """Puts an artefact into the last parcel, or into a new one if it is full; there already, it stays where it is.

        A parcel is written anew and renamed, so it is never half there. Raises
        :class:`BadValue` for an artefact that no parcel can hold.
        """
        artefact.verify()
        name = f"{artefact.path.parent.name}/{artefact.path.name}"
        held = {path: _artefacts_in(path) for path in self.files}
        for path, names in held.items():
            if name in names:
                return path
        files = {
            f"{name}/{each}": (artefact.path / each).read_bytes()
            for each in [*artefact.manifest["files"], "manifest.json"]
        }
        alone = _tar(files)
        if len(alone) > self.limit:
            raise BadValue(
                f"{artefact.path} takes {len(alone) / 2**20:.1f} MiB, more than the {self.limit / 2**20:.1f} MiB of a parcel; "
                "compute fewer samples at once"
            )
        last = self.files[-1] if held else None
        if last is not None:
            together = _tar(_contents(last) | files)
            if len(together) <= self.limit:
                return _put(last, together)
        return _put(self.folder / f"parcel-{len(held):03d}.tar", alone)


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _put(path: Path, data: bytes) -> Path:
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    return path


def _refused(path: Path, why: str) -> ArtefactError:
    return ArtefactError(f"{path} {why}; nothing of it was unpacked, fetch it again")


def _contents(path: Path) -> dict[str, bytes]:
    """The files of a parcel by name; only ``kind/artefact/file`` names of plain files, or :class:`ArtefactError`."""
    found = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                parts = info.name.split("/")
                if (
                    not info.isreg()
                    or len(parts) != 3
                    or any(
                        part in ("", ".", "..") or part.startswith(("/", "~")) or "\\" in part
                        for part in parts
                    )
                ):
                    raise _refused(path, f"holds '{info.name}', which is no file of an artefact")
                if info.size > PARCEL:
                    raise _refused(path, f"holds '{info.name}', which is larger than a parcel")
                data = tar.extractfile(info).read()
                if len(data) != info.size:
                    raise _refused(path, "is cut short")
                found[info.name] = data
    except (tarfile.TarError, EOFError) as error:
        raise _refused(path, f"is no parcel ({error})") from None
    return found


def _artefacts_in(path: Path) -> set[str]:
    return {name.rpartition("/")[0] for name in _contents(path)}


def unpack(files: Iterable[str | os.PathLike], store: Store | None = None) -> list[Artefact]:
    """Puts the artefacts of parcels into what is published, each verified first; those that are there stay as they are.

    Raises :class:`ArtefactError` for a parcel that is not whole, holds anything but artefacts, or
    an artefact that does not fit its manifest; nothing of that parcel is then unpacked.
    """
    store, made = store or Store(), []
    for path in map(Path, files):
        if path.stat().st_size > 2 * PARCEL:
            raise _refused(path, "is larger than a parcel")
        contents = _contents(path)
        with tempfile.TemporaryDirectory(prefix="abc-parcel-") as folder:
            for name, data in contents.items():
                target = Path(folder) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            found = []
            for name in sorted({name.rpartition("/")[0] for name in contents}):
                kind = name.partition("/")[0]
                try:
                    artefact = _open(Path(folder) / name, kind)
                    artefact.verify()
                except ArtefactError as error:
                    raise _refused(path, f"holds a broken artefact ({error})") from None
                found.append((artefact, kind))
            made += [store.copy(artefact, kind) for artefact, kind in found]
    return made


def write_archive(
    path: str | os.PathLike,
    families: Iterable[str] = (),
    wheels: Iterable[str | os.PathLike] = (),
    limit: int = TRAVELS,
) -> Path:
    """Writes a ``.tar.gz`` with all that the study needs on a machine without network; returns its path.

    It holds what git tracks of the library, the data sets of ``families`` from where they lie
    here, in ``data/raw``, and ``wheels`` of packages that the machine lacks. There: unpack it,
    ``pip install --no-index --find-links wheels diffusers`` if need be, and ``python -m abc_lib
    publish --hours 0.5 --parcels OUT``. Raises :class:`DataMissing` for a family whose images are
    not here, :class:`BadValue` for an archive over the limit, which is then not written.
    """
    path, families = Path(path), list(families)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *_CODE], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    files = {name: ROOT / name for name in listed.split("\0") if name}
    for family in families:
        if family == "digits":
            continue
        if family not in FOLDERS:
            raise BadValue(f"the images of {family} do not travel; choose {', '.join(FOLDERS)}")
        place = next(
            (root / FOLDERS[family] for root in data_roots() if (root / FOLDERS[family]).is_dir()),
            None,
        )
        if place is None:
            raise DataMissing(
                f"the images of {family} are not at hand: put {FOLDERS[family]}/ into the folder that ABC_DATA names"
            )
        files |= {
            f"data/raw/{FOLDERS[family]}/{each.relative_to(place).as_posix()}": each
            for each in sorted(place.rglob("*"))
            if each.is_file()
        }
    files |= {f"wheels/{Path(wheel).name}": Path(wheel) for wheel in wheels}
    temporary = path.with_name(path.name + ".tmp")
    try:
        with tarfile.open(temporary, "w:gz") as tar:
            for name, source in files.items():
                tar.add(source, f"abc/{name}", recursive=False)
        size = temporary.stat().st_size
        if size > limit:
            raise BadValue(
                f"the archive would take {size / 2**20:.1f} MiB, more than {limit / 2**20:.0f} MiB; let fewer data sets travel at once"
            )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
