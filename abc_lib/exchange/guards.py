"""What the readers of strangers' files share: a refusal is one line, and JSON says all once."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from abc_lib.ground.errors import AbcError, ArtefactError


def refused(name: Path | str, why: str) -> ArtefactError:
    """The error that refuses a file."""
    return ArtefactError(f"{name} is refused: {why}")


@contextmanager
def decoding(name: Path | str, what: str, remedy: str = "fetch the file again") -> Iterator[None]:
    """Around a decoder, which may raise anything: the file is refused: it is no ``what``."""
    try:
        yield
    except AbcError:
        raise
    except Exception as error:
        why = " ".join(str(error).split())[:160] or type(error).__name__
        raise refused(name, f"it is no {what} ({why}); {remedy}") from None


def sound_json(text: str) -> object:
    """JSON without NaN, in which no key is given twice; for use within ``decoding``."""
    return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)


def _once(pairs: list) -> dict:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key is given twice")
    return dict(pairs)


def _no_number(name: str):
    raise ValueError(f"{name} is no number")
