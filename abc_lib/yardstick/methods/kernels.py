"""Methods that compare images, and the control that looks at nothing."""

import numpy as np

from abc_lib.ground.seeds import derive
from abc_lib.yardstick.methods.base import Method
from abc_lib.yardstick.tasks import Task

__all__ = ["METHODS", "WIDTHS"]

WIDTHS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""of a softmax kernel, in units of the mean squared distance"""


def _random(task: Task) -> np.ndarray:
    return np.random.default_rng(derive("yardstick random")).normal(size=task.shape)


def _squared(task: Task) -> np.ndarray:
    """Mean squared distances (S, N) of queries and sources in pixels."""
    queries, sources = (each.flatten(1).double() for each in (task.queries, task.sources))
    return ((queries[:, None] - sources) ** 2).mean(-1).numpy()


def _softmax(task: Task) -> np.ndarray:
    squared = _squared(task)
    near = squared.min(1, keepdims=True)
    raised = {w: np.exp((near - squared) / (w * squared.mean())) for w in WIDTHS}
    return task.choose({w: each / each.sum(1, keepdims=True) for w, each in raised.items()})


METHODS = (
    Method("random", "none: the control", "nothing", _random),
    Method(
        "pixel distance", "none: minus the squared distance", "images", lambda task: -_squared(task)
    ),
    Method(
        "softmax kernel", "the weights of the optimal denoiser, its width tuned", "images", _softmax
    ),
)
