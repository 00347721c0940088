"""Methods that ask the members themselves, ablated or one by one."""

import numpy as np

from abc_lib.results import landscapes
from abc_lib.yardstick.methods.base import Method
from abc_lib.yardstick.tasks import Task, error_products

__all__ = ["METHODS"]


def _differential(task: Task) -> np.ndarray:
    """The rise of the loss at first order in c, from its derivative 2 G u / n^2 at c = u."""
    n = task.codebook.n
    slope = 2 * task.gram.mean(0).sum(2) / n**2
    return slope @ (task.codebook.leave_one_out() - 1).T


def _moved(task: Task) -> np.ndarray:
    scores = np.full(task.shape, np.nan)
    count = int(task.generated.sum())
    found = landscapes.get(task.needed(), count, 0, here=task.here)
    scores[task.generated] = found.distances
    return scores


def _covariance(task: Task) -> np.ndarray:
    """Covariances over members of the losses on queries and on sources."""
    losses = [
        np.diagonal(gram.mean(0), axis1=1, axis2=2)
        for gram in (task.gram, error_products(task.needed(), task.sources))
    ]
    queries, sources = (each - each.mean(1, keepdims=True) for each in losses)
    return queries @ sources.T / task.codebook.n


METHODS = (
    Method(
        "differential ablation", "section 2.4, of the loss", "the truth's own losses", _differential
    ),
    Method("distance moved", "the landscape of section 2.4", "all counterfactuals", _moved),
    Method(
        "loss covariance",
        "Daunce (Pan et al., 2025), members in place of perturbed models",
        "the truth's own losses",
        _covariance,
    ),
)
