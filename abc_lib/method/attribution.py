"""Attribution: which data source a sample is put down to (3.2 to 3.4, C.3 to C.5).

Visual attribution looks for the source with an image nearest to the sample, counterfactual
attribution for the source whose removal moves the sample farthest. Distances come as matrices
(S, N), a row for each sample and a column for each source, so that any metric of B.6 serves for
either.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import comb, inf, nan
from typing import Any

import numpy as np
import torch

from abc_lib.ground.errors import BadValue, positive_int
from abc_lib.ground.seeds import derive, generator

__all__ = [
    "top_visual",
    "top_counterfactual",
    "intersection_chance",
    "Intersections",
    "intersections",
    "top_k_intersections",
    "visual_similarity_ranks",
    "counterfactual_distance_ranks",
    "FalseAttribution",
    "false_attribution",
    "other_sources",
]


def _distances(name: str, distances: Any) -> np.ndarray:
    """Distances (S, N) that can be ranked, as float64."""
    distances = np.asarray(distances, dtype=np.float64)
    if distances.ndim != 2:
        raise BadValue(
            f"{name} distances have the shape {distances.shape}; they are a matrix, a row a "
            "sample, a column a source"
        )
    S, N = distances.shape
    if S == 0 or N == 0:
        raise BadValue(
            f"{name} distances of {S} samples to {N} sources leave nothing to attribute; at least "
            "one of each is needed"
        )
    if not np.isfinite(distances).all():
        row = int(np.flatnonzero(~np.isfinite(distances).all(axis=1))[0])
        raise BadValue(
            f"{name} distances of the sample in row {row} are NaN or infinite; compute them again"
        )
    if N == 1:
        raise BadValue(
            f"{name} distances to a single source cannot be ranked; attribution needs at least "
            "two sources"
        )
    equal = np.flatnonzero(distances.min(axis=1) == distances.max(axis=1))
    if len(equal):
        raise BadValue(
            f"all {N} sources have the same {name} distance for the sample in row {equal[0]}: "
            "nothing to rank; leave it out"
        )
    return distances


def _source_numbers(name: str, sources: Any, shape: tuple[int, ...], N: int) -> np.ndarray:
    sources = np.asarray(sources)
    if sources.shape != shape:
        raise BadValue(f"{name} have the shape {sources.shape}, not {shape}")
    if not np.issubdtype(sources.dtype, np.integer) or (sources < 0).any() or (sources >= N).any():
        raise BadValue(f"{name} are given by number, 0..{N - 1}")
    return sources.astype(np.int64)


# --- the top sources (3.2) ---


def _top(keys: np.ndarray, k: int) -> np.ndarray:
    k = positive_int("k", k)
    if k > keys.shape[1]:
        raise BadValue(
            f"k is {k}, more than the {keys.shape[1]} sources there are; choose a smaller k"
        )
    # A stable order puts the lowest number first among equals.
    return np.argsort(keys, axis=1, kind="stable")[:, :k]


def top_visual(visual: np.ndarray, k: int = 1) -> np.ndarray:
    """The k sources that each sample is visually attributed to (3.2): the nearest, nearest first.

    ``visual`` (S, N) as :func:`abc_lib.metrics.visual.visual_distances` gives them; returns
    (S, k) int64. Of sources at the same distance the lowest number comes first. Raises
    :class:`BadValue` for k below 1 or above N, and for distances as
    :func:`visual_similarity_ranks` does.
    """
    return _top(_distances("visual", visual), k)


def top_counterfactual(distances: np.ndarray, k: int = 1) -> np.ndarray:
    """The k sources that each sample is counterfactually attributed to (3.2).

    Those whose counterfactuals lie farthest, farthest first. ``distances`` (S, N); returns (S, k)
    int64. Of counterfactuals at the same distance the lowest source number comes first, as in
    :attr:`Landscapes.attributed_sources`. Raises :class:`BadValue` as :func:`top_visual` does.
    """
    return _top(-_distances("counterfactual", distances), k)


# --- top-k intersections (3.2, C.3) ---


def intersection_chance(num_sources: int, k: int, replacement: bool = False) -> float:
    """The probability that a random set of k of N sources meets a given one.

    1 - C(N - k, k) / C(N, k), so 1 where 2k > N. With ``replacement`` it is 1 - (1 - k/N)^k, as
    if the k places were drawn one by one and a source could come twice. That is the level that
    section 3.2 and table 4 print: 158.73 of 1,024 samples with a standard deviation of 11.58, for
    k = 8 and N = 384. A top-k set has k different sources, so the exact level is a little higher,
    160.09 and 11.62, and it is what :func:`intersections` compares with.

    Raises :class:`BadValue` for k < 1 and k > N.
    """
    N, k = positive_int("num_sources", num_sources), positive_int("k", k)
    if k > N:
        raise BadValue(f"k is {k}, more than the {N} sources there are; choose a smaller k")
    if replacement:
        return 1 - (1 - k / N) ** k
    # In whole numbers until the division: exact for any N and k.
    return (comb(N, k) - comb(N - k, k)) / comb(N, k)


@dataclass(frozen=True)
class Intersections:
    """In how many samples two top-k sets of sources meet, beside chance (3.2, table 4)."""

    count: int
    """samples whose two sets have at least one source in common"""
    samples: int
    k: int
    num_sources: int
    chance: float
    """probability that two random sets of k of N sources meet (:func:`intersection_chance`)"""
    expected: float
    """samples * chance"""
    sd: float
    """standard deviation by chance, sqrt(samples * chance * (1 - chance))"""
    p: float
    """probability of at least ``count`` by chance: the binomial upper tail, 0 where it is smaller
    than a float can be"""


def intersections(a: np.ndarray, b: np.ndarray, num_sources: int) -> Intersections:
    """Compares two attributions by their top-k sources (3.2, C.3, figure 10).

    Visual with counterfactual, or two of a kind. ``a`` and ``b`` (S, k) are source numbers below
    ``num_sources``, different within a row, in any order. Chance is that of sets drawn uniformly
    and independently in every sample, so it is 1 where 2k > N.

    Raises :class:`BadValue` for no samples, k < 1, k > N, matrices of two shapes, and numbers
    that are no sources or appear twice in a row.
    """
    from scipy import stats

    a, b = np.asarray(a), np.asarray(b)
    if a.ndim != 2 or len(a) == 0:
        raise BadValue(
            f"top sources have the shape {a.shape}; at least one sample is needed, as (S, k)"
        )
    (S, k), N = a.shape, num_sources
    chance = intersection_chance(N, k)
    a, b = (np.sort(_source_numbers("top sources", top, (S, k), N), axis=1) for top in (a, b))
    for top in (a, b):
        twice = np.flatnonzero((np.diff(top) == 0).any(axis=1))
        if len(twice):
            raise BadValue(
                f"a source appears twice among the top {k} of row {twice[0]}; they must be "
                "different"
            )
    # Neither set repeats a source, so one that is there twice is in both.
    both = np.sort(np.concatenate([a, b], axis=1))
    count = int((np.diff(both) == 0).any(axis=1).sum())
    return Intersections(
        count=count,
        samples=S,
        k=k,
        num_sources=N,
        chance=chance,
        expected=S * chance,
        sd=(S * chance * (1 - chance)) ** 0.5,
        p=float(stats.binom.sf(count - 1, S, chance)),
    )


def top_k_intersections(visual: np.ndarray, distances: np.ndarray, k: int) -> Intersections:
    """In how many samples a top-k visual source is also a top-k counterfactual one (3.2, table 4).

    ``visual`` and ``distances`` (S, N). Ties at the k-th place go to the lowest number. Raises
    :class:`BadValue` where the shapes differ, and as :func:`top_visual` and :func:`intersections`
    do.
    """
    visual, distances = _distances("visual", visual), _distances("counterfactual", distances)
    if visual.shape != distances.shape:
        raise BadValue(
            f"visual distances {visual.shape} and counterfactual distances {distances.shape} are "
            "not of the same samples"
        )
    return intersections(_top(visual, k), _top(-distances, k), visual.shape[1])


# --- scaled ranks (3.3, 3.4) ---


def _scaled_ranks(distances: np.ndarray, sources: Any) -> np.ndarray:
    S, N = distances.shape
    sources = _source_numbers("sources, one a sample,", sources, (S,), N)
    own = distances[np.arange(S), sources][:, None]
    nearer = (distances < own).sum(axis=1)
    equal = (distances == own).sum(axis=1)
    return (nearer + (equal - 1) / 2) / (N - 1)


def visual_similarity_ranks(visual: np.ndarray, sources: Any) -> np.ndarray:
    """Visual similarity rank (3.3, C.4) of one source a sample: 0 if the most similar of all.

    ``visual`` (S, N), ``sources`` (S,) the source to place in each row, in the paper the top
    counterfactually attributed one; returns (S,) float64. Ranks from 0 are divided by the last,
    N - 1, so that the least similar has 1. Sources at exactly the same distance share the mean of
    their ranks: that makes up no order among them, and a source drawn uniformly keeps a mean rank
    of 1/2. So the most similar source has a rank above 0 if another is as similar.

    Raises :class:`BadValue` for no samples, one source, a row of equal distances, NaN or infinite
    distances, and for shapes or source numbers that do not fit.
    """
    return _scaled_ranks(_distances("visual", visual), sources)


def counterfactual_distance_ranks(distances: np.ndarray, sources: Any) -> np.ndarray:
    """Counterfactual distance rank (3.4, C.5) of one source a sample.

    0 if its counterfactual is closest to the factual, 1 if farthest. ``distances`` (S, N) as
    :attr:`Landscapes.distances`, ``sources`` (S,) the source to place in each row, in the paper
    the top visually attributed one; returns (S,) float64. Ranks are scaled, ties shared and
    errors raised as in :func:`visual_similarity_ranks`.
    """
    return _scaled_ranks(_distances("counterfactual", distances), sources)


# --- false attribution rate (3.4) ---


@dataclass(frozen=True)
class FalseAttribution:
    """How often visual attribution names a source that was not needed, beside a placebo."""

    samples: int
    again: float
    """share of samples that are attributed to the same source when that very source is removed"""
    instead: float
    """share of samples that are attributed to the same source when another one is removed"""
    ratio: float
    """again / instead; inf where only ``instead`` is zero, NaN where both are"""
    low: float
    high: float
    """a 95% interval of the ratio, NaN where ``instead`` is zero"""


def false_attribution(
    attributed: np.ndarray,
    without: np.ndarray,
    instead: np.ndarray,
    seed: int = 0,
    resamples: int = 10_000,
) -> FalseAttribution:
    """The false attribution rate of the authors' earlier work (reference 4).

    From attributions already made: all are source numbers (S,), ``attributed`` of the factual,
    ``without`` of the counterfactual that lacks the attributed source, ``instead`` of the
    counterfactual that lacks another one. The rate is the share of samples with
    ``without == attributed`` over the share with ``instead == attributed``: 0 if removing the
    source always changes the attribution, 1 if it matters no more than removing any other. It is
    a test of visual attribution by counterfactuals, the question of section 3.4.

    The interval is the 2.5th to 97.5th percentile of the ratio over ``resamples`` bootstrap
    samples, which draw samples with their two outcomes together, by a generator named by
    ``seed``. A resample with a denominator of zero has an infinite ratio; if its numerator is
    zero too, its ratio could be anything, and it counts as 0 for the lower end and as infinity
    for the upper. If the share itself has a denominator of zero there is no interval, (NaN, NaN):
    the ratio is infinite, or NaN if the numerator is zero as well. Where all samples have the
    same outcome the interval has no width, which says that there are too few samples, not that
    the rate is certain.

    Raises :class:`BadValue` for no samples, arrays of different lengths and fewer than one
    resample.
    """
    attributed, without, instead = map(np.asarray, (attributed, without, instead))
    if attributed.ndim != 1 or len(attributed) == 0:
        raise BadValue(
            f"attributed sources have the shape {attributed.shape}; at least one sample is "
            "needed, as (S,)"
        )
    if not attributed.shape == without.shape == instead.shape:
        raise BadValue(
            f"attributions of {attributed.shape}, {without.shape} and {instead.shape} are not of "
            "the same samples"
        )
    positive_int("resamples", resamples)
    S = len(attributed)
    hit = without == attributed
    base = instead == attributed
    again = float(hit.mean())
    share = float(base.mean())
    if share == 0:
        return FalseAttribution(S, again, share, inf if again else nan, nan, nan)
    # A resample is no more than how often each of the four pairs of outcomes was drawn.
    kinds = np.bincount(2 * hit + base, minlength=4) / S
    rng = np.random.default_rng(derive("false attribution", seed))
    drawn = rng.multinomial(S, kinds, size=resamples)
    top = drawn[:, 2] + drawn[:, 3]
    bottom = drawn[:, 1] + drawn[:, 3]
    lower = np.divide(top, bottom, out=np.where(top > 0, inf, 0.0), where=bottom > 0)
    upper = np.divide(top, bottom, out=np.full(resamples, inf), where=bottom > 0)
    # By position, not by interpolation: between a number and infinity there is none.
    low = np.sort(lower)[int(np.floor(0.025 * (resamples - 1)))]
    high = np.sort(upper)[int(np.ceil(0.975 * (resamples - 1)))]
    return FalseAttribution(S, again, share, again / share, float(low), float(high))


def other_sources(
    attributed: np.ndarray, indices: Iterable[int], num_sources: int, seed: int = 0
) -> np.ndarray:
    """For each sample a source other than the attributed one, uniformly at random, (S,) int64.

    It depends on ``seed``, the sample's number and N alone, and for all attributions of a sample
    it is the same source unless that is the attributed one, so that metrics are compared on the
    same counterfactuals. Raises :class:`BadValue` for fewer than two sources and for shapes and
    numbers that do not fit.
    """
    numbers, N = list(indices), positive_int("num_sources", num_sources)
    if N == 1:
        raise BadValue(
            "there is no other source than the only one; attribution needs at least two sources"
        )
    name = "attributed sources, one a sample,"
    chosen = []
    for index, source in zip(numbers, _source_numbers(name, attributed, (len(numbers),), N)):
        rng = generator("another source", seed, int(index), N)
        first = int(torch.randint(N, (), generator=rng))
        shift = int(torch.randint(N - 1, (), generator=rng))
        chosen.append((first + 1 + shift) % N if first == source else first)
    return np.array(chosen, dtype=np.int64)
