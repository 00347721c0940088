"""Attribution: visual and counterfactual, and how often the visual one was not needed (3.2 to 3.4).

Distances, ranks and tops are arithmetic (:mod:`abc_lib.method.attribution`); what has to be
sampled for a false attribution rate is sampled here.
"""

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import torch

from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.tasks import run_tasks
from abc_lib.images.training_set import TrainingSet
from abc_lib.method.attribution import (
    FalseAttribution,
    Intersections,
    counterfactual_distance_ranks,
    false_attribution,
    intersection_chance,
    intersections,
    other_sources,
    top_counterfactual,
    top_k_intersections,
    top_visual,
    visual_similarity_ranks,
)
from abc_lib.method.diffusion import ExogenousNoise
from abc_lib.method.ensemble import Ensemble
from abc_lib.metrics.base import Metric
from abc_lib.metrics.visual import visual_distances
from abc_lib.results.kind import sample_numbers
from abc_lib.training.budget import trajectories_side_by_side

__all__ = [
    "FalseAttribution",
    "Intersections",
    "counterfactual_distance_ranks",
    "false_attribution",
    "false_attribution_rate",
    "false_attribution_rates",
    "intersection_chance",
    "intersections",
    "other_sources",
    "top_counterfactual",
    "top_k_intersections",
    "top_visual",
    "visual_distances",
    "visual_similarity_ranks",
]


def _sample_task(
    ensemble: Ensemble,
    noise: ExogenousNoise,
    owner: np.ndarray,
    sources: np.ndarray | None,
    start: int,
) -> tuple[int, torch.Tensor]:
    weights = None if sources is None else ensemble.codebook.leave_one_out(sources)
    return start, ensemble.sample(noise, weights, torch.from_numpy(owner))


def _sample(
    ensemble: Ensemble,
    noise: ExogenousNoise,
    owner: np.ndarray,
    sources: np.ndarray | None,
    what: str,
    here: Here,
) -> torch.Tensor:
    """Images (B, C, H, W) of ``noise[owner]`` without ``sources`` (B,), or with all, in blocks."""
    size = trajectories_side_by_side(ensemble, here)

    def task(start: int) -> tuple:
        mine, local = np.unique(owner[start : start + size], return_inverse=True)
        removed = None if sources is None else sources[start : start + size]
        return ensemble, noise[mine], local, removed, start

    starts = range(0, len(owner), size)
    blocks = dict(
        run_tasks(
            _sample_task,
            (task(start) for start in starts),
            len(starts),
            ensemble.device,
            here,
            total=len(starts),
            description=f"{what} of {ensemble.recipe.label}",
            unit="block",
        )
    )
    return torch.cat([blocks[start] for start in starts])


def false_attribution_rates(
    ensemble: Ensemble,
    indices: Iterable[int],
    images: TrainingSet,
    metrics: Sequence[Metric | None],
    flips: bool = False,
    seed: int = 0,
    resamples: int = 10_000,
    here: Here | None = None,
) -> list[FalseAttribution]:
    """The false attribution rate for each of several visual metrics; what they share is sampled
    once.

    Factuals of the samples ``indices`` under ``seed`` are attributed visually to ``images``,
    the ensemble's training set, by the rule of 3.2. Then come their counterfactuals without the
    attributed source, and without one of :func:`other_sources` instead, attributed to all of
    ``images`` again; the two shares are compared by :func:`false_attribution`. The attributed
    source stays in the gallery: the question is whether a sample that cannot owe it anything is
    attributed to it still. ``metrics`` and ``flips`` are those of :func:`visual_distances`,
    ``here.memory`` bounds activations and states of all jobs together.

    Raises :class:`BadValue` for no samples or metrics, for indices that repeat, for an ensemble
    of one source or of other sources than the images have, and as :func:`visual_distances` and
    :func:`top_visual` do.
    """
    here = here or Here()
    indices, metrics, N = sample_numbers(indices), list(metrics), ensemble.codebook.num_sources
    if not metrics:
        raise BadValue(
            "no metrics were asked for; give at least one, or use false_attribution_rate for the "
            "Euclidean one"
        )
    if N == 1:
        raise BadValue("the ensemble has one data source; attribution needs at least two sources")
    if len(images) and int(images.sources.max()) != N - 1:
        raise BadValue(
            f"the images are of sources up to {int(images.sources.max())}, the ensemble's up to "
            f"{N - 1}; give its training set"
        )
    noise, S = ensemble.draw_noise(seed, indices), len(indices)
    sample = partial(_sample, ensemble, noise, here=here)
    factual = sample(np.arange(S), None, what="samples")

    def nearest(samples: torch.Tensor, metric: Metric | None) -> np.ndarray:
        return top_visual(visual_distances(samples, images, metric, flips))[:, 0]

    attributed = [nearest(factual, metric) for metric in metrics]
    others = [other_sources(sources, indices, N, seed) for sources in attributed]
    # Rows are samples, so that the pairs of a sample stand together and share their first step.
    wanted = np.arange(S)[:, None] * N + np.stack([*attributed, *others], axis=1)
    pairs, where = np.unique(wanted, return_inverse=True)
    where = where.reshape(wanted.shape)
    counterfactual = sample(pairs // N, pairs % N, what="counterfactuals")

    rates = []
    for column, (metric, source) in enumerate(zip(metrics, attributed, strict=True)):
        mine = np.concatenate([where[:, column], where[:, len(metrics) + column]])
        named = nearest(counterfactual[mine], metric)
        rates.append(false_attribution(source, named[:S], named[S:], seed, resamples))
    return rates


def false_attribution_rate(
    ensemble: Ensemble,
    indices: Iterable[int],
    images: TrainingSet,
    metric: Metric | None = None,
    flips: bool = False,
    seed: int = 0,
    resamples: int = 10_000,
    here: Here | None = None,
) -> FalseAttribution:
    """The false attribution rate for one visual metric, by default the Euclidean one.

    Arguments, rule and errors are those of :func:`false_attribution_rates`.
    """
    (rate,) = false_attribution_rates(
        ensemble, indices, images, [metric], flips, seed, resamples, here
    )
    return rate
