"""Attribution methods, each a function from a task to scores (S, N).

The sign is the same for all: the higher the score, the more the source helped with the query.
The scale is a method's own, as only ranks count. A row of NaN says that a method has nothing to
say of a query.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from abc_lib.yardstick.gradients import Kernels, cosines, influence, relative_influence
from abc_lib.yardstick.methods import inside, pixels
from abc_lib.yardstick.tasks import Task

__all__ = ["DAMPINGS", "METHODS", "Method"]

DAMPINGS = tuple(10.0**k for k in range(-4, 4))
"""in units of the mean squared norm of a source's gradient"""


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


def _damped(
    feature: str, scores: Callable[[Kernels, float], np.ndarray]
) -> Callable[[Task], np.ndarray]:
    def chosen(task: Task) -> np.ndarray:
        found = task.kernels(feature)
        return task.choose({damping: scores(found, damping) for damping in DAMPINGS})

    return chosen


_LIST = (
    Method("random", "none: the control", "nothing", pixels.random),
    Method(
        "pixel distance",
        "none: minus the squared distance",
        "images",
        lambda task: -pixels.squared(task.queries, task.sources),
    ),
    Method(
        "softmax kernel",
        "the weights of the optimal denoiser, its width tuned",
        "images",
        pixels.kernel,
    ),
    Method(
        "patch kernel, in place",
        "local score (Kamb and Ganguli, 2024), its width tuned",
        "images",
        pixels.same_place,
    ),
    Method(
        "patch kernel, anywhere",
        "equivariant local score (Kamb and Ganguli, 2024), its width tuned",
        "images",
        pixels.anywhere,
    ),
    Method(
        "feature kernel",
        "none: the softmax kernel on a classifier's features",
        "a classifier",
        pixels.features,
    ),
    Method(
        "same class", "none: the same label, by a classifier", "a classifier", pixels.same_class
    ),
    Method(
        "activations",
        "none: cosine of the U-Net's inner activations",
        "members",
        inside.activations,
    ),
    Method(
        "gradient product",
        "TracIn, last checkpoint (Pruthi et al., 2020)",
        "gradients",
        lambda task: task.kernels("loss").across.mean(0),
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
        _damped("loss", influence),
        "loss",
    ),
    Method(
        "D-TRAK-like",
        "D-TRAK (Zheng et al., 2024), exact, damping tuned",
        "gradients",
        _damped("square", influence),
        "square",
    ),
    Method(
        "relative influence",
        "RelatIF (Barshan et al., 2020), exact, damping tuned",
        "gradients",
        _damped("loss", relative_influence),
        "loss",
    ),
    Method(
        "relative D-TRAK",
        "RelatIF on the features of D-TRAK",
        "gradients",
        _damped("square", relative_influence),
        "square",
    ),
    Method(
        "unlearning",
        "one ascent step on the query (Wang et al., 2024)",
        "gradients",
        inside.unlearning,
    ),
    Method(
        "loss covariance",
        "Daunce: covariance of losses over members",
        "the truth's own losses",
        inside.covariance,
    ),
    Method(
        "differential ablation",
        "section 2.4, of the loss",
        "the truth's own losses",
        inside.differential,
    ),
    Method("distance moved", "the landscape of section 2.4", "all counterfactuals", inside.moved),
)
METHODS = {method.name: method for method in _LIST}
"""by name"""
