"""What many tasks carry is written once, and each worker reads it once."""

import contextlib
import hashlib
import pickle
import shutil
import uuid
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from abc_lib.ground.errors import ArtefactError
from abc_lib.ground.files import atomic_file
from abc_lib.ground.store import Remote

LEAST = 32 * 2**10
"""what is smaller travels with its task, in bytes"""


@dataclass(frozen=True)
class Sent:
    """In a task's argument's place: where it lies, and its SHA-256; with a remote, also there."""

    path: Path
    sha256: str
    remote: Remote | None = None
    name: str = ""

    def open(self) -> Any:
        """The argument, read once a process."""
        return _read(self)


@lru_cache(maxsize=4)
def _read(sent: Sent) -> Any:
    data = None
    with contextlib.suppress(FileNotFoundError):
        data = sent.path.read_bytes()
    if data is None and sent.remote:
        data = sent.remote.read(sent.name)
    if data is None:
        raise ArtefactError(
            f"{sent.path} is not seen from this machine; share that folder, or name a store that "
            "all workers see by ABC_STORE"
        )
    if hashlib.sha256(data).hexdigest() != sent.sha256:
        raise ArtefactError(f"{sent.path} is damaged; run again")
    return pickle.loads(data)


class Spool:
    """Sends arguments of tasks: one that stood in the task before goes by a file.

    An ensemble is in every task of a landscape and is megabytes; what differs from task to task
    is kilobytes. The folder must be one that all workers see, or there must be a remote.
    """

    def __init__(self, cache: Path, remote: Remote | None = None):
        self.name = f"partial/travel/{uuid.uuid4().hex}"
        self.folder, self.remote = cache / self.name, remote
        self._last: tuple = ()
        self._sent: dict[int, tuple[Any, Any]] = {}

    def send(self, arguments: tuple) -> tuple:
        """The arguments as they travel."""
        last, self._last = self._last, arguments
        return tuple(
            self._once(value) if k < len(last) and value is last[k] else value
            for k, value in enumerate(arguments)
        )

    def _once(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, str, Path)):
            return value
        if id(value) not in self._sent:
            try:
                data = pickle.dumps(value, protocol=5)
            except (pickle.PicklingError, AttributeError, TypeError):
                # joblib knows more ways, such as for what a notebook defines
                data = b""
            sent = value if len(data) < LEAST else self._write(data)
            # The value is kept with it: its id must not be another's.
            self._sent[id(value)] = (value, sent)
        return self._sent[id(value)][1]

    def _write(self, data: bytes) -> Sent:
        name = hashlib.sha256(data).hexdigest()
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.folder / name) as file:
            file.write(data)
        if self.remote:
            self.remote.write(f"{self.name}/{name}", data)
        return Sent(self.folder / name, name, self.remote, f"{self.name}/{name}")

    def clear(self) -> None:
        """Takes the files away; no task may be under way."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.remote:
            self.remote.remove(self.name)
