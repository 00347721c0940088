"""Landscapes as values: read, joined, and with the training images that attribution points to."""

import dataclasses
import io
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch

from ..datasets import TrainingSet, available, training_set
from ..errors import ArtefactError, BadValue, DataCorrupt, DataMissing, NotAvailable
from ..metrics import euclidean
from ..recipes import Recipe
from ..store import Artefact

METRIC = "euclidean-256"
_AT_ONCE = 1024


@dataclass(frozen=True)
class Landscapes:
    """The counterfactual landscapes of S samples over N sources.

    ``indices`` (S,) are the samples' numbers under ``seed``; ``factual`` (S, C, H, W)
    the samples, in [0, 1]; ``distances`` (S, N) float64 (kept in single precision), Euclidean, how far the
    counterfactual without each source lies. Of each sample's counterfactuals those in
    ``kept_sources`` (S, K) are kept as ``kept_images`` (S, K, C, H, W), farthest first,
    then the chosen ones; where a sample has fewer than K, the farthest is repeated.
    ``attributed_images`` (S, C, H, W) is the training image of the source whose removal
    changed most (the one nearest to the sample, if it owns several) and
    ``attributed_labels`` (S,) its label, None where the training images were not at hand.
    """

    name: str
    scale: str
    seed: int
    indices: np.ndarray
    factual: torch.Tensor
    distances: np.ndarray
    kept_sources: np.ndarray
    kept_images: torch.Tensor
    attributed_images: torch.Tensor | None
    attributed_labels: np.ndarray | None
    artefacts: list[Artefact] = field(default_factory=list)
    tangent_steps: int = 0
    """0 for exact landscapes; else the steps that tangents carried the counterfactuals through"""

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def num_sources(self) -> int:
        """N"""
        return self.distances.shape[1]

    @property
    def radii(self) -> np.ndarray:
        """Counterfactual radius of each sample (definition 1), (S,)."""
        return self.distances.max(axis=1)

    @property
    def attributed_sources(self) -> np.ndarray:
        """The source whose counterfactual lies farthest, (S,); the lowest number if several do."""
        return self.distances.argmax(axis=1)

    @property
    def farthest_images(self) -> torch.Tensor:
        """Each sample's farthest counterfactual, (S, C, H, W)."""
        return self.kept_images[:, 0]

    @property
    def published(self) -> bool:
        """Whether all of them came with the repository."""
        return bool(self.artefacts) and all(a.published for a in self.artefacts)


def attributed_image(images: TrainingSet, source: int, sample: torch.Tensor) -> int:
    """The position in ``images`` of a source's image that is nearest to a sample (as shown in figure 4)."""
    mine = torch.nonzero(images.sources == source).squeeze(1)
    if len(mine) == 0:
        raise BadValue(f"source {source} owns no image of this training set")
    # In parts, because a source may own more image files than memory holds.
    return int(mine[torch.cat([euclidean(images.images[part], sample) for part in mine.split(_AT_ONCE)]).argmin()])


def attributed_positions(images: TrainingSet, sources: np.ndarray, samples: torch.Tensor) -> list[int]:
    return [attributed_image(images, int(source), sample) for source, sample in zip(sources, samples)]


def images_to_show(recipe: Recipe) -> TrainingSet | None:
    """The recipe's training set if it is on this machine and sound: pictures of it are welcome but not needed."""
    if not available(recipe.data.family, recipe.data.split):
        return None
    try:
        return training_set(recipe.data)
    except (DataMissing, DataCorrupt, NotAvailable) as error:
        print(f"training images are not shown: {error}")
        return None


def with_attributed_images(landscapes: Landscapes, images: TrainingSet) -> Landscapes:
    """The same landscapes with the training images that attribution points to filled in."""
    shown = attributed_positions(images, landscapes.attributed_sources, landscapes.factual)
    return dataclasses.replace(landscapes, attributed_images=images.images[shown], attributed_labels=images.labels[shown].numpy())


