"""Artefacts on disk: named by the hash of what made them, verified whenever they are read.

An artefact is a folder ``<kind>/<label>-<digest>/`` that holds data files and one
``manifest.json``. The digest is that of its *spec*, the canonical JSON of everything
that determines its content. The manifest repeats the spec, tells how the artefact
came about (versions, hardware, wall time, commit) and has a SHA-256 of every file and
of itself. It is written to a temporary folder and renamed, so that it is either whole
or not there; it is read only if every byte is as it was written.

Work in progress lies in a folder of :meth:`Store.workspace`, in files whose names
carry a hash of their content: a file that a crash cut short is not mistaken for a
finished one.
"""

from abc_lib.ground.store.artefacts import (
    Artefact,
    explain_os_errors,
    open_artefact,
    parquet_bytes,
    provenance,
    stopwatch,
)
from abc_lib.ground.store.remote import Remote
from abc_lib.ground.store.store import Content, Store
from abc_lib.ground.store.workspace import Workspace

__all__ = [
    "Artefact",
    "Content",
    "Remote",
    "Store",
    "Workspace",
    "explain_os_errors",
    "open_artefact",
    "parquet_bytes",
    "provenance",
    "stopwatch",
]
