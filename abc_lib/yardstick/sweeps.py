"""What two methods of gradients owe to damping, to Monte Carlo draws and to projection."""

from collections.abc import Iterable

import numpy as np

from abc_lib.yardstick.gradients import Kernels, influence
from abc_lib.yardstick.methods.by_gradients import DAMPINGS
from abc_lib.yardstick.scores import bootstrap
from abc_lib.yardstick.tasks import GRADIENT_TIMES, Task

__all__ = ["DIMS", "DRAWS", "SWEPT", "sweeps"]

SWEPT = {"TRAK-like": "loss", "D-TRAK-like": "square"}
"""methods, and the function that each differentiates"""
DRAWS = (1, 2, 5, 10, 20, 40)
DIMS = (64, 256, 1024, 4096)


def sweeps(task: Task, draws: Iterable[int] = DRAWS, dims: Iterable[int] = DIMS) -> list[dict]:
    """Rows with ``method``, ``sweep``, ``value``, ``queries``, ``score``, ``low``, ``high`` and
    ``seconds``, under the truth of members.

    Of "damping" each value is scored as it is; of "draws" and "projection" (0: none) the damping is
    chosen anew each time, with queries that are not scored. What is not swept is as in the table.
    """
    made = []
    for method, feature in SWEPT.items():
        exact = task.kernels(feature)
        for damping in DAMPINGS:
            made += _rows(task, method, "damping", damping, influence(exact, damping), exact)
        for count in draws:
            found = task.kernels(feature, count)
            made += _rows(task, method, "draws", count, _tuned(task, found), found)
        made += _rows(task, method, "projection", 0, _tuned(task, exact), exact)
        for size in dims:
            found = task.kernels(feature, GRADIENT_TIMES, size)
            made += _rows(task, method, "projection", size, _tuned(task, found), found)
    return made


def _tuned(task: Task, found: Kernels) -> np.ndarray:
    return task.choose({damping: influence(found, damping) for damping in DAMPINGS})


def _rows(
    task: Task, method: str, sweep: str, value: float, scores: np.ndarray, found: Kernels
) -> list[dict]:
    made, truth = [], task.truths["members"]
    for queries, members in (("generated", task.generated), ("held out", ~task.generated)):
        mine = np.flatnonzero(members & ~task.tuning)
        names = "method", "sweep", "value", "queries", "score", "low", "high", "seconds"
        reached = bootstrap(truth.score(scores, mine))
        told = (method, sweep, float(value), queries, *reached, found.seconds)
        made.append(dict(zip(names, told, strict=True)))
    return made
