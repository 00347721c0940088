"""Constant-weight codes: who trains on what, and who survives an ablation (2.3, A.1, A.2).

Each data source is assigned a codeword of length n and Hamming weight w. Member i
trains on the sources whose codeword has a 1 in position i (section 2.3). Because
all codewords have the same weight, ablating the members that saw one source never
removes all that saw another (theorem 1, appendix A.1).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from abc_lib.ground.errors import BadValue, NoSurvivors, positive_int
from abc_lib.ground.seeds import derive
from abc_lib.method.recipe import Code, Recipe

__all__ = ["Codebook", "draw_codebook", "smallest_sufficient_n", "codeword_at"]

Sources = int | Sequence[int] | np.ndarray
"""one or several data sources, by number"""


def smallest_sufficient_n(num_sources: int) -> int:
    """The least ensemble size n with C(n, n // 2) >= ``num_sources`` (appendix A.2)."""
    n = 1
    while comb(n, n // 2) < num_sources:
        n += 1
    return n


def codeword_at(rank: int, n: int, weight: int) -> np.ndarray:
    """The codeword of a given rank in lexicographic order of supports.

    Returns a uint8 vector of shape (n,) with ``weight`` ones. Ranks run from 0 to
    C(n, weight) - 1; this is the combinatorial number system, so no list of
    codewords is ever made.
    """
    if not 0 <= rank < comb(n, weight):
        raise BadValue(
            f"rank {rank} is outside 0..{comb(n, weight) - 1}, the codewords of n={n}, "
            f"weight={weight}"
        )
    word = np.zeros(n, dtype=np.uint8)
    left = weight
    for position in range(n):
        if left == 0:
            break
        with_one = comb(n - position - 1, left - 1)
        if rank < with_one:
            word[position] = 1
            left -= 1
        else:
            rank -= with_one
    return word


def _distinct_ranks(total: int, count: int, rng: random.Random) -> list[int]:
    """``count`` distinct integers below ``total``, uniformly and in random order.

    Floyd's algorithm: exactly one draw a value, so it neither enumerates ``total``
    nor stalls when ``count`` comes close to it.
    """
    chosen: set[int] = set()
    order = []
    for last in range(total - count, total):
        rank = rng.randrange(last + 1)
        if rank in chosen:
            rank = last
        chosen.add(rank)
        order.append(rank)
    rng.shuffle(order)
    return order


@dataclass(frozen=True, eq=False)
class Codebook:
    """N distinct codewords of length n and equal weight, row s for data source s.

    ``words`` has shape (N, n), dtype uint8, entries 0 or 1.
    """

    words: np.ndarray

    def __post_init__(self) -> None:
        words = self.words
        if words.ndim != 2 or 0 in words.shape or not np.isin(words, (0, 1)).all():
            raise BadValue(
                "a codebook is a matrix of zeros and ones with one row a source and one column a "
                "member"
            )
        if len(set(words.sum(1).tolist())) != 1:
            raise BadValue("the codewords differ in weight; theorem 1 needs a constant weight")
        if not 0 < words[0].sum() < words.shape[1]:
            raise BadValue(
                "a weight of 0 or of n leaves a source unseen or nobody without it; choose one in "
                "between"
            )
        if len(np.unique(words, axis=0)) != len(words):
            raise BadValue("two sources share a codeword; every source needs its own")

    @classmethod
    def draw(cls, n: int, weight: int, num_sources: int, seed: int) -> "Codebook":
        """A random codebook of ``num_sources`` codewords; the same seed gives the same one."""
        return _drawn(Code(n, weight, seed), positive_int("num_sources", num_sources))

    @property
    def num_sources(self) -> int:
        """N, the number of data sources."""
        return self.words.shape[0]

    @property
    def n(self) -> int:
        """n, the number of members."""
        return self.words.shape[1]

    @property
    def weight(self) -> int:
        """The Hamming weight of every codeword: how many members see a source."""
        return int(self.words[0].sum())

    def split(self, member: int) -> np.ndarray:
        """The sources that ``member`` trains on, ascending, int64."""
        if not 0 <= member < self.n:
            raise BadValue(f"member {member} is outside 0..{self.n - 1}")
        return np.flatnonzero(self.words[:, member])

    def checked(self, sources: Sources) -> np.ndarray:
        """Source numbers as int64, shape (K,); a mask or a fraction is no source number."""
        numbers = np.atleast_1d(np.asarray(sources))
        last = self.num_sources - 1
        if len(numbers) and not np.issubdtype(numbers.dtype, np.integer):
            raise BadValue(f"sources are given by number, 0..{last}, not as {numbers.dtype}")
        outside = numbers[(numbers < 0) | (numbers > last)]
        if len(outside):
            worst = outside.max() if outside.max() >= 0 else outside.min()
            raise BadValue(f"source {worst} is outside 0..{last}")
        return numbers.astype(np.int64)

    def survivors(self, sources: Sources) -> np.ndarray:
        """Which members have seen none of ``sources``: a boolean vector of shape (n,).

        Raises :class:`NoSurvivors` when every member has seen one of them.
        """
        removed = self.checked(sources)
        alive = ~self.words[removed].any(axis=0)
        if not alive.any():
            raise NoSurvivors(
                f"no member survives without these {len(removed)} sources: each of the {self.n} "
                "members saw at least one; remove fewer at once, or train more members of a "
                "smaller weight"
            )
        return alive

    def ablation(self, sources: Sources) -> np.ndarray:
        """The weights c that remove ``sources``: 0 for members that saw one, else n / survivors.

        Shape (n,), float64. Under the f . c of section 2.4 this is the mean of the
        survivors. An empty list gives the all-one vector, the whole ensemble.
        """
        alive = self.survivors(sources)
        return alive * (self.n / alive.sum())

    def unowned(self, count: int, seed: int = 0) -> np.ndarray:
        """Codewords that no source owns, (count, n) uint8, uniformly drawn and all different.

        Ablating along one removes w of the n members and no source: a placebo. Fewer come back
        where the code has not so many left.
        """
        total = comb(self.n, self.weight)
        count = min(positive_int("count", count), total - self.num_sources)
        rng = random.Random(derive("placebo", self.n, self.weight, self.num_sources, seed))
        owned = {word.tobytes() for word in self.words}
        ranks = _distinct_ranks(total, count + self.num_sources, rng)
        words = (codeword_at(rank, self.n, self.weight) for rank in ranks)
        free = [word for word in words if word.tobytes() not in owned][:count]
        return np.array(free, dtype=np.uint8).reshape(-1, self.n)

    def leave_one_out(self, sources: Sources | None = None) -> np.ndarray:
        """Row k removes ``sources[k]`` alone (default: every source). Shape (N, n), float64."""
        words = self.words if sources is None else self.words[self.checked(sources)]
        return (1 - words) * (self.n / (self.n - self.weight))


def draw_codebook(recipe: Recipe) -> Codebook:
    """The recipe's code: which member sees which source."""
    return _drawn(recipe.code, recipe.data.num_sources)


def _drawn(code: Code, num_sources: int) -> Codebook:
    n, weight, total = code.n, code.weight, comb(code.n, code.weight)
    if num_sources > total:
        enough = smallest_sufficient_n(num_sources)
        raise BadValue(
            f"{n} members of weight {weight} give {total} codewords, too few for "
            f"{num_sources} sources; {enough} members of weight {enough // 2} would do"
        )
    rng = random.Random(derive("codebook", n, weight, num_sources, code.seed))
    ranks = _distinct_ranks(total, num_sources, rng)
    return Codebook(np.array([codeword_at(rank, n, weight) for rank in ranks]))
