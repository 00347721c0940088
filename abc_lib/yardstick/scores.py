"""How well attribution scores agree with a truth: one number a query, then over queries."""

import numpy as np
from scipy.stats import rankdata

from abc_lib.ground.errors import BadValue
from abc_lib.ground.seeds import derive
from abc_lib.results.measures.significance import spearman_brown

__all__ = ["bootstrap", "ceiling", "datamodelling", "rank_correlation", "top_share"]


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each row of ``a`` with that of ``b``, both (S, M); gives (S,).

    A row without any differences correlates with nothing, 0. A row that is not finite is NaN.
    """
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] < 2:
        raise BadValue(f"rows of shapes {a.shape} and {b.shape} cannot be correlated")
    x, y = (rankdata(each, axis=1) - (each.shape[1] + 1) / 2 for each in (a, b))
    norms = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    found = np.divide((x * y).sum(1), norms, out=np.zeros(len(a)), where=norms > 0)
    finite = np.isfinite(a).all(1) & np.isfinite(b).all(1)
    return np.where(finite, found, np.nan)


def datamodelling(scores: np.ndarray, design: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """The linear datamodelling score of each query, (S,) (Park et al., 2023).

    The rank correlation over M models of ``gains`` (S, M), how well each does on the query, with
    the sum of ``scores`` (S, N) over the sources that it saw, ``design`` (M, N). Where model m
    is a single source, as in leaving one out, it is the rank correlation over sources.
    """
    return rank_correlation(scores @ design.T, gains)


def top_share(scores: np.ndarray, truth: np.ndarray, k: int) -> np.ndarray:
    """Which share of the k sources highest in ``truth`` (S, N) are among those of ``scores``, (S,).

    By chance k / N.
    """
    if not 0 < k <= truth.shape[1]:
        raise BadValue(f"the top {k} of {truth.shape[1]} sources cannot be taken")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    right = np.argsort(-truth, axis=1, kind="stable")[:, :k]
    shares = (best[:, :, None] == right[:, None]).any(1).mean(1)
    return np.where(np.isfinite(scores).all(1), shares, np.nan)


def ceiling(halves: np.ndarray) -> float:
    """The correlation that a perfect predictor would have with the mean of two noisy halves.

    ``halves`` (2, S, M) are one truth measured with different noise. Their mean rank correlation
    r over queries gives the reliability of both together, 2 r / (1 + r), whose root this is.
    It knows the noise of the draws only, not the chance of training or of the code.
    """
    r = float(np.mean(rank_correlation(halves[0], halves[1])))
    return float(np.sqrt(max(spearman_brown(r, 2), 0.0))) if r > 0 else 0.0


def bootstrap(
    values: np.ndarray, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean of ``values`` (S,) over queries, or (R, S) over codes and queries, NaN left out, and
    its interval by resampling both.

    All NaN where no query has a value.
    """
    values = np.atleast_2d(values)
    values = values[:, np.isfinite(values).any(0)]
    R, S = values.shape
    if not S:
        return (np.nan,) * 3
    rng = np.random.default_rng(derive("yardstick bootstrap", seed))
    # How often each code and each query is drawn, in place of the draws themselves.
    queries = rng.multinomial(S, np.full(S, 1 / S), size=resamples)
    codes = rng.multinomial(R, np.full(R, 1 / R), size=resamples)
    there = np.isfinite(values)
    totals = np.einsum("br,rs,bs->b", codes, np.where(there, values, 0), queries, optimize=True)
    counts = np.einsum("br,rs,bs->b", codes, there, queries, optimize=True)
    means = totals[counts > 0] / counts[counts > 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(np.nanmean(values)), float(low), float(high)
