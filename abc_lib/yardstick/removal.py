"""What becomes of a query's loss when the sources that a method names first are all removed."""

import numpy as np

from abc_lib.yardstick.scores import bootstrap
from abc_lib.yardstick.tasks import Relabelled, Task

__all__ = ["MOST", "removal"]

MOST = 4
"""sources that are removed together at most: hardly a member has seen none of more"""


def removal(
    task: Task, scores: np.ndarray, relabelled: Relabelled | None = None, top: int = MOST
) -> list[dict]:
    """Rows for k = 1 to ``top``: the members that saw any of the k highest sources are ablated.

    Each row has ``rise``, by which share the loss rises, with ``low`` and ``high`` over codes and
    queries; ``control``, the mean rise with as many members gone but others; ``p``, the share of
    orders of the members with as large a rise; ``left``, the members left on average; and how many
    pairs of a code and a query were ``asked`` and ``answered``: of the rest no member is left.
    ``scores`` (S, N), NaN allowed.
    """
    relabelled, made = relabelled or Relabelled(task), []
    words, gram = task.words.astype(bool), task.gram.mean(1).astype(float)
    best = np.argsort(-scores, axis=1, kind="stable")
    for group, members in (("generated", task.generated), ("held out", ~task.generated)):
        asked = np.flatnonzero(members & ~task.tuning & np.isfinite(scores).all(1))
        if not len(asked):
            continue
        for k in range(1, top + 1):
            left = ~words[:, best[asked, :k]].any(2)
            answered = left.any(2)
            row = {"queries": group, "k": k, "asked": answered.size, "answered": answered.sum()}
            if not answered.any():
                names = ("left", "rise", "low", "high", "control", "p")
                made.append(row | dict.fromkeys(names, np.nan))
                continue
            mine = gram[:, asked]
            others = [
                np.nanmean(_rises(mine, np.take_along_axis(left, order[:, None], axis=2)))
                for order in relabelled.orders
            ]
            mean, low, high = bootstrap(_rises(mine, left))
            row |= {"left": left.sum(2)[answered].mean(), "rise": mean, "low": low, "high": high}
            row["control"] = float(np.mean(others))
            row["p"] = float((1 + (np.array(others) >= mean).sum()) / (1 + len(others)))
            made.append(row)
    return made


def _rises(gram: np.ndarray, left: np.ndarray) -> np.ndarray:
    """By which share the loss of the members ``left`` (R, Q, n) exceeds that of all, (R, Q)."""
    count = left.sum(2, keepdims=True)
    shares = np.where(count > 0, left / np.maximum(count, 1), np.nan)[:, :, None]
    return ((shares @ gram) * shares).sum((2, 3)) / gram.mean((2, 3)) - 1
