"""Where artefacts are looked for, written and made once."""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors.torch import save as save_tensors

from abc_lib.ground.digests import digest
from abc_lib.ground.paths import PUBLISHED, cache_root
from abc_lib.ground.store.artefacts import (
    FORMAT,
    Artefact,
    canonical,
    explain_os_errors,
    open_artefact,
    provenance,
    put_in_place,
    sha256_of,
    sweep_left_over,
    write_bytes,
)
from abc_lib.ground.store.remote import Remote
from abc_lib.ground.store.workspace import Workspace

# What results are measured with, not results themselves.
_TOOLS = ("autoencoder", "classifier")
Content = bytes | dict[str, torch.Tensor]


class Store:
    """Artefacts of this machine (``cache``) behind those of the repository (``published``).

    Reading looks in ``published`` first, then in ``cache``; writing goes to ``cache``,
    or to ``published`` when asked. Where ``remote`` is the address of a place that other machines
    see too (any that fsspec knows, ``s3://bucket/folder``; an empty text is what the environment
    variable ``ABC_STORE`` names), what is written goes there as well, unfinished work included, and
    what is not found here is fetched from there. Locks hold on one machine only: of two machines
    that make the same artefact, the second takes the first one's.
    """

    def __init__(
        self,
        cache: Path | None = None,
        published: Path | None = PUBLISHED,
        anew: bool = False,
        remote: Remote | str | None = "",
    ):
        self.cache = Path(cache) if cache is not None else cache_root()
        self.published = published
        self.passes_over = anew
        remote = (os.environ.get("ABC_STORE") or None) if remote == "" else remote
        self.remote = Remote(remote) if isinstance(remote, str) else remote

    def __getstate__(self) -> dict:
        # A worker on another machine has folders of its own where nobody named others.
        own = {"cache": cache_root(), "published": PUBLISHED} if self.remote else {}
        return {
            key: value
            for key, value in self.__dict__.items()
            if key not in own or own[key] != value
        }

    def __setstate__(self, state: dict) -> None:
        self.__dict__ |= {"cache": cache_root(), "published": PUBLISHED} | state

    def anew(self) -> "Store":
        """The same, but published results do not count when one is looked for.

        What results are measured with still does: published autoencoders and classifiers.
        """
        return Store(self.cache, self.published, anew=True, remote=self.remote)

    def cached(self) -> "Store":
        """Only what was computed here, or where ``remote`` is."""
        return Store(self.cache, None, remote=self.remote)

    def _roots(self, kind: str) -> list[Path]:
        seen = self.published and not (self.passes_over and kind not in _TOOLS)
        return ([self.published] if seen else []) + [self.cache]

    @staticmethod
    def folder_name(label: str, spec: dict) -> str:
        """``<label>-<digest of spec>``"""
        return f"{label}-{digest(spec)}"

    def find(self, kind: str, label: str, spec: dict) -> Artefact | None:
        """The artefact of exactly this spec, or None; a damaged one is refused, not skipped."""
        for root in self._roots(kind):
            path = root / kind / self.folder_name(label, spec)
            with explain_os_errors(f"read {path}"):
                if path.is_dir():
                    return open_artefact(path, kind, root == self.published)
        name = self.folder_name(label, spec)
        if self.remote and self._fetch(kind, name):
            return open_artefact(self.cache / kind / name, kind)
        return None

    def _fetch(self, kind: str, name: str, replace: bool = False) -> bool:
        """Whether an artefact could be had from ``remote``; it lies in the cache then."""
        files = self.remote.pull(kind, name)
        if files is None:
            return False
        path = self.cache / kind / name
        with explain_os_errors(f"write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=path.parent))
            try:
                for file, data in files.items():
                    write_bytes(temporary / file, data)
                if replace:
                    shutil.rmtree(path, ignore_errors=True)
                put_in_place(temporary, path)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        return True

    def find_all(self, kind: str, label: str) -> list[Artefact]:
        """Every artefact with this label, published ones first, then by folder name."""
        if self.remote:
            for name in self.remote.names(kind):
                mine = name.startswith(f"{label}-") and len(name) == len(label) + 17
                if mine and not any((root / kind / name).is_dir() for root in self._roots(kind)):
                    self._fetch(kind, name)
        found = []
        for root in self._roots(kind):
            for path in sorted((root / kind).glob(f"{label}-*")):
                # a label may be a prefix of another one; the digest that follows has a fixed length
                if path.is_dir() and len(path.name) == len(label) + 17:
                    found.append(open_artefact(path, kind, root == self.published))
        return found

    def write(
        self,
        kind: str,
        label: str,
        spec: dict,
        files: dict[str, Content | Callable[[], Content]],
        info: dict | None = None,
        device: torch.device | str = "cpu",
        publish: bool = False,
    ) -> Artefact:
        """Writes an artefact whole or not at all, and returns it.

        ``files`` maps names to bytes, to tensors for a safetensors file, or to a function
        that makes one of the two when its turn comes. If another process finished the
        same artefact in the meantime, that one stays.
        """
        root = self.published if publish else self.cache
        path = root / kind / self.folder_name(label, spec)
        with explain_os_errors(f"write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep_left_over(path.parent)
            temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=path.parent))
            try:
                listed = {}
                for name, content in files.items():
                    content = content() if callable(content) else content
                    data = content if isinstance(content, bytes) else save_tensors(content)
                    write_bytes(temporary / name, data)
                    listed[name] = {"bytes": len(data), "sha256": sha256_of(data)}
                manifest = {
                    "format": FORMAT,
                    "kind": kind,
                    "spec": spec,
                    "info": info or {},
                    "provenance": provenance(device),
                    "files": listed,
                }
                # Through JSON once, so that what is hashed is what a reader will parse.
                manifest = json.loads(canonical(manifest))
                write_bytes(
                    temporary / "manifest.json",
                    canonical(manifest | {"sha256": sha256_of(canonical(manifest))}),
                )
                put_in_place(temporary, path)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        if self.remote and not publish and not self.remote.push(kind, path):
            self._fetch(kind, path.name, replace=True)
        return open_artefact(path, kind, publish)

    def copy(self, artefact: Artefact, kind: str) -> Artefact:
        """Publishes an artefact of the cache as it is, byte for byte."""
        artefact.verify()
        path = self.published / kind / artefact.path.name
        if not path.exists():
            with explain_os_errors(f"write {path}"):
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=path.parent))
                try:
                    # Not shutil.copytree: its error does not say that a disk is full.
                    for name in [*artefact.manifest["files"], "manifest.json"]:
                        write_bytes(temporary / name, (artefact.path / name).read_bytes())
                    put_in_place(temporary, path)
                finally:
                    shutil.rmtree(temporary, ignore_errors=True)
        return open_artefact(path, kind, True)

    @contextlib.contextmanager
    def lock(
        self, kind: str, label: str, spec: dict, on_wait: Callable[[], None] | None = None
    ) -> Iterator[None]:
        """Holds the right to make an artefact; the system frees it when the process dies.

        Who has to wait for another process is told so, by ``on_wait()`` or by a line on standard
        error.
        """
        path = self.cache / "locks" / f"{kind}-{self.folder_name(label, spec)}.lock"
        with explain_os_errors(f"lock {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if on_wait:
                    on_wait()
                else:
                    print(
                        f"another process is making the {kind} {label}; waiting for it",
                        file=sys.stderr,
                        flush=True,
                    )
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def once(
        self, kind: str, label: str, spec: dict, make: Callable[["Workspace"], Artefact]
    ) -> Artefact:
        """The artefact of this spec: the one that is there, or what ``make`` writes.

        ``make`` gets the workspace for its pieces, in which a stopped run left those it had. Of
        several processes that want the same one makes it, and the others wait for it.
        """
        with self.lock(kind, label, spec):
            done = self.find(kind, label, spec)
            workspace = self.workspace(kind, label, spec)
            if done is None:
                done = make(workspace)
            # also what a run that was stopped right at its end left behind
            workspace.clear()
        return done

    def workspace(self, kind: str, label: str, spec: dict) -> "Workspace":
        """A folder for the unfinished parts of an artefact."""
        name = f"partial/{kind}/{self.folder_name(label, spec)}"
        return Workspace(self.cache / name, self.remote, name)
