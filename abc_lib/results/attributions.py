"""How often visual attribution names a source that was not needed (3.4)."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from abc_lib.ground.devices import parse_bytes
from abc_lib.ground.errors import BadValue
from abc_lib.ground.tasks import job_count, run_tasks
from abc_lib.images.training_set import TrainingSet
from abc_lib.method.attribution import (
    FalseAttribution,
    false_attribution,
    other_sources,
    top_visual,
)
from abc_lib.method.diffusion import ExogenousNoise
from abc_lib.method.ensemble import Ensemble
from abc_lib.metrics.base import Metric
from abc_lib.metrics.visual import visual_distances
from abc_lib.results.budget import block_size


def _sample_task(
    ensemble: Ensemble,
    noise: ExogenousNoise,
    owner: np.ndarray,
    sources: np.ndarray | None,
    start: int,
):
    weights = None if sources is None else ensemble.codebook.leave_one_out(sources)
    return start, ensemble.sample(noise, weights, torch.from_numpy(owner))


def _sample(
    ensemble: Ensemble,
    noise: ExogenousNoise,
    owner: np.ndarray,
    sources: np.ndarray | None,
    size: int,
    what: str,
    **options,
):
    """Images (B, C, H, W) of ``noise[owner]`` without ``sources`` (B,), or with all of them, in blocks of ``size``."""

    def task(start: int):
        mine, local = np.unique(owner[start : start + size], return_inverse=True)
        return (
            ensemble,
            noise[mine],
            local,
            None if sources is None else sources[start : start + size],
            start,
        )

    starts = range(0, len(owner), size)
    done = run_tasks(
        _sample_task,
        (task(start) for start in starts),
        len(starts),
        device=ensemble.device,
        total=len(starts),
        description=f"{what} of {ensemble.recipe.label}",
        unit="block",
        **options,
    )
    blocks = dict(done)
    return torch.cat([blocks[start] for start in starts])


def false_attribution_rates(
    ensemble: Ensemble,
    indices: Iterable[int],
    images: TrainingSet,
    metrics: Sequence[Metric | None],
    flips: bool = False,
    seed: int = 0,
    memory: int | str = "2GiB",
    n_jobs: int | None = None,
    progress: bool = True,
    resamples: int = 10_000,
) -> list[FalseAttribution]:
    """The false attribution rate for each of several visual metrics, in their order; what they share is sampled once.

    Factuals of the samples ``indices`` under ``seed`` are attributed visually to ``images``, the ensemble's
    training set, by the rule of 3.2. Then come their counterfactuals without the attributed source, and without
    one of :func:`other_sources` instead, attributed to all of ``images`` again; the two shares are compared by
    :func:`false_attribution`. The attributed source stays in the gallery: the question is whether a sample that
    cannot owe it anything is attributed to it still. ``metrics`` and ``flips`` are those of
    :func:`visual_distances`, ``memory`` bounds activations and states of all jobs together, as in
    :func:`compute_landscapes`.

    Raises :class:`BadValue` for no samples or metrics, for indices that repeat, for an ensemble of one source
    or of other sources than the images have, and as :func:`visual_distances` and :func:`top_visual` do.
    """
    indices, metrics, N = [int(i) for i in indices], list(metrics), ensemble.codebook.num_sources
    if not indices:
        raise BadValue("no samples were asked for; give at least one index")
    if len(set(indices)) != len(indices) or min(indices) < 0:
        raise BadValue("sample indices must be different whole numbers from 0 on")
    if not metrics:
        raise BadValue(
            "no metrics were asked for; give at least one, or use false_attribution_rate for the Euclidean one"
        )
    if N == 1:
        raise BadValue("the ensemble has one data source; attribution needs at least two sources")
    if len(images) and int(images.sources.max()) != N - 1:
        raise BadValue(
            f"the images are of sources up to {int(images.sources.max())}, the ensemble's up to {N - 1}; give its training set"
        )
    size, options = (
        block_size(ensemble, parse_bytes(memory), job_count(n_jobs, ensemble.device)),
        {"n_jobs": n_jobs, "progress": progress},
    )
    noise, S = ensemble.draw_noise(seed, indices), len(indices)
    factual = _sample(ensemble, noise, np.arange(S), None, size, "samples", **options)

    attributed = [
        top_visual(visual_distances(factual, images, metric, flips))[:, 0] for metric in metrics
    ]
    others = [other_sources(each, indices, N, seed) for each in attributed]
    # Rows are samples, so that the pairs of a sample stand together and share their first step.
    wanted = np.arange(S)[:, None] * N + np.stack([*attributed, *others], axis=1)
    pairs, where = np.unique(wanted, return_inverse=True)
    where = where.reshape(wanted.shape)
    counterfactual = _sample(
        ensemble, noise, pairs // N, pairs % N, size, "counterfactuals", **options
    )

    rates = []
    for column, (metric, source) in enumerate(zip(metrics, attributed)):
        mine = np.concatenate([where[:, column], where[:, len(metrics) + column]])
        visual = visual_distances(counterfactual[mine], images, metric, flips)
        without, instead = (top_visual(each)[:, 0] for each in (visual[:S], visual[S:]))
        rates.append(false_attribution(source, without, instead, seed, resamples))
    return rates


def false_attribution_rate(
    ensemble: Ensemble,
    indices: Iterable[int],
    images: TrainingSet,
    metric: Metric | None = None,
    flips: bool = False,
    seed: int = 0,
    **options,
) -> FalseAttribution:
    """The false attribution rate for one visual metric, by default the Euclidean one.

    Arguments, rule and errors are those of :func:`false_attribution_rates`; ``options`` are its ``memory``,
    ``n_jobs``, ``progress`` and ``resamples``.
    """
    return false_attribution_rates(ensemble, indices, images, [metric], flips, seed, **options)[0]
