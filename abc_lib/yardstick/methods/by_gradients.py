"""Methods made of exact gradients in all parameters."""

import numpy as np

from abc_lib.yardstick.gradients import cosines, influence
from abc_lib.yardstick.methods.base import Method, Scores
from abc_lib.yardstick.tasks import Task

__all__ = ["DAMPINGS", "METHODS"]

DAMPINGS = tuple(10.0**k for k in range(-4, 4))
"""in units of the mean squared norm of a source's gradient"""


def _product(task: Task) -> np.ndarray:
    return task.kernels("loss").across.mean(0)


def _damped(feature: str, form=influence) -> Scores:
    def scores(task: Task) -> np.ndarray:
        found = task.kernels(feature)
        return task.choose({damping: form(found, damping) for damping in DAMPINGS})

    return scores


METHODS = (
    Method(
        "gradient product",
        "TracIn, last checkpoint (Pruthi et al., 2020)",
        "gradients",
        _product,
        "loss",
    ),
    Method(
        "gradient cosine",
        "GAS (Hammoudeh and Lowd, 2022)",
        "gradients",
        lambda task: cosines(task.kernels("loss")),
        "loss",
    ),
    Method(
        "TRAK-like",
        "TRAK (Park et al., 2023), exact, damping tuned",
        "gradients",
        _damped("loss"),
        "loss",
    ),
    Method(
        "D-TRAK-like",
        "D-TRAK (Zheng et al., 2024), exact, damping tuned",
        "gradients",
        _damped("square"),
        "square",
    ),
)
