"""A landscape: every counterfactual of a sample, and how far each lies (2.1)."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch

from abc_lib.ground.store import Artefact
from abc_lib.method.ensemble import Ensemble

METRIC = "euclidean-256"


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


def _select(landscapes: Landscapes, rows: list[int]) -> Landscapes:
    pick = lambda value: None if value is None else value[rows]  # noqa: E731
    return Landscapes(
        landscapes.name,
        landscapes.scale,
        landscapes.seed,
        landscapes.indices[rows],
        landscapes.factual[rows],
        landscapes.distances[rows],
        landscapes.kept_sources[rows],
        landscapes.kept_images[rows],
        pick(landscapes.attributed_images),
        pick(landscapes.attributed_labels),
        landscapes.artefacts,
        landscapes.tangent_steps,
    )


def _widen(landscapes: Landscapes, width: int) -> Landscapes:
    """As many kept images as another artefact has: filled up with the farthest."""
    fill = width - landscapes.kept_sources.shape[1]
    return dataclasses.replace(
        landscapes,
        kept_sources=np.concatenate(
            [landscapes.kept_sources, np.repeat(landscapes.kept_sources[:, :1], fill, axis=1)],
            axis=1,
        ),
        kept_images=torch.cat(
            [landscapes.kept_images, landscapes.kept_images[:, :1].expand(-1, fill, -1, -1, -1)],
            dim=1,
        ),
    )


def join(parts: list[Landscapes], indices: list[int]) -> Landscapes:
    width = max(p.kept_sources.shape[1] for p in parts)
    parts = [_widen(p, width) for p in parts]
    shown = all(p.attributed_images is not None for p in parts)
    joined = Landscapes(
        parts[0].name,
        parts[0].scale,
        parts[0].seed,
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


def counterfactuals(
    ensemble: Ensemble, landscapes: Landscapes, row: int, sources: Iterable[int]
) -> torch.Tensor:
    """Samples the counterfactuals of one sample without each of ``sources`` now, (K, C, H, W), in [0, 1]."""
    sources = np.asarray(list(sources), dtype=np.int64)
    noise = ensemble.draw_noise(landscapes.seed, [landscapes.indices[row]])
    owner = torch.zeros(len(sources), dtype=torch.int64)
    return ensemble.sample(noise, ensemble.codebook.leave_one_out(sources), owner)
