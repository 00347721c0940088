"""The table of the paper's claims: complete, worked out from artefacts, and honest about what was not run."""

import numpy as np
import pytest

from abc_lib.claims import NO, OPEN, PARTLY, YES, claims, claims_table
from abc_lib.paths import ROOT
from abc_lib.radius import fit_law, paper_summaries
from abc_lib.runs import family_radii, summarise_all


@pytest.fixture(scope="module")
def found():
    return claims()


def test_every_section_that_makes_claims_has_a_row(found):
    sections = " ".join(claim.section for claim in found)
    for section in ("3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "C.1", "C.2", "C.3", "C.4", "C.5", "C.6"):
        assert section in sections
    assert len({claim.claim for claim in found}) == len(found) >= 20


def test_rows_are_whole(found):
    for claim in found:
        assert claim.verdict in (YES, PARTLY, NO, OPEN) and claim.claim.endswith(".")
        assert claim.paper and claim.ours and "nan" not in claim.ours and "\n" not in claim.ours
        assert claim.ours.startswith("needs ") == (claim.verdict == OPEN)
        assert list((ROOT / "book").glob(f"{claim.page}.*")), f"no page {claim.page} in the book"


def test_without_results_claims_are_not_run(store):
    empty = claims(store)
    # what rests on arithmetic or on the benchmarks' file needs no artefact
    assert {claim.section for claim in empty if claim.verdict != OPEN} == {"A.2", "A.3"}
    assert len(empty) == len(claims())


def test_the_slope_is_that_of_the_stored_radii(found):
    row = next(claim for claim in found if claim.claim.startswith("The slope is"))
    points = [(np.log10(s.size), s.mean) for s in summarise_all(family_radii("digits_64"), "laptop")]
    slope = np.polyfit(*zip(*points), 1)[0]
    assert f"{slope:.3f}" in row.ours and f"{fit_law(paper_summaries()).slope:.3f}" in row.paper


def test_the_table_links_to_pages(found):
    table = claims_table(found)
    assert table.columns.tolist() == ["section", "verdict", "claim", "paper", "here"] and len(table) == len(found)
    assert table["section"].tolist() == [f'<a href="{claim.page}.html">{claim.section}</a>' for claim in found]
