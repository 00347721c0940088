"""The published study: the paper's ensembles one after another, as far as a machine and a time budget go.

``plan`` says what there is to do, most informative first; ``run_study`` does it; ``parcels``
carries the work to a machine without network and its results back; ``pages`` executes the
notebooks that show them.
"""

from .pages import execute_pages, pages_of_the_book
from .parcels import PARCEL, TRAVELS, Parcels, unpack, write_archive
from .plan import ROUNDS, Piece, plan_study, seconds_per_evaluation, study_names
from .run import Outcome, estimate_study, run_study

__all__ = [
    "PARCEL",
    "ROUNDS",
    "TRAVELS",
    "Outcome",
    "Parcels",
    "Piece",
    "estimate_study",
    "execute_pages",
    "pages_of_the_book",
    "plan_study",
    "run_study",
    "seconds_per_evaluation",
    "study_names",
    "unpack",
    "write_archive",
]
