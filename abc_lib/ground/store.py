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

import contextlib
import errno
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from filelock import FileLock, Timeout
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from abc_lib.ground.digests import digest
from abc_lib.ground.errors import ArtefactError
from abc_lib.ground.paths import PUBLISHED, ROOT, cache_root

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
# What results are measured with, not results themselves.
_TOOLS = ("autoencoder", "classifier")
# A folder that is deleted under its writer is made again so often.
_TRIES = 10
Content = bytes | dict[str, torch.Tensor]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _canonical(manifest: dict) -> bytes:
    return (json.dumps(manifest, sort_keys=True, indent=1, ensure_ascii=True) + "\n").encode()


@lru_cache(maxsize=1)
def _commit() -> str:
    """The commit of the code, with ``+`` when the library has changes on top; ``unknown`` outside
    git.
    """
    try:
        run = lambda *args: subprocess.run(
            ["git", *args], cwd=ROOT, capture_output=True, text=True, timeout=10
        )  # noqa: E731
        head = run("rev-parse", "--short=12", "HEAD")
        if head.returncode:
            return "unknown"
        return head.stdout.strip() + (
            "+" if run("status", "--porcelain", "--", "abc_lib").stdout.strip() else ""
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def provenance(device: torch.device | str = "cpu") -> dict:
    """Versions, hardware, commit and time, for a manifest."""
    device = torch.device(device)
    hardware = f"{os.cpu_count()} x {_processor()}"
    if device.type == "cuda":
        hardware = torch.cuda.get_device_name(device)
    packages = {
        name: metadata.version(name) for name in ("torch", "diffusers", "safetensors", "numpy")
    }
    return {
        "commit": _commit(),
        "hardware": hardware,
        "packages": packages | {"python": platform.python_version()},
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@contextlib.contextmanager
def explain_os_errors(doing: str) -> Iterator[None]:
    """Turns a full disk, a read-only folder and the like into one clear line."""
    try:
        yield
    except OSError as error:
        full = "free some space and run again, finished work is kept"
        other = "set ABC_CACHE to a folder that can be written"
        file = f"a file stands where a folder should be: {other}"
        remedy = {
            errno.ENOSPC: f"the disk is full: {full}",
            errno.EDQUOT: f"the disk quota is used up: {full}",
            errno.EROFS: f"the file system is read-only: {other}",
            errno.EACCES: f"permission denied: {other}",
            errno.EPERM: f"permission denied: {other}",
            errno.EEXIST: file,
            errno.ENOTDIR: file,
        }.get(error.errno)
        if remedy is None:
            raise
        raise ArtefactError(f"cannot {doing}: {remedy}") from None


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Removes what writers that were killed left behind more than a day ago."""
    for left in folder.glob(".tmp-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > 86_400:
                shutil.rmtree(left, ignore_errors=True)


def _put_in_place(temporary: Path, path: Path) -> None:
    """Renames a finished folder; one that another process put there first stays."""
    temporary.chmod(0o755)
    _sync_folder(temporary)
    try:
        os.rename(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
    _sync_folder(path.parent)


def parquet_bytes(table: "pd.DataFrame") -> bytes:
    """A table as a small Parquet file."""
    buffer = io.BytesIO()
    floats = [name for name, kind in table.dtypes.items() if kind.kind == "f"]
    # The bytes of all first digits side by side are alike, which shrinks the file.
    table.to_parquet(
        buffer, index=False, compression="zstd", use_dictionary=False, use_byte_stream_split=floats
    )
    return buffer.getvalue()


@dataclass(frozen=True)
class Artefact:
    """A verified artefact. ``manifest`` has ``spec``, ``info``, ``provenance``, ``files``."""

    path: Path
    manifest: dict
    published: bool = False
    """whether it came with the repository rather than from this machine"""

    @property
    def spec(self) -> dict:
        """What determined the content."""
        return self.manifest["spec"]

    @property
    def info(self) -> dict:
        """What else its maker recorded: losses, wall time, origin of the data."""
        return self.manifest["info"]

    @property
    def provenance(self) -> dict:
        """Versions, hardware, commit and time of its making."""
        return self.manifest["provenance"]

    def read(self, name: str) -> bytes:
        """The bytes of one of its files, if they are those that were written."""
        path = self.path / name
        expected = self.manifest["files"].get(name)
        if expected is None:
            raise ArtefactError(f"{path} is not part of its artefact's manifest; remove it")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _refused(path, f"it cannot be read ({error.strerror})") from None
        if len(data) != expected["bytes"] or _sha256(data) != expected["sha256"]:
            raise _refused(path, "its checksum is not the manifest's: truncated, swapped or edited")
        return data

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """A safetensors file's tensors, verified."""
        return load_tensors(self.read(name))

    def verify(self) -> None:
        """Reads and checks every file; raises :class:`ArtefactError` naming the first that is not
        right.
        """
        for name in self.manifest["files"]:
            self.read(name)
        extra = (
            {p.name for p in self.path.iterdir()} - set(self.manifest["files"]) - {"manifest.json"}
        )
        if extra:
            raise _refused(self.path / min(extra), "its manifest does not name it")


def _refused(path: Path, why: str) -> ArtefactError:
    folder = path.parent if path.suffix else path
    remedy = (
        f"restore {folder} from the repository"
        if PUBLISHED in path.parents
        else f"delete {folder} to have it computed again"
    )
    return ArtefactError(f"{path} is refused: {why}; {remedy}")


def open_artefact(path: Path, kind: str, published: bool = False) -> Artefact:
    """The artefact in a folder, with its manifest checked to the byte."""
    manifest_path = path / "manifest.json"
    try:
        raw = manifest_path.read_bytes()
    except OSError as error:
        raise _refused(manifest_path, f"it cannot be read ({error.strerror})") from None
    try:
        manifest = json.loads(raw)
        claimed = manifest.pop("sha256")
        sound = (
            claimed == _sha256(_canonical(manifest))
            and raw == _canonical(manifest | {"sha256": claimed})
            and manifest["kind"] == kind
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise _refused(manifest_path, "its checksum is not its own: truncated, swapped or edited")
    if manifest["format"] != FORMAT:
        raise _refused(
            manifest_path, f"its format is {manifest['format']}, this version reads {FORMAT}"
        )
    if not path.name.endswith("-" + digest(manifest["spec"])):
        raise _refused(path, "its name is not that of its spec: renamed or swapped")
    return Artefact(path, manifest, published)


class Store:
    """Artefacts of this machine (``cache``) behind those of the repository (``published``).

    Reading looks in ``published`` first, then in ``cache``; writing goes to ``cache``,
    or to ``published`` when asked.
    """

    def __init__(
        self, cache: Path | None = None, published: Path | None = PUBLISHED, anew: bool = False
    ):
        self.cache = Path(cache) if cache is not None else cache_root()
        self.published = published
        self.passes_over = anew

    def anew(self) -> "Store":
        """The same, but published results do not count when one is looked for.

        What results are measured with still does: published autoencoders and classifiers.
        """
        return Store(self.cache, self.published, anew=True)

    def cached(self) -> "Store":
        """Only this machine's part."""
        return Store(self.cache, None)

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
        return None

    def find_all(self, kind: str, label: str) -> list[Artefact]:
        """Every artefact with this label, published ones first, then by folder name."""
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
            _sweep(path.parent)
            temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=path.parent))
            try:
                listed = {}
                for name, content in files.items():
                    content = content() if callable(content) else content
                    data = content if isinstance(content, bytes) else save_tensors(content)
                    _write(temporary / name, data)
                    listed[name] = {"bytes": len(data), "sha256": _sha256(data)}
                manifest = {
                    "format": FORMAT,
                    "kind": kind,
                    "spec": spec,
                    "info": info or {},
                    "provenance": provenance(device),
                    "files": listed,
                }
                # Through JSON once, so that what is hashed is what a reader will parse.
                manifest = json.loads(_canonical(manifest))
                _write(
                    temporary / "manifest.json",
                    _canonical(manifest | {"sha256": _sha256(_canonical(manifest))}),
                )
                _put_in_place(temporary, path)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
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
                        _write(temporary / name, (artefact.path / name).read_bytes())
                    _put_in_place(temporary, path)
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
        return Workspace(self.cache / "partial" / kind / self.folder_name(label, spec))


class Workspace:
    """Unfinished work, in checked pieces.

    A piece is a safetensors file ``<name>.<first 16 digits of its SHA-256>.safetensors``;
    one that is not what its name says is as good as absent.
    """

    def __init__(self, path: Path):
        self.path = path

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
        final = self.path / f"{name}.{_sha256(data)[:16]}.safetensors"
        with explain_os_errors(f"write {final}"):
            for _ in range(_TRIES):
                with contextlib.suppress(FileNotFoundError):
                    self._write(final, data)
                    break
            else:
                raise self._deleted(name)
            for old in self._pieces(name):
                if old != final:
                    old.unlink(missing_ok=True)

    def _write(self, final: Path, data: bytes) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=self.path)
        os.close(descriptor)
        try:
            _write(Path(temporary), data)
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
        for path in self._pieces(name):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue
            if _sha256(data)[:16] == path.name.split(".")[-2]:
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


def stopwatch() -> Callable[[], float]:
    """Seconds since this call."""
    start = time.perf_counter()
    return lambda: time.perf_counter() - start
