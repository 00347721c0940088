"""Artefacts and pieces where machines without a common folder see them: any fsspec address.

Under the address lies what lies in a cache. An artefact's files go under the hash of its manifest
first, and the manifest, which names them with their checksums, goes last: whoever finds one finds
all of it. It is created, never replaced, so of two machines that made the same artefact the second
takes the first one's.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from abc_lib.ground.errors import AbcError, ArtefactError, BadValue, NotAvailable
from abc_lib.ground.store.artefacts import manifest_of, sha256_of, write_bytes

MANIFEST = "manifest.json"


@lru_cache(maxsize=8)
def _opened(address: str) -> tuple[Any, str]:
    """The file system behind an address, tried out once a process, and the path on it."""
    import fsspec

    try:
        # Others write, too: a listing that was kept is an old one.
        with _told(address):
            files, root = fsspec.core.url_to_fs(address, use_listings_cache=False)
    except ImportError as error:
        raise NotAvailable(f"{address} needs a package that is missing: {error}") from None
    except (ValueError, TypeError) as error:
        raise BadValue(
            f"{address} is no address that fsspec knows ({error}); give one such as "
            "s3://bucket/folder"
        ) from None
    root = root.rstrip("/")
    with _told(address):
        _try_out(files, root, address)
    return files, root


@contextlib.contextmanager
def _told(address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, TimeoutError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise AbcError(
            f"the store at {address} does not answer as it should ({first[:160]}); finished work "
            "is kept: see to it and run again"
        ) from None


def _try_out(files: Any, root: str, address: str) -> None:
    """Raises :class:`NotAvailable` for a file system that does not offer what is counted on."""

    def refuse(what: str) -> NotAvailable:
        return NotAvailable(f"{address} cannot be the store: it does not {what}; choose another")

    path = f"{root}/probe-{secrets.token_hex(8)}/one"
    files.makedirs(files._parent(path), exist_ok=True)
    try:
        files.pipe_file(path, b"first", mode="create")
        if files.cat_file(path) != b"first":
            raise refuse("give back what was written")
        try:
            files.pipe_file(path, b"second", mode="create")
        except FileExistsError:
            pass
        if files.cat_file(path) != b"first":
            raise refuse("refuse to create what is there already")
        if [each.rsplit("/", 1)[-1] for each in files.ls(files._parent(path), detail=False)] != [
            "one"
        ]:
            raise refuse("list what was written")
    except (NotImplementedError, TypeError):
        raise refuse("write, create and list") from None
    finally:
        with contextlib.suppress(FileNotFoundError, NotImplementedError):
            files.rm(files._parent(path), recursive=True)


def _link(path: str, data: bytes) -> None:
    """Creates a file of this machine at once whole; fsspec looks first, and then writes."""
    temporary = Path(f"{path}.tmp-{secrets.token_hex(8)}")
    try:
        write_bytes(temporary, data)
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class Remote:
    """A place that all machines see, by its address: ``s3://bucket/folder``, ``gs://``, ...

    Names are paths below it, with slashes. The first use tries it out, and raises
    :class:`BadValue` for an address that is none and :class:`NotAvailable` for one whose package
    is missing, or that does not read back, list, or refuse to create what is there. Whatever else
    fails on the way is an :class:`AbcError` of one line.
    """

    def __init__(self, address: str):
        self.address = address.rstrip("/")

    def __repr__(self) -> str:
        return f"Remote({self.address!r})"

    def _at(self, name: str) -> tuple[Any, str]:
        files, root = _opened(self.address)
        return files, f"{root}/{name}"

    def read(self, name: str) -> bytes | None:
        """The bytes of a file, None if it is not there."""
        files, path = self._at(name)
        with _told(self.address):
            try:
                return files.cat_file(path)
            except (FileNotFoundError, IsADirectoryError):
                return None

    def write(self, name: str, data: bytes) -> None:
        """Writes a file, in place of one that was there."""
        files, path = self._at(name)
        with _told(self.address):
            files.makedirs(files._parent(path), exist_ok=True)
            files.pipe_file(path, data)

    def create(self, name: str, data: bytes) -> bool:
        """Writes a file unless it is there; whether it did."""
        files, path = self._at(name)
        with _told(self.address):
            files.makedirs(files._parent(path), exist_ok=True)
            try:
                if "file" in files.protocol:
                    _link(path, data)
                else:
                    files.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            return True

    def names(self, folder: str) -> list[str]:
        """What is in a folder, sorted; nothing if it is not there."""
        files, path = self._at(folder)
        with _told(self.address):
            try:
                found = files.ls(path, detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted({each.rstrip("/").rsplit("/", 1)[-1] for each in found})

    def remove(self, name: str) -> None:
        """Removes a file or a folder with all that is in it, if it is there."""
        files, path = self._at(name)
        with _told(self.address), contextlib.suppress(FileNotFoundError):
            files.rm(path, recursive=True)

    # --- artefacts ---

    def push(self, kind: str, path: Path) -> bool:
        """Copies an artefact's folder there; False if another one of this name is there first."""
        base = f"{kind}/{path.name}"
        raw = (path / MANIFEST).read_bytes()
        for name in manifest_of(raw, kind)["files"]:
            self.write(f"{base}/{sha256_of(raw)[:16]}/{name}", (path / name).read_bytes())
        if self.create(f"{base}/{MANIFEST}", raw):
            return True
        there = self.read(f"{base}/{MANIFEST}")
        if there is not None and manifest_of(there, kind) is not None:
            return there == raw
        # Where writing is not at once all or nothing, a killed machine may leave half of one.
        self.write(f"{base}/{MANIFEST}", raw)
        return True

    def pull(self, kind: str, name: str) -> dict[str, bytes] | None:
        """An artefact's files from there, each byte checked; None without one.

        Raises :class:`ArtefactError` for one whose files are not what its manifest says.
        """
        base = f"{kind}/{name}"
        raw = self.read(f"{base}/{MANIFEST}")
        manifest = None if raw is None else manifest_of(raw, kind)
        if manifest is None:
            return None
        files = {}
        for file, expected in manifest["files"].items():
            data = self.read(f"{base}/{sha256_of(raw)[:16]}/{file}")
            if data is None or sha256_of(data) != expected["sha256"]:
                raise ArtefactError(
                    f"{file} of {base} at {self.address} is refused: its checksum is not the "
                    f"manifest's; delete {base} there to have it computed again"
                )
            files[file] = data
        return files | {MANIFEST: raw}
