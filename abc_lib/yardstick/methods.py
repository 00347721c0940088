"""Attribution methods, each a function from a task to scores (S, N).

The sign is the same for all: the higher the score, the more the source helped with the query.
The scale is a method's own, as only ranks count. A row of NaN says that a method has nothing to
say of a query.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from abc_lib.ground.errors import BadValue
from abc_lib.ground.seeds import derive
from abc_lib.results import landscapes
from abc_lib.yardstick.gradients import cosines, influence
from abc_lib.yardstick.tasks import Task

__all__ = ["DAMPINGS", "METHODS", "WIDTHS", "Method"]

DAMPINGS = tuple(10.0**k for k in range(-4, 4))
"""in units of the mean squared norm of a source's gradient"""
WIDTHS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""of a softmax kernel, in units of the mean squared distance"""


@dataclass(frozen=True)
class Method:
    """A name, the paper it is from, what it needs, and a function from a task to scores (S, N).

    ``feature`` names the gradients that it shares with other methods, so that their time counts
    for each of them.
    """

    name: str
    paper: str
    needs: str
    scores: Callable[[Task], np.ndarray]
    feature: str = ""


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


def _product(task: Task) -> np.ndarray:
    return task.kernels("loss").across.mean(0)


def _influence(feature: str) -> Callable[[Task], np.ndarray]:
    def scores(task: Task) -> np.ndarray:
        found = task.kernels(feature)
        return task.choose({damping: influence(found, damping) for damping in DAMPINGS})

    return scores


def _differential(task: Task) -> np.ndarray:
    """The rise of the loss at first order in c, from its derivative 2 G u / n^2 at c = u."""
    n = task.codebook.n
    slope = 2 * task.gram.mean(0).sum(2) / n**2
    return slope @ (task.codebook.leave_one_out() - 1).T


def _moved(task: Task) -> np.ndarray:
    if task.ensemble is None:
        raise BadValue("this task has no ensemble to ablate; make it with make_task")
    scores = np.full(task.shape, np.nan)
    count = int(task.generated.sum())
    found = landscapes.get(task.ensemble, count, 0, here=task.here)
    scores[task.generated] = found.distances
    return scores


METHODS = {
    method.name: method
    for method in (
        Method("random", "none: the control", "nothing", _random),
        Method(
            "pixel distance",
            "none: minus the squared distance",
            "images",
            lambda task: -_squared(task),
        ),
        Method(
            "softmax kernel",
            "the weights of the optimal denoiser, its width tuned",
            "images",
            _softmax,
        ),
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
            _influence("loss"),
            "loss",
        ),
        Method(
            "D-TRAK-like",
            "D-TRAK (Zheng et al., 2024), exact, damping tuned",
            "gradients",
            _influence("square"),
            "square",
        ),
        Method(
            "differential ablation",
            "section 2.4, of the loss",
            "the truth's own losses",
            _differential,
        ),
        Method("distance moved", "the landscape of section 2.4", "all counterfactuals", _moved),
    )
}
"""by name"""
