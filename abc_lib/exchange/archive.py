"""Tar archives from strangers: members in memory, within bounds, and nothing on disk."""

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from abc_lib.exchange.guards import decoding, refused
from abc_lib.ground.files import bounded_file

MOST_MEMBERS = 2 * 65_536 + 2
"""more than any universe within the other limits has"""
MOST_BYTES = 16 * 2**30
# Headers of long names and the like; tarfile would read any size into memory.
_MOST_HEADER = 65_536


class _Headers:
    """The file under tarfile while it lists: no large reads."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_HEADER:
            raise tarfile.ReadError("one of its headers is too large")
        return self._file.read(size)


class Archive:
    """The plain files of an open tar, by name."""

    def __init__(self, path: Path | str, file: BinaryIO):
        self.path, self._file = path, file
        self._members: dict[str, tarfile.TarInfo] = {}
        remedy = "one that is compressed must be unpacked first"
        with decoding(path, "plain tar archive", remedy):
            with tarfile.open(fileobj=_Headers(file), mode="r:") as tar:
                for count, member in enumerate(iter(tar.next, None)):
                    # tarfile keeps what it has seen, here for nobody
                    tar.members.clear()
                    if count >= MOST_MEMBERS:
                        raise refused(path, f"it has more than {MOST_MEMBERS} members")
                    self._add(member)

    @property
    def names(self) -> list[str]:
        """In the order of the archive."""
        return list(self._members)

    def _add(self, member: tarfile.TarInfo) -> None:
        name = member.name.removeprefix("./")
        if member.isdir() and name in (".", ""):
            return
        wrong = {
            "has an absolute path": name.startswith(("/", "\\")) or name[1:2] == ":",
            "climbs out of the archive's folder": ".." in name.replace("\\", "/").split("/"),
            # Links, devices, pipes, folders and sparse files are none.
            "is not a plain file": not member.isreg() or member.issparse(),
            "lies in a folder or has no plain name; a universe is flat": (
                "/" in name or "\\" in name or not name.isprintable() or not name
            ),
            "has a negative size": member.size < 0,
        }
        for why, true in wrong.items():
            if true:
                raise refused(self.path, f"its member {member.name[:80]!r} {why}")
        if name in self._members:
            raise refused(self.path, f"it has two members '{name}'")
        self._members[name] = member

    def read(self, name: str, most: int) -> bytes:
        """A member's bytes, of which there may be ``most``."""
        member = self._members[name]
        if member.size > most:
            why = f"its member '{name}' has {member.size} bytes; what the config announces takes"
            raise refused(self.path, f"{why} at most {most}")
        self._file.seek(member.offset_data)
        data = self._file.read(member.size)
        if len(data) != member.size:
            raise refused(self.path, f"it ends within '{name}'; fetch the file again")
        return data


@contextmanager
def open_archive(path: Path | str) -> Iterator[Archive]:
    """The archive at ``path``, its list of members checked; else :class:`ArtefactError`."""
    with bounded_file(path, MOST_BYTES) as file:
        yield Archive(path, file)


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Adds a plain file that says nothing of who made it when: equal content, equal bytes."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, io.BytesIO(data))
