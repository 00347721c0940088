"""Attribution methods held against exact counterfactuals of one training set.

A task has queries and truths: what the loss on a query becomes without a source, or for a model
that saw half of them. A method gives every source a score for every query: the higher, the more
it helped. Scores are rank correlations with a truth, beside the ceiling that the truth's own
noise sets, an interval over queries and codes, and what relabelled members give.
"""

from abc_lib.yardstick.methods import METHODS, Method
from abc_lib.yardstick.report import (
    TITLES,
    beside,
    compare_truths,
    costs,
    find,
    hardest,
    ranking_table,
    removed,
    same_ranking,
    score_file,
    shown,
    swept,
)
from abc_lib.yardstick.table import Yardstick, get, measure, origin, publish, read, stored
from abc_lib.yardstick.tasks import Task, make_task
from abc_lib.yardstick.truths import Truth
from abc_lib.yardstick.verdicts import (
    advice,
    cost_verdict,
    hardest_verdict,
    published_verdict,
    radius_verdict,
    ranking_verdict,
    removal_verdict,
    sweep_verdict,
    unrolled_verdict,
)

__all__ = [
    "METHODS",
    "TITLES",
    "Method",
    "Task",
    "Truth",
    "Yardstick",
    "advice",
    "beside",
    "compare_truths",
    "cost_verdict",
    "costs",
    "find",
    "get",
    "hardest",
    "hardest_verdict",
    "make_task",
    "measure",
    "origin",
    "publish",
    "published_verdict",
    "radius_verdict",
    "ranking_table",
    "ranking_verdict",
    "read",
    "removal_verdict",
    "removed",
    "same_ranking",
    "score_file",
    "shown",
    "stored",
    "sweep_verdict",
    "swept",
    "unrolled_verdict",
]
