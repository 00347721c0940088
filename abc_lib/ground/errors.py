"""The errors a user can meet: one line each, which says what to do."""

import difflib
import numbers
from collections.abc import Iterable
from typing import NoReturn


class AbcError(Exception):
    """A mistake or a lack that the user can mend; the message names the remedy.

    Notebooks show the one line without a traceback.
    """

    def _render_traceback_(self) -> list[str]:
        # IPython asks an exception for this before it formats a traceback.
        return [f"{type(self).__name__}: {self}"]


class UnknownName(AbcError):
    """A name that is not in the registry it was looked up in."""


class BadValue(AbcError):
    """An argument outside what the function is defined for."""


class DataMissing(AbcError):
    """A data set is neither on this machine nor to be had from the network."""


class DataCorrupt(AbcError):
    """A data file is not what its name says."""


class NotAvailable(AbcError):
    """A recipe that exists but cannot run here, and why."""


class ArtefactError(AbcError):
    """An artefact on disk is truncated, swapped or edited, or could not be written."""


class CertificateRefused(AbcError):
    """A certificate that is malformed, edited, or untrue; the message names the field."""


class NoSurvivors(AbcError):
    """An ablation that leaves no member of the ensemble."""


def unknown(kind: str, name: object, known: Iterable[str]) -> UnknownName:
    """The error for ``name``, with the closest of the ``known`` names."""
    known = list(known)
    # The paper prints MNIST_1024 and CIFAR-10_500.
    plain = {each.lower().replace("-", ""): each for each in known}
    close = difflib.get_close_matches(str(name).lower().replace("-", ""), plain, n=1)
    hint = f"did you mean '{plain[close[0]]}'?" if close else "known: " + ", ".join(known)
    return UnknownName(f"unknown {kind} '{name}'; {hint}")


class Known(dict):
    """A table by name; what is not in it raises :class:`UnknownName` with the closest name."""

    def __init__(self, kind: str, values: Iterable = ()):
        super().__init__(values)
        self.kind = kind

    def __missing__(self, name: object) -> NoReturn:
        raise unknown(self.kind, name, self)


def positive_int(name: str, value: object) -> int:
    """``value`` as an int of at least 1, or a :class:`BadValue` that names it."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise BadValue(f"{name} is {value!r}; it must be a whole number of at least 1")
    return int(value)
