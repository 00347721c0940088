"""Single files for others: written whole or not at all, read within bounds."""

import contextlib
import io
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from abc_lib.ground.errors import ArtefactError


@contextlib.contextmanager
def atomic_file(path: Path | str) -> Iterator[BinaryIO]:
    """A file open for writing that appears at ``path`` only when it is whole; what was there stays
    until then.

    Raises :class:`ArtefactError` in one line where it cannot be written.
    """
    path = Path(path)
    # A rename would put the file in a device's place.
    if not path.name or (path.exists() and not path.is_file()):
        raise ArtefactError(f"{path} cannot be written: it is not a file; give the path of one")
    temporary = path.with_name(f".tmp-{secrets.token_hex(8)}")
    try:
        try:
            with open(temporary, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            # whatever ended it, an interrupt too
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ArtefactError(
            f"{path} cannot be written ({error.strerror or error}); choose a folder that exists, "
            "has room and can be written"
        ) from None


@contextlib.contextmanager
def bounded_file(path: Path | str, limit: int) -> Iterator[BinaryIO]:
    """A plain file of at most ``limit`` bytes, open for reading; anything else is an
    :class:`ArtefactError`.

    Errors of the system while it is read are told in the same way.
    """
    path = Path(path)
    try:
        # A pipe would be waited for, and a device has no end.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ArtefactError(f"{path} is refused: it is not a plain file; give the path of one")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise ArtefactError(
                    f"{path} is refused: it has {size} bytes, more than the {limit} that are read"
                )
            # What says that it is empty may be endless, or never answer, as some of /proc do.
            yield file if size else io.BytesIO()
    except OSError as error:
        raise ArtefactError(
            f"{path} cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from None
