"""Counterfactual radius, and how it shrinks as training sets grow (2.1, 3.5, 3.6)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np

from abc_lib.ground.errors import BadValue

__all__ = [
    "counterfactual_radius",
    "LogRadius",
    "summarise",
    "by_kind",
    "Law",
    "fit_law",
    "slope_within",
]


def counterfactual_radius(distances: np.ndarray) -> np.ndarray:
    """Definition 1: the largest distance between a sample and a member of its landscape.

    ``distances`` (..., N), Euclidean; returns (...).
    """
    distances = np.asarray(distances, dtype=float)
    if distances.shape[-1:] in ((), (0,)):
        raise BadValue(
            "a landscape without counterfactuals has no radius; it needs at least one data source"
        )
    if not np.isfinite(distances).all() or (distances < 0).any():
        raise BadValue("distances must be finite and not negative; recompute the landscape")
    return distances.max(axis=-1)


@dataclass(frozen=True)
class LogRadius:
    """log10 of the radii of one ensemble's samples."""

    name: str
    size: int
    """training set size, images"""
    count: int
    """samples with a radius above zero"""
    zeros: int
    """samples with radius zero, which no logarithm can show: true unattributable samples"""
    mean: float
    sd: float
    """standard deviation over samples (n - 1 in the denominator), NaN for a single one"""


def summarise(name: str, size: int, radii: Sequence[float] | np.ndarray) -> LogRadius:
    """Mean and standard deviation of log10 radius, as the points and bars of figure 7."""
    radii = np.asarray(radii, dtype=float)
    if len(radii) == 0:
        raise BadValue(f"{name} has no radii to summarise; compute at least one landscape")
    if not np.isfinite(radii).all() or (radii < 0).any():
        raise BadValue(
            f"the radii of {name} must be finite and not negative; recompute its landscapes"
        )
    logs = np.log10(radii[radii > 0])
    mean = float(logs.mean()) if len(logs) else nan
    sd = float(logs.std(ddof=1)) if len(logs) > 1 else nan
    return LogRadius(name, int(size), len(logs), int((radii == 0).sum()), mean, sd)


def by_kind(named: Iterable[Any]) -> dict[str, list[Any]]:
    """What has ensembles' names, by their kind of images: the first part of the name."""
    kinds: dict[str, list[Any]] = {}
    for one in named:
        kinds.setdefault(one.name.split("_")[0], []).append(one)
    return kinds


@dataclass(frozen=True)
class Law:
    """A least-squares line through mean log10 radius over log10 training set size (figure 7)."""

    slope: float
    intercept: float
    r2: float
    p: float
    """two-sided p value of the slope being zero, NaN with two ensembles"""
    ensembles: int
    wide: float = nan
    """half the width of the slope's 95% interval, NaN with two ensembles"""

    def radius_at(self, size: float) -> float:
        """The radius that the line gives at a training set size, same units as the distances."""
        return float(10 ** (self.intercept + self.slope * np.log10(size)))


def fit_law(summaries: Sequence[LogRadius]) -> Law:
    """Fits :class:`Law` to two or more ensembles of different sizes, each counting once."""
    from scipy import stats

    points = [(np.log10(s.size), s.mean) for s in summaries if np.isfinite(s.mean)]
    if len({x for x, _ in points}) < 2:
        raise BadValue(
            "a line needs ensembles of at least two training set sizes; compute landscapes of "
            "another one"
        )
    x, y = np.array(points).T
    fit = stats.linregress(x, y)
    several = len(x) > 2
    return Law(
        slope=float(fit.slope),
        intercept=float(fit.intercept),
        r2=float(fit.rvalue**2),
        p=float(fit.pvalue) if several else nan,
        ensembles=len(x),
        wide=float(stats.t.ppf(0.975, len(x) - 2) * fit.stderr) if several else nan,
    )


def slope_within(summaries: Sequence[LogRadius]) -> Law:
    """The slope that all kinds of images share, each at a level of its own.

    It is that of a line through every kind's deviations from its means (:func:`by_kind`).
    ``intercept`` is of a kind of average level; kinds with an ensemble of only one size say nothing
    about a slope and do not count.
    """
    from scipy import stats

    kinds = by_kind(s for s in summaries if np.isfinite(s.mean)).values()
    several = [group for group in kinds if len({s.size for s in group}) > 1]
    groups = [np.array([(np.log10(s.size), s.mean) for s in group]) for group in several]
    if not groups:
        raise BadValue(
            "a slope within kinds needs ensembles of at least two training set sizes of one kind; "
            "compute landscapes of another one"
        )
    means = np.array([group.mean(axis=0) for group in groups])
    x, y = np.concatenate([group - mean for group, mean in zip(groups, means)]).T
    slope = float(x @ y / (x @ x))
    left = float(((y - slope * x) ** 2).sum())
    free = len(x) - len(groups) - 1
    error = np.sqrt(left / free / (x @ x)) if free > 0 else nan
    return Law(
        slope=slope,
        intercept=float((means[:, 1] - slope * means[:, 0]).mean()),
        r2=1 - left / float(y @ y),
        p=float(2 * stats.t.sf(abs(slope) / error, free)) if free > 0 else nan,
        ensembles=len(x),
        wide=float(stats.t.ppf(0.975, free) * error) if free > 0 else nan,
    )
