"""Artefacts on disk, whole or not there, and verified whenever they are read."""

import contextlib
import errno
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load as load_tensors

from abc_lib.ground.digests import digest
from abc_lib.ground.errors import ArtefactError
from abc_lib.ground.paths import PUBLISHED, ROOT

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def canonical(manifest: dict) -> bytes:
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


def write_bytes(path: Path, data: bytes) -> None:
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


def sweep_left_over(folder: Path) -> None:
    """Removes what writers that were killed left behind more than a day ago."""
    for left in folder.glob(".tmp-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > 86_400:
                shutil.rmtree(left, ignore_errors=True)


def put_in_place(temporary: Path, path: Path) -> None:
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
            raise refused(path, f"it cannot be read ({error.strerror})") from None
        if len(data) != expected["bytes"] or sha256_of(data) != expected["sha256"]:
            raise refused(path, "its checksum is not the manifest's: truncated, swapped or edited")
        return data

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """A safetensors file's tensors, verified."""
        return load_tensors(self.read(name))

    def table(self, name: str) -> "pd.DataFrame":
        """A Parquet file's table, verified: what :func:`parquet_bytes` wrote."""
        from pyarrow.parquet import ParquetFile

        # On this thread alone. pandas.read_parquet leaves the file to a thread of Arrow, and one
        # that lets go of it while a short command ends aborts the process.
        file = ParquetFile(io.BytesIO(self.read(name)), pre_buffer=False)
        return file.read(use_threads=False).to_pandas(use_threads=False)

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
            raise refused(self.path / min(extra), "its manifest does not name it")


def refused(path: Path, why: str) -> ArtefactError:
    folder = path.parent if path.suffix else path
    remedy = (
        f"restore {folder} from the repository"
        if PUBLISHED in path.parents
        else f"delete {folder} to have it computed again"
    )
    return ArtefactError(f"{path} is refused: {why}; {remedy}")


def manifest_of(raw: bytes, kind: str) -> dict | None:
    """The manifest in a file's bytes, without its own checksum; None unless it is sound."""
    try:
        manifest = json.loads(raw)
        claimed = manifest.pop("sha256")
        sound = (
            claimed == sha256_of(canonical(manifest))
            and raw == canonical(manifest | {"sha256": claimed})
            and manifest["kind"] == kind
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        sound = False
    return manifest if sound else None


def open_artefact(path: Path, kind: str, published: bool = False) -> Artefact:
    """The artefact in a folder, with its manifest checked to the byte."""
    manifest_path = path / "manifest.json"
    try:
        raw = manifest_path.read_bytes()
    except OSError as error:
        raise refused(manifest_path, f"it cannot be read ({error.strerror})") from None
    manifest = manifest_of(raw, kind)
    if manifest is None:
        raise refused(manifest_path, "its checksum is not its own: truncated, swapped or edited")
    if manifest["format"] != FORMAT:
        raise refused(
            manifest_path, f"its format is {manifest['format']}, this version reads {FORMAT}"
        )
    if not path.name.endswith("-" + digest(manifest["spec"])):
        raise refused(path, "its name is not that of its spec: renamed or swapped")
    return Artefact(path, manifest, published)


def stopwatch() -> Callable[[], float]:
    """Seconds since this call."""
    start = time.perf_counter()
    return lambda: time.perf_counter() - start
