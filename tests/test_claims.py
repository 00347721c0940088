"""The table of the paper's claims: complete, worked out from artefacts, and honest about what was not run."""

import sys

import numpy as np
import pytest

from abc_lib.ground.paths import ROOT
from abc_lib.images.registry import get_recipe
from abc_lib.method.radius import fit_law
from abc_lib.results.class_counts import find_class_counts
from abc_lib.results.radii import family_radii, paper_summaries, summarise_all
from abc_lib.study.claims import NO, OPEN, PARTLY, YES, claims, claims_table


@pytest.fixture(scope="module")
def found():
    return claims()


def test_every_section_that_makes_claims_has_a_row(found):
    sections = " ".join(claim.section for claim in found)
    for section in (
        "3.1",
        "3.2",
        "3.3",
        "3.4",
        "3.5",
        "3.6",
        "C.1",
        "C.2",
        "C.3",
        "C.4",
        "C.5",
        "C.6",
    ):
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


def test_images_that_are_not_here_are_not_fetched_for_it(found, monkeypatch):
    # the package's name for the module is its function
    monkeypatch.setattr(
        sys.modules["abc_lib.claims"], "available", lambda family, split: family == "digits"
    )
    again = claims()
    assert [claim.claim for claim in again] == [claim.claim for claim in found]
    (row,) = [claim for claim in again if claim.section == "3.4, C.5"]
    assert "MNIST" not in row.ours and "digits" in row.ours


def test_the_slope_is_that_of_the_stored_radii(found):
    row = next(claim for claim in found if claim.claim.startswith("The slope is"))
    for first in ("digits_64", "mnist_256"):
        points = [(np.log10(s.size), s.mean) for s in summarise_all(family_radii(first), "laptop")]
        assert len(points) >= 4 and f"{np.polyfit(*zip(*points), 1)[0]:.3f}" in row.ours
    assert f"{fit_law(paper_summaries()).slope:.3f}" in row.paper


def test_the_pullovers_are_those_that_were_counted(found):
    row = next(claim for claim in found if claim.claim.startswith("Pullovers"))
    ablation, retraining = (
        find_class_counts(get_recipe("fashion_classes"), method)
        for method in ("ablation", "retraining")
    )
    with_them, without = retraining.counts[0, 2], retraining.counts[1 + 2, 2]
    assert (
        f"{with_them / retraining.samples:.1%} with them and {without / retraining.samples:.1%} without"
        in row.ours
    )
    assert (
        f"by ablation {ablation.counts[0, 2] / ablation.samples:.1%} and {ablation.counts[3, 2] / ablation.samples:.1%}"
        in row.ours
    )
    # two shares of so many samples each: the usual test of their difference, pooled
    pooled = (with_them + without) / (2 * retraining.samples)
    z = (
        (without - with_them)
        / retraining.samples
        / np.sqrt(2 * pooled * (1 - pooled) / retraining.samples)
    )
    assert row.verdict == (YES if z > 2 else NO if z < -2 else PARTLY) or abs(abs(z) - 2) < 0.05


def test_the_table_links_to_pages(found):
    table = claims_table(found)
    assert table.columns.tolist() == ["section", "verdict", "claim", "paper", "here"] and len(
        table
    ) == len(found)
    assert table["section"].tolist() == [
        f'<a href="{claim.page}.html">{claim.section}</a>' for claim in found
    ]
