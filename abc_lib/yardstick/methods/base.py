"""What a method is, and what every method is tuned by."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from abc_lib.yardstick.tasks import Task
from abc_lib.yardstick.truths import noised

__all__ = ["Method", "Scores", "source_losses"]

Scores = Callable[[Task], np.ndarray]


@dataclass(frozen=True)
class Method:
    """A name, the paper it is from, what it needs, and a function from a task to scores (S, N).

    ``feature`` names the gradients that it shares with other methods, so that their time counts
    for each of them.
    """

    name: str
    paper: str
    needs: str
    scores: Scores
    feature: str = ""


def source_losses(task: Task, times: int) -> Callable[[Callable], torch.Tensor]:
    """A function from a network, called as ``call(x, t)``, to its squared errors on the sources'
    images at so many times, (N, K): with the same noise whatever the network.
    """
    x, noise, t = noised(task.recipe, task.sources, times, "sources")
    states, when = x.flatten(0, 1), t.repeat(len(x))

    def losses(call: Callable) -> torch.Tensor:
        wrong = (call(states, when) - noise.flatten(0, 1)) ** 2
        return wrong.flatten(1).mean(1).view(len(x), -1)

    return losses
