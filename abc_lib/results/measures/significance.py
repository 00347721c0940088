"""Is it the source, or the chance of its codeword? p-values, reliability, correction for both.

Codewords are drawn uniformly, so if a source makes no difference its codeword is exchangeable
with every one that no source owns. The rank of its statistic among theirs is then an exact
randomisation p-value (Fisher 1935; Phipson and Smyth 2010 for drawn ones).
"""

from collections.abc import Sequence

import numpy as np

from abc_lib.ground.errors import BadValue

__all__ = [
    "combined_p",
    "corrected_correlation",
    "discoveries",
    "fitted",
    "least_p",
    "rank_p",
    "reliability",
    "reliability_by_chance",
    "spearman_brown",
    "standardised",
]


def rank_p(own: np.ndarray, free: np.ndarray) -> np.ndarray:
    """p-values (..., N) of statistics ``own`` (..., N) among ``free`` (..., P, N), larger counts.

    The share of codewords, its own counted in, that reach as far: uniform on 1/(P + 1), 2/(P + 1),
    ... if sources make no difference and there are no ties, larger with ties.
    """
    return ((free >= own[..., None, :]).sum(-2) + 1) / (free.shape[-2] + 1)


def least_p(placebos: int, codes: int = 1) -> float:
    """The least p-value that so many placebos a code can give."""
    return float(placebos + 1) ** -codes


