"""Counterfactuals of stored landscapes, made again: to be shown, measured otherwise, or checked."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from ..ensemble import Ensemble
from ..metrics import Metric, euclidean
from ..store import Store
from .compute import compute_landscapes
from .values import Landscapes, read_all_images, read_landscapes


def counterfactuals(ensemble: Ensemble, landscapes: Landscapes, row: int, sources: Iterable[int]) -> torch.Tensor:
    """Samples the counterfactuals of one sample without each of ``sources`` now, (K, C, H, W), in [0, 1]."""
    sources = np.asarray(list(sources), dtype=np.int64)
    noise = ensemble.draw_noise(landscapes.seed, [landscapes.indices[row]])
    owner = torch.zeros(len(sources), dtype=torch.int64)
    return ensemble.sample(noise, ensemble.codebook.leave_one_out(sources), owner)


def metric_radii(ensemble: Ensemble, landscapes: Landscapes, metric: Metric, store: Store | None = None, **options) -> np.ndarray:
    """Counterfactual radii (S,) of the same samples, measured by another metric (C.6).

    The farthest counterfactual may be another one than in Euclidean distance, so all of
    them are looked at: those that were not kept are computed again, as exactly or as
    hybrid as ``landscapes`` are. ``options`` go to :func:`compute_landscapes`.
    """
    indices = landscapes.indices.tolist()
    artefact = compute_landscapes(ensemble, indices, landscapes.seed, store, 1, all_images=True,
                                  tangent_steps=landscapes.tangent_steps, **options)
    factual = read_landscapes(artefact).factual
    return np.array([float(metric.pairwise(factual[row : row + 1], read_all_images(artefact, index)).max())
                     for row, index in enumerate(indices)])


def kept_radii(landscapes: Landscapes, metric: Metric) -> np.ndarray:
    """By another metric, how far the farthest of a sample's *kept* counterfactuals lies: at most the radius, which
    :func:`metric_radii` has the patience for. One number for each sample of which as many are kept as of any."""
    kept = np.array([len(set(row)) for row in landscapes.kept_sources.tolist()])
    return np.array([float(metric.pairwise(landscapes.factual[row : row + 1], landscapes.kept_images[row]).max())
                     for row in np.flatnonzero(kept == kept.max())])


@dataclass(frozen=True)
class Check:
    """A stored distance beside the same one computed now."""

    index: int
    source: int
    stored: float
    now: float

    @property
    def difference(self) -> float:
        """Absolute difference of the two."""
        return abs(self.stored - self.now)


def regenerate(ensemble: Ensemble, landscapes: Landscapes, rows: Iterable[int]) -> list[Check]:
    """Samples some factuals and their farthest counterfactuals again, in the way of the landscapes, and measures their distance."""
    rows = list(rows)
    noise = ensemble.draw_noise(landscapes.seed, landscapes.indices[rows])
    sources = landscapes.attributed_sources[rows]
    k = landscapes.tangent_steps
    moving = ensemble.tangents(noise, (k,), jacobians=False) if k else {"factual": ensemble.sample(noise)}
    factual = moving["factual"]
    counterfactual = ensemble.sample_hybrid(noise, ensemble.codebook.leave_one_out(sources), torch.arange(len(rows)), moving, k)
    now = euclidean(factual, counterfactual).tolist()
    stored = landscapes.radii[rows].tolist()
    return [Check(int(landscapes.indices[r]), int(s), a, b) for r, s, a, b in zip(rows, sources, stored, now)]
