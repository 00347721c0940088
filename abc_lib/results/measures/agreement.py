"""How far ways of making counterfactuals agree, source by source: ablation, retraining,
differential ablation (3.2, C.3).

The paper compares ablation with retraining by how well each agrees with visual
attribution. Here they are also compared with each other, and with what retraining agrees
with itself when nothing but its seed changes: no method can be asked to agree better.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from abc_lib.ground.errors import BadValue
from abc_lib.method.attribution import Intersections, intersections, top_counterfactual, top_visual
from abc_lib.method.code import Codebook
from abc_lib.method.differential import Jacobians, rank_correlations
from abc_lib.method.distance import distance
from abc_lib.method.landscape import Landscapes
from abc_lib.results.retraining import RetrainingLandscapes

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Predicted:
    """A landscape that was not sampled but predicted from Jacobians, over all N sources."""

    seed: int
    indices: np.ndarray
    distances: np.ndarray


def predicted_landscapes(jacobians: Jacobians, codebook: Codebook) -> Predicted:
    """The landscapes that differential ablation predicts, to be compared like exact ones (2.4)."""
    return Predicted(jacobians.seed, jacobians.indices, jacobians.landscape(codebook))


def _sources_of(landscapes: Landscapes | Predicted) -> np.ndarray:
    return (
        landscapes.sources
        if isinstance(landscapes, RetrainingLandscapes)
        else np.arange(landscapes.distances.shape[1])
    )


def in_common(
    landscapes: Sequence[Landscapes | Predicted],
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """The samples (S,) and sources (K,) that all landscapes have, and the distances of each there,
    (S, K).

    Landscapes by ablation have all N sources, those by retraining the ones that were left
    out. Raises :class:`BadValue` where they are of other exogenous noise, or share no
    sample or fewer than two sources.
    """
    if not landscapes:
        raise BadValue("nothing to compare; give at least one landscape")
    if len({each.seed for each in landscapes}) > 1:
        raise BadValue(
            "the landscapes are of other exogenous noise: their seeds differ; compute them under "
            "one seed"
        )
    samples, sources = landscapes[0].indices, _sources_of(landscapes[0])
    for each in landscapes[1:]:
        samples, sources = (
            np.intersect1d(samples, each.indices),
            np.intersect1d(sources, _sources_of(each)),
        )
    samples, sources = np.unique(samples), np.unique(sources)
    if len(samples) == 0 or len(sources) < 2:
        raise BadValue(
            f"the landscapes have {len(samples)} samples and {len(sources)} sources in common; at "
            "least one sample and "
            "two sources are needed"
        )
    distances = []
    for each in landscapes:
        rows = [int(np.flatnonzero(each.indices == sample)[0]) for sample in samples]
        columns = [int(np.flatnonzero(_sources_of(each) == source)[0]) for source in sources]
        distances.append(each.distances[np.ix_(rows, columns)])
    return samples, sources, distances


@dataclass(frozen=True)
class Agreement:
    """Two landscapes of the same samples over the same sources."""

    correlations: np.ndarray
    """Spearman's over sources, for each sample (S,); NaN where one of the two has no order"""
    tops: dict[int, Intersections]
    """how often the k farthest of both have a source in common, by k"""
    radii: float
    """Spearman's correlation of the two radii over samples; NaN for fewer than three samples"""
    num_sources: int

    @property
    def samples(self) -> int:
        """S"""
        return len(self.correlations)

    def interval(self) -> tuple[float, float, float]:
        """The mean correlation over samples and a 95% interval, 1.96 standard errors either way."""
        each = self.correlations[~np.isnan(self.correlations)]
        error = 1.96 * each.std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.nan
        return float(each.mean()), float(each.mean() - error), float(each.mean() + error)


def agreement(a: np.ndarray, b: np.ndarray, ks: Sequence[int] = (1, 3, 8)) -> Agreement:
    """Compares two landscapes (S, K) of the same samples and sources, as :func:`in_common` gives
    them.

    Of ``ks`` those count for which chance does not make the tops meet always, 2k <= K.
    Raises :class:`BadValue` for other shapes and as :func:`rank_correlations` does.
    """
    correlations, K = rank_correlations(a, b), a.shape[1]
    tops = {
        k: intersections(top_counterfactual(a, k), top_counterfactual(b, k), K)
        for k in ks
        if 2 * k <= K
    }
    radii = np.nan
    if len(a) > 2:
        radii = float(rank_correlations(a.max(axis=1)[None], b.max(axis=1)[None])[0])
    return Agreement(correlations, tops, radii, K)


def agreement_table(found: dict[str, Agreement]) -> "pd.DataFrame":
    """A line a pair of landscapes: mean rank correlation with its interval, how often the tops meet
    beside chance, radii.
    """
    import pandas as pd

    rows = []
    for name, each in found.items():
        mean, low, high = each.interval()
        rows.append(
            {
                "landscapes of": name,
                "samples × sources": f"{each.samples:,} × {each.num_sources}",
                "rank correlation (mean, 95%)": f"{mean:.2f} ({low:.2f} to {high:.2f})",
                **{
                    f"top {k} meet": f"{met.count / met.samples:.0%} (chance {met.chance:.0%})"
                    for k, met in each.tops.items()
                },
                "radii": "" if np.isnan(each.radii) else f"{each.radii:.2f}",
            }
        )
    return pd.DataFrame(rows)


def top_sources(
    visual: dict[str, np.ndarray], counterfactual: dict[str, np.ndarray], k: int
) -> dict[str, np.ndarray]:
    """The k suspects of each attribution (S, k): nearest for ``visual`` distances (S, K), farthest
    for ``counterfactual`` ones.
    """
    return {name: top_visual(each, k) for name, each in visual.items()} | {
        name: top_counterfactual(each, k) for name, each in counterfactual.items()
    }


def meeting_matrix(tops: dict[str, np.ndarray], num_sources: int) -> "pd.DataFrame":
    """The share of samples in which two attributions have a suspect in common, for each pair
    (figure 10).
    """
    import pandas as pd

    return pd.DataFrame(
        {
            a: {b: intersections(tops[a], tops[b], num_sources).count / len(tops[a]) for b in tops}
            for a in tops
        }
    )


@dataclass(frozen=True)
class SameNoise:
    """How far samples of two models lie from each other: from the same exogenous noise, and from
    other noise.
    """

    same: np.ndarray
    """(S,) Euclidean distances, images scaled to 3x256x256"""
    other: np.ndarray
    """(S,) the same with each sample of one model paired with the next sample of the other"""


def same_noise(a: Landscapes, b: Landscapes) -> SameNoise:
    """Whether two models make alike samples of the same exogenous noise; raises :class:`BadValue`
    for fewer than two common samples.
    """
    both = np.intersect1d(a.indices, b.indices)
    if a.seed != b.seed or len(both) < 2:
        raise BadValue(
            "the two have fewer than two samples of the same exogenous noise in common; compute "
            "them under one seed"
        )
    x, y = (
        each.factual[[int(np.flatnonzero(each.indices == i)[0]) for i in both]] for each in (a, b)
    )
    return SameNoise(distance(x, y).numpy(), distance(x, y.roll(1, 0)).numpy())
