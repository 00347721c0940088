"""Methods that ask the members themselves, ablated or one by one."""

import numpy as np

from abc_lib.yardstick.methods.base import Method
from abc_lib.yardstick.tasks import Task
from abc_lib.yardstick.truths import MOVED, error_products

__all__ = ["METHODS"]


def _differential(task: Task) -> np.ndarray:
    """The rise of the loss at first order in c, from its derivative 2 G u / n^2 at c = u."""
    slopes = 2 * task.gram.mean(1).sum(3) / task.gram.shape[-1] ** 2
    changes = [book.leave_one_out() - 1 for book in task.codebooks]
    return np.mean([s @ c.T for s, c in zip(slopes, changes, strict=True)], axis=0)


def _moved(task: Task) -> np.ndarray:
    scores = np.full(task.shape, np.nan)
    if task.moved is not None:
        scores[task.moving] = task.moved[MOVED.index("moved"), 0]
    return scores


def _covariance(task: Task) -> np.ndarray:
    """Covariances over a code's members of the losses on queries and on sources, the mean over
    codes.
    """
    task.needed()
    found = []
    for gram, ensemble in zip(task.gram, task.ensembles, strict=True):
        both = gram.mean(0), error_products(ensemble, task.sources).mean(0)
        losses = [np.diagonal(each, axis1=1, axis2=2) for each in both]
        queries, sources = (each - each.mean(1, keepdims=True) for each in losses)
        found.append(queries @ sources.T / ensemble.n)
    return np.mean(found, axis=0)


METHODS = (
    Method(
        "differential ablation", "section 2.4, of the loss", "the truth's own losses", _differential
    ),
    Method(
        "distance moved", "the first code's landscape, section 2.4", "all counterfactuals", _moved
    ),
    Method(
        "loss covariance",
        "Daunce (Pan et al., 2025), members in place of perturbed models",
        "the truth's own losses",
        _covariance,
    ),
)
