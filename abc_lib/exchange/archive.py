"""Tar archives from strangers: members in memory, within bounds, and nothing on disk."""

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from abc_lib.ground.errors import ArtefactError
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

    def __init__(self, path: Path, file: BinaryIO):
        self.path, self._file = path, file
        self._members = self._list()

    @property
    def names(self) -> list[str]:
        """In the order of the archive."""
        return list(self._members)

    def _refused(self, why: str) -> ArtefactError:
        return ArtefactError(f"{self.path} is refused: {why}")

    def _list(self) -> dict[str, tarfile.TarInfo]:
        found, count = {}, 0
        try:
            with tarfile.open(fileobj=_Headers(self._file), mode="r:") as tar:
                while (member := tar.next()) is not None:
                    # tarfile keeps what it has seen, here for nobody
                    tar.members.clear()
                    count += 1
                    if count > MOST_MEMBERS:
                        raise self._refused(f"it has more than {MOST_MEMBERS} members")
                    if member.isdir() and member.name in (".", "./"):
                        continue
                    name = self._checked(member)
                    if name in found:
                        raise self._refused(f"it has two members '{name}'")
                    found[name] = member
        except (
            tarfile.TarError,
            OSError,
            ValueError,
            EOFError,
            OverflowError,
            RecursionError,
        ) as error:
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise self._refused(
                f"it is not a plain tar archive ({why}); one that is compressed must be unpacked first"
            ) from None
        return found

    def _checked(self, member: tarfile.TarInfo) -> str:
        shown = member.name[:80]
        name = member.name.removeprefix("./")
        if name.startswith(("/", "\\")) or name[1:2] == ":":
            raise self._refused(f"its member {shown!r} has an absolute path")
        if ".." in name.replace("\\", "/").split("/"):
            raise self._refused(f"its member {shown!r} climbs out of the archive's folder")
        # Links, devices, pipes, folders and sparse files too.
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
            raise self._refused(f"its member {shown!r} is not a plain file")
        if "/" in name or "\\" in name or not name.isprintable() or not name:
            raise self._refused(
                f"its member {shown!r} lies in a folder or has no plain name; a universe is flat"
            )
        if member.size < 0:
            raise self._refused(f"its member {shown!r} has a negative size")
        return name

    def read(self, name: str, most: int) -> bytes:
        """A member's bytes, of which there may be ``most``."""
        member = self._members[name]
        if member.size > most:
            raise self._refused(
                f"its member '{name}' has {member.size} bytes; what the config announces takes at most {most}"
            )
        self._file.seek(member.offset_data)
        data = self._file.read(member.size)
        if len(data) != member.size:
            raise self._refused(f"it ends within '{name}'; fetch the file again")
        return data


@contextmanager
def open_archive(path: Path | str) -> Iterator[Archive]:
    """The archive at ``path``, with its list of members checked; raises :class:`ArtefactError` in one line."""
    with bounded_file(path, MOST_BYTES) as file:
        yield Archive(Path(path), file)


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Adds a plain file that says nothing about who made it when: equal content, equal bytes."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    tar.addfile(member, io.BytesIO(data))
