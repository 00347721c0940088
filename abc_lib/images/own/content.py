"""The pictures of a folder as members see them, kept in the cache by what they hold.

Its digest is the split of a recipe's data: of every picture the hash of its pixels and whose it
is. Workers and notebooks read pictures from here, so a file that changes while something trains
does no harm.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from abc_lib.ground.digests import digest
from abc_lib.ground.errors import DataMissing
from abc_lib.ground.paths import cache_root
from abc_lib.ground.store import Store, open_artefact

PREFIX = "folder_"
"""of the families of own pictures"""
KIND, LABEL, FILE = "own", "pictures", "pictures.safetensors"


@dataclass(frozen=True, eq=False)
class Content:
    """``images`` (K, C, S, S) uint8, in the files' order, and the ``owners`` of each, in 0..N-1.

    ``names`` are the files, ``people`` the sources by number; ``origin`` is a clause for where
    results come from.
    """

    images: torch.Tensor
    owners: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]
    people: tuple[str, ...]
    origin: str

    @property
    def rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Of every picture and each of its sources, in order: the picture, the source, (R,)."""
        pairs = [(k, owner) for k, owners in enumerate(self.owners) for owner in owners]
        return torch.tensor(pairs).unbind(1)

    def seen_by_members(self, words: np.ndarray) -> np.ndarray:
        """How many pictures each member sees, (n,), by codewords (N, n): those all of whose
        sources it sees.
        """
        return np.sum([words[list(owners)].all(0) for owners in self.owners], axis=0)

    @property
    def hashes(self) -> list[str]:
        """SHA-256 of each picture's pixels."""
        return [hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in self.images]

    @property
    def spec(self) -> dict:
        """What determines the recipe's data."""
        return {
            "shape": list(self.images.shape[1:]),
            "pictures": self.hashes,
            "owners": self.owners,
            "origin": self.origin,
        }

    def keep(self) -> str:
        """Puts it into the cache, if it is not there; returns its digest."""
        store, spec = Store(published=None), self.spec
        if store.find(KIND, LABEL, spec) is None:
            files = {FILE: {"images": self.images}}
            info = {"names": list(self.names), "people": list(self.people)}
            store.write(KIND, LABEL, spec, files, info)
        return digest(spec)


def is_own(family: str) -> bool:
    """Whether a family is of own pictures: its splits are digests, each taken whole."""
    return family.startswith(PREFIX)


def _folder(split: str) -> Path:
    return cache_root() / KIND / f"{LABEL}-{split}"


def is_kept(split: str) -> bool:
    """Whether the pictures with this digest are in the cache."""
    return _folder(split).is_dir()


def kept(split: str) -> Content:
    """The pictures with this digest; :class:`DataMissing` where they are not in the cache."""
    if not is_kept(split):
        raise DataMissing(
            f"the pictures {split} are not in {_folder(split).parent}; read the recipe of their "
            "folder again with get_recipe"
        )
    return _read(_folder(split))


@lru_cache(maxsize=4)
def _read(folder: Path) -> Content:
    artefact = open_artefact(folder, KIND)
    spec, info = artefact.spec, artefact.info
    return Content(
        artefact.tensors(FILE)["images"],
        tuple(map(tuple, spec["owners"])),
        tuple(info["names"]),
        tuple(info["people"]),
        spec["origin"],
    )


def seen_by(split: str, sources: list[int] | None) -> str:
    """A digest of the pictures of some sources, None for all, in their order.

    What one member sees, and nothing else: a picture that changes elsewhere does not change it.
    """
    content = kept(split)
    seen = [
        (picture, owners)
        for picture, owners in zip(_hashes(split), content.owners)
        if sources is None or set(owners) <= set(sources)
    ]
    return digest({"pictures": seen, "origin": content.origin})


@lru_cache(maxsize=4)
def _hashes(split: str) -> list[str]:
    return kept(split).hashes
