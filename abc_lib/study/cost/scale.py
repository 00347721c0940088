"""The same work for ten thousand to a hundred million sources: what grows with N and what not.

Counted as in :mod:`abc_lib.study.cost`, and scheduled by a simulation of workers that fail.
"""

import heapq
from dataclasses import dataclass
from math import comb, inf

import numpy as np
import pandas as pd

from abc_lib.ground.errors import BadValue, positive_int
from abc_lib.method.recipe import Recipe
from abc_lib.method.space import state_shape
from abc_lib.study.cost import TRAINING, cost_of

__all__ = ["Scale", "Schedule", "members_for", "scale_of", "scale_table", "simulate"]

PLACEBOS = 1024
"""codewords that nobody owns, of each sample"""


def members_for(sources: int, words: int = 2) -> int:
    """The least even n whose code of weight n / 2 has ``words`` codewords for each source: one of
    its own, the others for placebos.
    """
    n = 2
    while comb(n, n // 2) < words * sources:
        n += 2
    return n


@dataclass(frozen=True)
class Scale:
    """What N sources of one image each cost, in FLOP and bytes; of one sample where not said.

    ``training`` shows every member ``images`` images, ``exposed`` each of its images so often.
    ``screened`` is a Jacobian and k exact counterfactuals; ``predicted`` N landscape distances
    from it, which are inner products of n numbers.
    """

    sources: int
    members: int
    training: float
    exposed: float
    landscape: float
    jacobian: float
    screened: float
    predicted: float
    placebos: float
    landscape_bytes: int
    jacobian_bytes: int
    code_bytes: int


def scale_of(
    recipe: Recipe, sources: int, images: float = 1e6, exposure: float = 500, k: int = 64
) -> Scale:
    """Counts for ``sources`` sources with the network and sampler of ``recipe``."""
    n, flop = members_for(positive_int("sources", sources)), cost_of(recipe).flop
    steps, alive = recipe.sampling.steps, n // 2
    pixels = int(np.prod(state_shape(recipe.data)))
    jacobian = float(steps * n * (n + 1)) * flop
    return Scale(
        sources,
        n,
        training=TRAINING * n * images * flop,
        exposed=TRAINING * n * exposure * sources / 2 * flop,
        landscape=float(steps * (n + sources * alive)) * flop,
        jacobian=jacobian,
        screened=jacobian + k * steps * alive * flop,
        predicted=2.0 * sources * n * n,
        placebos=float(PLACEBOS * steps * alive) * flop,
        landscape_bytes=4 * sources,
        jacobian_bytes=2 * n * pixels,
        code_bytes=sources * -(-n // 8),
    )


def scale_table(scales: list[Scale]) -> pd.DataFrame:
    """A column a number of sources, a row a quantity, as numbers."""
    rows = {
        "members": [each.members for each in scales],
        "training, a million images each (FLOP)": [each.training for each in scales],
        "training, 500 views of each image (FLOP)": [each.exposed for each in scales],
        "exact landscape of a sample (FLOP)": [each.landscape for each in scales],
        "Jacobian (FLOP)": [each.jacobian for each in scales],
        "screened radius, 64 exact (FLOP)": [each.screened for each in scales],
        "all distances predicted from it (FLOP)": [each.predicted for each in scales],
        "1,024 placebos (FLOP)": [each.placebos for each in scales],
        "landscape kept (bytes)": [each.landscape_bytes for each in scales],
        "Jacobian kept (bytes)": [each.jacobian_bytes for each in scales],
        "codebook (bytes)": [each.code_bytes for each in scales],
    }
    table = pd.DataFrame(rows, index=[f"N = {each.sources:,}" for each in scales]).T
    grows = [values[-1] / values[0] for values in rows.values()]
    table.insert(0, "grows by", [f"{growth:,.{1 if growth < 10 else 0}f} ×" for growth in grows])
    return table.reset_index(names="of what")


@dataclass(frozen=True)
class Schedule:
    """How ``tasks`` went on workers that fail: ``hours`` by the clock, ``failures``, and the share
    of the workers' time that was spent on work that counted.
    """

    hours: float
    failures: int
    useful: float


def simulate(
    tasks: int,
    seconds: float,
    workers: int,
    failures: float = 0.0,
    checkpoint: float = inf,
    recovery: float = 60.0,
    seed: int = 0,
) -> Schedule:
    """``tasks`` of ``seconds`` each on ``workers``, each of which fails ``failures`` times an hour.

    Failures come at random (exponentially). A failed worker is back after ``recovery`` seconds;
    its task goes on elsewhere from its last checkpoint, which is made every ``checkpoint`` seconds.
    """
    positive_int("tasks", tasks)
    positive_int("workers", workers)
    if not seconds > 0 or not failures >= 0 or not checkpoint > 0 or not recovery >= 0:
        raise BadValue("times are above 0, failures and recovery 0 or more")
    rng, end, lost, failed = np.random.default_rng(seed), 0.0, 0.0, 0
    free = [(0.0, worker) for worker in range(workers)]
    waiting = [(0.0, task, seconds) for task in range(tasks)]
    while waiting:
        now, worker = heapq.heappop(free)
        ready, task, left = heapq.heappop(waiting)
        start = max(now, ready)
        breaks = rng.exponential(3600 / failures) if failures else inf
        if breaks >= left:
            heapq.heappush(free, (start + left, worker))
            end = max(end, start + left)
            continue
        kept = 0.0 if checkpoint == inf else breaks // checkpoint * checkpoint
        lost, failed = lost + breaks - kept, failed + 1
        heapq.heappush(waiting, (start + breaks, task, left - kept))
        heapq.heappush(free, (start + breaks + recovery, worker))
    return Schedule(end / 3600, failed, tasks * seconds / (workers * end))