def read_landscapes(artefact: Artefact) -> Landscapes:
    """An artefact's landscapes, with every byte checked."""
    spec = artefact.spec
    name, _, scale = spec["recipe"].rpartition("-")
    table = pd.read_parquet(io.BytesIO(artefact.read("distances.parquet")))
    N = artefact.info["num_sources"]
    found = artefact.tensors("images.safetensors")
    shown = artefact.tensors("attributed.safetensors") if "attributed.safetensors" in artefact.manifest["files"] else None
    return Landscapes(
        name, scale, spec["seed"], np.array(spec["indices"]), found["factual"],
        table["distance"].to_numpy(np.float64).reshape(-1, N), found["kept_sources"].numpy(), found["kept"],
        shown and shown["images"], shown and shown["labels"].numpy(), [artefact], spec.get("tangent_steps", 0),
    )


def read_all_images(artefact: Artefact, index: int) -> torch.Tensor:
    """All N counterfactuals of sample ``index``, (N, C, H, W), if they were asked for when it was computed."""
    name = f"all-{index:06d}.safetensors"
    if name not in artefact.manifest["files"]:
        raise ArtefactError(f"{artefact.path} does not hold every image of sample {index}; compute it with all_images=True")
    return artefact.tensors(name)["counterfactuals"]


def _select(landscapes: Landscapes, rows: list[int]) -> Landscapes:
    pick = lambda value: None if value is None else value[rows]  # noqa: E731
    return Landscapes(
        landscapes.name, landscapes.scale, landscapes.seed, landscapes.indices[rows], landscapes.factual[rows],
        landscapes.distances[rows], landscapes.kept_sources[rows], landscapes.kept_images[rows],
        pick(landscapes.attributed_images), pick(landscapes.attributed_labels), landscapes.artefacts,
        landscapes.tangent_steps,
    )


def _widen(landscapes: Landscapes, width: int) -> Landscapes:
    """As many kept images as another artefact has: filled up with the farthest."""
    fill = width - landscapes.kept_sources.shape[1]
    return dataclasses.replace(
        landscapes,
        kept_sources=np.concatenate([landscapes.kept_sources, np.repeat(landscapes.kept_sources[:, :1], fill, axis=1)], axis=1),
        kept_images=torch.cat([landscapes.kept_images, landscapes.kept_images[:, :1].expand(-1, fill, -1, -1, -1)], dim=1),
    )


def join(parts: list[Landscapes], indices: list[int]) -> Landscapes:
    width = max(p.kept_sources.shape[1] for p in parts)
    parts = [_widen(p, width) for p in parts]
    shown = all(p.attributed_images is not None for p in parts)
    joined = Landscapes(
        parts[0].name, parts[0].scale, parts[0].seed,
        np.concatenate([p.indices for p in parts]),
        torch.cat([p.factual for p in parts]),
        np.concatenate([p.distances for p in parts]),
        np.concatenate([p.kept_sources for p in parts]),
        torch.cat([p.kept_images for p in parts]),
        torch.cat([p.attributed_images for p in parts]) if shown else None,
        np.concatenate([p.attributed_labels for p in parts]) if shown else None,
        [a for p in parts for a in p.artefacts],
        parts[0].tangent_steps,
    )
    position = {int(index): row for row, index in enumerate(joined.indices)}
    return _select(joined, [position[i] for i in indices])


def merge_landscapes(artefacts: list[Artefact]) -> Landscapes | None:
    """The samples of several artefacts of one ensemble and seed, each once, by index; None if there are none."""
    parts, seen = [], set()
    for artefact in artefacts:
        fresh = [row for row, i in enumerate(artefact.spec["indices"]) if i not in seen]
        if fresh:
            seen.update(artefact.spec["indices"])
            parts.append(_select(read_landscapes(artefact), fresh))
    return join(parts, sorted(seen)) if parts else None
