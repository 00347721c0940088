"""What a method is, and what every method is tuned by."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from abc_lib.yardstick.tasks import Task

__all__ = ["Method", "Scores"]

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
