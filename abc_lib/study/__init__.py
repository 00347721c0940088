"""The published study: what there is to do, its cost, the paper's claims, the book's pages.

The command line is here as well.
This room may use all others; none uses it.
"""

from abc_lib.study.pages import execute_pages, pages_of_the_book
from abc_lib.study.plan import Piece, plan_study, study_names
from abc_lib.study.run import Outcome, estimate_study, run_study

__all__ = [
    "study_names",
    "plan_study",
    "estimate_study",
    "run_study",
    "pages_of_the_book",
    "execute_pages",
    "Piece",
    "Outcome",
]
