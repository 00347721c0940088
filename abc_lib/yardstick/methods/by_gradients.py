"""Methods made of exact gradients in all parameters."""

import numpy as np
import torch

from abc_lib.yardstick.gradients import (
    cosines,
    gauss_newton,
    influence,
    relative_influence,
    unlearned,
)
from abc_lib.yardstick.methods.base import Method, Scores
from abc_lib.yardstick.tasks import Task, noised

__all__ = ["DAMPINGS", "METHODS"]

DAMPINGS = tuple(10.0**k for k in range(-4, 4))
"""in units of the mean squared norm of a source's gradient, or of a sketch"""
RISES = (0.1, 1.0)
"""by which one step of ascent raises the loss on a query, as shares of it"""
UNLEARNED_TIMES = 5


def _product(task: Task) -> np.ndarray:
    return task.kernels("loss").across.mean(0)


def _damped(feature: str, form=influence) -> Scores:
    def scores(task: Task) -> np.ndarray:
        found = task.kernels(feature)
        return task.choose({damping: form(found, damping) for damping in DAMPINGS})

    return scores


def _unlearning(task: Task) -> np.ndarray:
    member = task.needed().members[0]
    x, noise, t = noised(task.recipe, task.sources, UNLEARNED_TIMES, "sources")
    states, times = x.flatten(0, 1), t.repeat(len(x))

    def losses(call) -> torch.Tensor:
        return (
            ((call(states, times) - noise.flatten(0, 1)) ** 2)
            .flatten(1)
            .mean(1)
            .view(len(x), -1)
            .mean(1)
        )

    gradients = task.query_gradients(member)
    own = torch.from_numpy(task.gram[0, 0, :, 0, 0])
    return task.choose({rise: unlearned(member, gradients, losses, rise * own) for rise in RISES})


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
    Method(
        "relative influence",
        "theta-RIF (Barshan et al., 2020), exact, damping tuned",
        "gradients",
        _damped("loss", relative_influence),
        "loss",
    ),
    Method(
        "Gauss-Newton",
        "influence functions (Mlodozeniec et al., 2025), four sketches a source, no Kronecker "
        "factors, damping tuned",
        "gradients",
        _damped("sketch", gauss_newton),
        "sketch",
    ),
    Method(
        "Journey-TRAK-like",
        "Journey-TRAK (Georgiev et al., 2023), mean over steps, damping tuned",
        "gradients",
        _damped("journey"),
        "journey",
    ),
    Method(
        "unlearning",
        "one step of ascent (Wang et al., 2024), first member, no Fisher matrix, its size tuned",
        "gradients",
        _unlearning,
    ),
)