def standardised(own: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in units of their spread over a source's P + 1 codewords, its own among them.

    The own codeword is treated like every other one, so that they stay exchangeable.
    """
    everything = np.concatenate([own[..., None, :], free], axis=-2)
    middle, spread = everything.mean(-2, keepdims=True), everything.std(-2, keepdims=True)
    scaled = (everything - middle) / np.where(spread > 0, spread, 1)
    return scaled[..., 0, :], scaled[..., 1:, :]


def fitted(
    own: np.ndarray, free: np.ndarray, word: np.ndarray, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A statistic's least-squares fit that is linear in which members go.

    ``own`` (S,) and ``free`` (S, P) are a source's statistic along its codeword ``word`` (n,) and
    along ``others`` (P, n). One ablation is one draw of how half of the members act together; all
    P + 1 together say what each member does, so the fit is less noisy where members add up. All
    codewords are treated alike, so that they stay exchangeable and ranks of fits are exact.
    """
    words = np.concatenate([word[None], others]).astype(float)
    words -= words.mean(0)
    values = np.concatenate([own[:, None], free], axis=1).astype(float)
    middle = values.mean(1, keepdims=True)
    fits = (values - middle) @ np.linalg.pinv(words).T @ words.T + middle
    return fits[:, 0], fits[:, 1:]


def combined_p(
    own: np.ndarray, free: np.ndarray, codes: Sequence[int], draws: int, rng: np.random.Generator
) -> np.ndarray:
    """p-values (L, N) of the mean statistic over the first ``codes[l]`` of R independent codes.

    ``own`` (R, N) and ``free`` (R, P, N), standardised. If a source makes no difference, its
    codeword in every code is a uniform draw of that code's P + 1; the mean over codes is held
    against ``draws`` such draws, all codewords of a source within each code. With one code the
    p-value is the exact rank.
    """
    if max(codes) > len(own) or min(codes) < 1:
        raise BadValue(f"{len(own)} codes cannot be combined by {min(codes)} to {max(codes)}")
    pool = np.concatenate([own[:, None], free], axis=1)
    total, observed = np.zeros((draws, own.shape[-1]), pool.dtype), np.zeros(own.shape[-1])
    found = {1: rank_p(own[0], free[0])}
    for r in range(max(codes)):
        total += pool[r, rng.integers(pool.shape[1], size=draws)]
        observed = observed + own[r]
        if r and r + 1 in codes:
            # A hair below, so that the same sum in another order still counts as reached.
            reached = total >= (observed - 1e-6 * (r + 1)).astype(total.dtype)
            found[r + 1] = (reached.sum(0) + 1) / (draws + 1)
    return np.stack([found[count] for count in codes])


def discoveries(p: np.ndarray, rate: float = 0.1) -> np.ndarray:
    """Which of p-values (..., N) pass the procedure of Benjamini and Hochberg (1995)."""
    from scipy import stats

    return stats.false_discovery_control(p, axis=-1) <= rate


def _correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's over the last axis; NaN where one is constant."""
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    below = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return np.divide((a * b).sum(-1), below, out=np.full(below.shape, np.nan), where=below > 0)


def reliability(scores: np.ndarray, count: int = 1, splits: int = 50, seed: int = 0) -> np.ndarray:
    """How far the mean of ``count`` codes agrees with the mean of as many others, by sample (S,).

    ``scores`` (R, S, N), R at least twice ``count``. Pearson's correlation over sources, mean of
    random splits.
    """
    if 2 * count > len(scores):
        raise BadValue(f"{len(scores)} codes do not split into two times {count}; take fewer")
    rng, found = np.random.default_rng(seed), []
    for _ in range(splits):
        order = rng.permutation(len(scores))
        halves = scores[order[:count]].mean(0), scores[order[count : 2 * count]].mean(0)
        found.append(_correlations(*halves))
    return np.mean(found, axis=0)


def reliability_by_chance(
    scores: np.ndarray, count: int = 1, draws: int = 200, seed: int = 0
) -> np.ndarray:
    """The mean over samples of :func:`reliability` if sources meant nothing, (draws,).

    Sources are shuffled in every code, for all samples alike: samples share a code's chance, so
    their spread alone would call too much certain.
    """
    rng, found = np.random.default_rng(seed), []
    for _ in range(draws):
        shuffled = np.stack([code[:, rng.permutation(code.shape[1])] for code in scores])
        found.append(np.nanmean(reliability(shuffled, count, 3, int(rng.integers(2**31)))))
    return np.array(found)


def spearman_brown(one: float | np.ndarray, times: float) -> float | np.ndarray:
    """The reliability of a mean of ``times`` as many, from that of one (Spearman; Brown 1910)."""
    return times * one / (1 + (times - 1) * one)


def corrected_correlation(
    a: np.ndarray, b: np.ndarray, resamples: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float, float]]:
    """How far two ways agree about sources, and how far they would if neither were noisy.

    ``a`` (R, S, N) and ``b`` (Q, S, N) are repetitions of two ways. Each entry is the value and
    its 95% interval over bootstrap draws of samples and of sources: ``single``, the mean over
    samples of the correlation of one repetition with one; ``plain``, that of both means; ``first``
    and ``second``, the reliabilities of these means (split halves, Spearman and Brown);
    ``corrected``, plain over the root of both (Spearman
    1904), NaN where a reliability is not above 0.
    """
    S, N = a.shape[1:]
    rng = np.random.default_rng(seed)

    def worked_out(a, b, splits):
        single = float(np.nanmean(_correlations(a[:, None], b[None])))
        plain = float(np.nanmean(_correlations(a.mean(0), b.mean(0))))
        whole = []
        for way in (a, b):
            half = len(way) // 2
            each = float(np.nanmean(reliability(way, half, splits, seed)))
            whole.append(float(spearman_brown(each, len(way) / half)))
        product = whole[0] * whole[1]
        fine = min(whole) > 0
        return single, plain, *whole, plain / product**0.5 if fine else float("nan")

    found = worked_out(a, b, 50)
    drawn = []
    for _ in range(resamples):
        rows, columns = rng.integers(S, size=S), rng.integers(N, size=N)
        drawn.append(worked_out(a[:, rows][..., columns], b[:, rows][..., columns], 2))
    low, high = np.nanpercentile(np.array(drawn), [2.5, 97.5], axis=0)
    names = ("single", "plain", "first", "second", "corrected")
    return {n: (v, float(x), float(y)) for n, v, x, y in zip(names, found, low, high)}
