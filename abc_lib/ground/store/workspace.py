"""Unfinished work, in pieces that a crash cannot spoil."""

import contextlib
import os
import shutil
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from abc_lib.ground.errors import ArtefactError
from abc_lib.ground.paths import cache_root
from abc_lib.ground.store.artefacts import explain_os_errors, sha256_of, write_bytes
from abc_lib.ground.store.remote import Remote

# A folder that is deleted under its writer is made again so often.
_TRIES = 10


class Workspace:
    """Unfinished work, in checked pieces.

    A piece is a safetensors file ``<name>.<first 16 digits of its SHA-256>.safetensors``;
    one that is not what its name says is as good as absent. With a ``remote`` pieces lie there
    too, in the folder ``name``, for other machines to go on from.
    """

    def __init__(self, path: Path, remote: Remote | None = None, name: str = ""):
        self.path, self.remote, self.name = path, remote, name

    def __getstate__(self) -> dict:
        # As a store: a worker on another machine keeps pieces in its own cache.
        mine = self.remote and self.path == cache_root() / self.name
        return {key: value for key, value in self.__dict__.items() if key != "path" or not mine}

    def __setstate__(self, state: dict) -> None:
        self.__dict__ |= {"path": cache_root() / state["name"]} | state

    def _pieces(self, name: str) -> list[Path]:
        found = {}
        # Somebody may delete the folder, or another process a piece, at any moment.
        with contextlib.suppress(FileNotFoundError):
            for path in self.path.glob(f"{name}.????????????????.safetensors"):
                with contextlib.suppress(FileNotFoundError):
                    found[path] = path.stat().st_mtime_ns
        return sorted(found, key=found.__getitem__, reverse=True)

    def save(self, name: str, tensors: dict[str, torch.Tensor]) -> None:
        """Writes a piece, then drops older ones of the same name.

        Raises :class:`ArtefactError` if its folder is deleted again and again meanwhile.
        """
        data = save_tensors(tensors)
        final = self.path / f"{name}.{sha256_of(data)[:16]}.safetensors"
        with explain_os_errors(f"write {final}"):
            for _ in range(_TRIES):
                with contextlib.suppress(FileNotFoundError):
                    self._put(final, data)
                    break
            else:
                raise self._deleted(name)
            for old in self._pieces(name):
                if old != final:
                    old.unlink(missing_ok=True)
        if self.remote:
            before = self._there(name)
            self.remote.write(f"{self.name}/{final.name}", data)
            for each in before:
                if each != final.name:
                    self.remote.remove(f"{self.name}/{each}")

    def _there(self, name: str) -> list[str]:
        """The names of a piece's files at the remote."""
        pattern = f"{name}.????????????????.safetensors"
        return [each for each in self.remote.names(self.name) if fnmatchcase(each, pattern)]

    def _fetch(self, name: str) -> None:
        """Brings what the remote has of a piece, and this machine has not."""
        there = self._there(name)
        if there and not any((self.path / each).exists() for each in there):
            for each in there:
                data = self.remote.read(f"{self.name}/{each}")
                if data is not None and sha256_of(data)[:16] == each.split(".")[-2]:
                    self._put(self.path / each, data)

    def _put(self, final: Path, data: bytes) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=self.path)
        os.close(descriptor)
        try:
            write_bytes(Path(temporary), data)
            os.replace(temporary, final)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def _deleted(self, name: str) -> ArtefactError:
        return ArtefactError(
            f"{name} in {self.path} was deleted while it was in use: leave that folder alone and "
            "run again"
        )

    def load(self, name: str) -> dict[str, torch.Tensor] | None:
        """The newest sound piece of this name, or None."""
        if self.remote:
            self._fetch(name)
        for path in self._pieces(name):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue
            if sha256_of(data)[:16] == path.name.split(".")[-2]:
                return load_tensors(data)
        return None

    def need(self, name: str) -> dict[str, torch.Tensor]:
        """:meth:`load` of a piece that was there; raises :class:`ArtefactError` if it is gone."""
        piece = self.load(name)
        if piece is None:
            raise self._deleted(name)
        return piece

    def has(self, name: str) -> bool:
        """Whether a sound piece of this name is there."""
        return self.load(name) is not None

    def note(self, text: str) -> None:
        """Leaves a line for whoever watches the work; never read back as a result."""
        with contextlib.suppress(OSError):
            self.path.mkdir(parents=True, exist_ok=True)
            temporary = self.path / f".note-{os.getpid()}"
            temporary.write_text(text)
            os.replace(temporary, self.path / "note")

    def read_note(self) -> str:
        """The last note, or an empty text."""
        try:
            return (self.path / "note").read_text()
        except OSError:
            return ""

    def clear(self) -> None:
        """Forgets everything here."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self.remote:
            self.remote.remove(self.name)
