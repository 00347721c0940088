"""The table of the paper's claims: complete, worked out from artefacts, honest about what was not
run, and each verdict by a rule that numbers for and against are fed to."""

import inspect

import numpy as np
import pytest

from abc_lib.ground.here import Here
from abc_lib.ground.paths import ROOT
from abc_lib.images.registry import get_recipe
from abc_lib.method.radius import fit_law
from abc_lib.results import class_counts
from abc_lib.results.measures import radii
from abc_lib.study.claims import measures, rules
from abc_lib.study.claims.__init__ import ROWS, claims, claims_table, judge
from abc_lib.study.claims.rules import NO, OPEN, PARTLY, YES

RULES = dict(inspect.getmembers(rules, inspect.isfunction))
RULES = {name: rule for name, rule in RULES.items() if not name.startswith("_")}
CASES = [
    ("viable", {"ratio": 0.94, "paper_low": 0.5, "paper_high": 1.6}, YES),
    ("viable", {"ratio": 1.7, "paper_low": 0.5, "paper_high": 1.6}, NO),
    ("hurts_then_helps", {"small": 1.4, "large": 0.6}, YES),
    ("hurts_then_helps", {"small": 1.4, "large": 1.1}, PARTLY),
    ("hurts_then_helps", {"small": 0.7, "large": 0.8}, NO),
    ("pullovers_rise", {"rise": 0.03, "error": 0.01}, YES),
    ("pullovers_rise", {"rise": -0.01, "error": 0.01}, PARTLY),
    ("pullovers_rise", {"rise": -0.03, "error": 0.01}, NO),
    ("lists_comparable", {"apart": 1.9}, YES),
    ("lists_comparable", {"apart": 4.3}, NO),
    ("predicted_lists", {"ratio": 2.1}, YES),
    ("predicted_lists", {"ratio": 1.5}, PARTLY),
    ("predicted_lists", {"ratio": 1.1}, NO),
    ("looks_alike", {"ablation": 0.3, "retraining": 0.25}, YES),
    ("looks_alike", {"ablation": 0.4, "retraining": 0.25}, PARTLY),
    ("looks_alike", {"ablation": 0.5, "retraining": 0.25}, NO),
    ("predicted_looks_alike", {"differential": 0.05, "ablation": 0.3}, YES),
    ("predicted_looks_alike", {"differential": 0.2, "ablation": 0.3}, PARTLY),
    ("predicted_looks_alike", {"differential": 0.3, "ablation": 0.3}, NO),
    ("prediction_diverges", {"small": [0.1, 0.2], "trend": [0.6, 0]}, YES),
    ("prediction_diverges", {"small": [0.1, 0.4], "trend": [0.6, 0]}, PARTLY),
    ("prediction_diverges", {"small": [0.1, 0.2], "trend": [-0.1, 1]}, NO),
    ("distance_diverges", {"small": [0.8, 0.7], "large": [0.55, 0.3]}, YES),
    ("distance_diverges", {"small": [0.8, 0.7], "large": [0.65, 0.5]}, PARTLY),
    ("distance_diverges", {"small": [0.8, 0.5], "large": [0.55, 0.5]}, PARTLY),
    ("distance_diverges", {"small": [0.5, 0.7], "large": [0.5, 0.8]}, NO),
    ("truly_unattributable", {"unattributable": [0, 3]}, YES),
    ("truly_unattributable", {"unattributable": [0, 0]}, NO),
    ("never_exactly", {"zeros": 0, "samples": 50}, YES),
    ("never_exactly", {"zeros": 1, "samples": 100}, NO),
    ("nearly_unattributable", {"small": [0.1, 0.4], "large": [0.8, 0.5]}, YES),
    ("nearly_unattributable", {"small": [0.1, 0.4], "large": [0.8, 0.3]}, PARTLY),
    ("nearly_unattributable", {"small": [0.1, 0.4], "large": [0.1, 0.3]}, NO),
    ("radius_falls", {"slope": [-0.4, -0.1], "p": [0.01, 0.5]}, YES),
    ("radius_falls", {"slope": [-0.4, -0.1], "p": [0.06, 0.5]}, PARTLY),
    ("radius_falls", {"slope": [0.1, 0.2], "p": [0.01, 0.01]}, NO),
    ("slope_is_theirs", {"slope": [-0.2, -0.3], "wide": [0.1, 0.2], "paper_slope": -0.2}, YES),
    ("slope_is_theirs", {"slope": [-0.4, -0.3], "wide": [0.1, 0.2], "paper_slope": -0.2}, PARTLY),
    ("slope_is_theirs", {"slope": [-0.4, 0.3], "wide": [0.1, 0.2], "paper_slope": -0.2}, NO),
    ("extrapolates", {"far": [6, 13]}, YES),
    ("extrapolates", {"far": [6, 0.7]}, PARTLY),
    ("extrapolates", {"far": [0.1, 15]}, NO),
    ("falls_in_other_metrics", {"slope": -0.4}, PARTLY),
    ("falls_in_other_metrics", {"slope": 0.1}, NO),
    ("ranks_predicted", {"small": 0.7}, YES),
    ("ranks_predicted", {"small": 0.4}, PARTLY),
    ("pixels_predicted", {"small": 0.95}, YES),
    ("pixels_predicted", {"small": 0.8}, PARTLY),
    ("few_members", {"members": [11, 19], "sources": [384, 50_000]}, YES),
    ("few_members", {"members": [11, 32], "sources": [384, 50_000]}, NO),
    ("linear_time", {"N": 0.96, "n": 1.1, "pixels": 0.9}, YES),
    ("linear_time", {"N": 0.96, "n": 1.2, "pixels": 0.9}, PARTLY),
]
VANISH = ("by_ablation", "by_retraining", "kept_by_ablation", "kept_by_retraining")
CASES += [
    ("classes_vanish", dict(zip(VANISH, ([10, 9], [9, 10], [0.1, 0.4], [0.15, 0.35]))), YES),
    ("classes_vanish", dict(zip(VANISH, ([10, 8], [9, 10], [0.1, 0.4], [0.15, 0.35]))), PARTLY),
    ("classes_vanish", dict(zip(VANISH, ([10, 9], [9, 10], [0.1, 0.4], [0.15, 0.2]))), PARTLY),
]
MEET = ("ablation", "retraining", "ablation_error", "retraining_error", "chance")
CASES += [
    ("lists_meet", dict(zip(MEET, (0.4, 0.6, 0.05, 0.05, 0.14))), YES),
    ("lists_meet", dict(zip(MEET, (0.4, 0.6, 0.10, 0.05, 0.14))), NO),
    ("lists_meet", dict(zip(MEET, (0.4, 0.2, 0.05, 0.05, 0.14))), NO),
]
FAR = ("small", "large", "small_set", "large_set")
CASES += [
    ("nearest_hardly_matters", dict(zip(FAR, ([32, 15], [5, 7], [64, 256], [1024, 1024]))), YES),
    ("nearest_hardly_matters", dict(zip(FAR, ([32, 15], [5, 8], [64, 256], [1024, 1024]))), PARTLY),
    ("nearest_hardly_matters", dict(zip(FAR, ([32, 15], [9, 8], [64, 256], [1024, 1024]))), NO),
]


@pytest.mark.parametrize(("name", "numbers", "verdict"), CASES)
def test_a_rule_follows_its_numbers(name, numbers, verdict):
    assert RULES[name](**numbers) == verdict
    arrays = {key: np.array(value) for key, value in numbers.items()}
    assert RULES[name](**arrays) == verdict


@pytest.mark.parametrize("name", RULES)
def test_a_rule_can_come_out_two_ways_and_says_when(name):
    assert len({verdict for case, _, verdict in CASES if case == name}) > 1
    text = inspect.getdoc(RULES[name])
    assert text.startswith("Agrees ") and text.endswith(".")
    assert ". " not in text.replace("\n", " ")


def test_the_table_names_rules_and_measures_that_there_are():
    tried = {name: row for name, row in ROWS.items() if "ours" in row}
    assert set(tried) == set(RULES)
    for name, row in tried.items():
        assert callable(getattr(measures, row.get("measure", name)))
        assert ("{parts}" in row["ours"]) == ("part" in row)
    for row in ROWS.values():
        assert set(row) <= {"section", "page", "claim", "paper", "needs", "ours", "part", "measure"}
        assert list((ROOT / "book").glob(f"{row['page']}.*")), f"no page {row['page']} in the book"
        assert row["claim"].endswith(".") and row["paper"] and row["needs"]
    assert len({row["claim"] for row in ROWS.values()}) == len(ROWS) >= 20


def test_every_section_that_makes_claims_has_a_row():
    sections = " ".join(row["section"] for row in ROWS.values())
    for section in "3.1 3.2 3.3 3.4 3.5 3.6 C.1 C.2 C.3 C.4 C.5 C.6".split():
        assert section in sections


def test_texts_are_filled_in_and_verdicts_follow():
    parts = [{"family": "digits", "far": 6.0}, {"family": "MNIST", "far": 0.5}]
    claim = judge("extrapolates", {"parts": parts, "paper_far": 7.3})
    assert claim.paper == "7.3 from the published radii" and claim.verdict == PARTLY
    assert claim.ours == (
        "6 from the line of digits; 0.5 from the line of MNIST, five decades beyond their data"
    )
    assert claim.rule.startswith("Agrees where the line of every family gives a radius between")


@pytest.mark.parametrize("numbers", [None, {"parts": [], "paper_far": 7.3}])
def test_without_numbers_a_claim_is_not_run(numbers):
    claim = judge("extrapolates", numbers)
    assert (claim.verdict, claim.ours) == (OPEN, "needs landscapes of the digits")
    assert claim.paper == "stated in 3.6"


def test_one_ensemble_is_the_lowest_and_the_highest():
    ends = {"small_set": "a", "small": 0.5, "large_set": "a", "large": 0.5}
    assert measures._range({"a": 0.5}) == ends and measures._range({}) is None


@pytest.fixture(scope="module")
def every():
    return claims()


def test_rows_are_whole(every):
    assert len(every) == len(ROWS)
    for claim in every:
        assert claim.verdict in (YES, PARTLY, NO, OPEN)
        assert claim.paper and claim.ours and "nan" not in claim.ours and "\n" not in claim.ours
        assert claim.ours.startswith("needs ") == (claim.verdict == OPEN)
        assert "{" not in claim.paper + claim.ours


def test_without_results_claims_are_not_run(here):
    empty = claims(here)
    # what rests on arithmetic or on the benchmarks' file needs no artefact
    assert {claim.section for claim in empty if claim.verdict != OPEN} == {"A.2", "A.3"}


def test_images_that_are_not_here_are_not_fetched_for_it(every, monkeypatch):
    monkeypatch.setattr(measures, "available", lambda family, split: family == "digits")
    (row,) = (claim for claim in every if claim.section == "3.4, C.5")
    again = judge("distance_diverges", measures.distance_diverges(Here()))
    assert again.claim == row.claim and "MNIST" not in again.ours and "digits" in again.ours


def test_the_slope_is_that_of_the_stored_radii(every):
    row = next(claim for claim in every if claim.claim.startswith("The slope is"))
    for first in ("digits_64", "mnist_256"):
        summaries = radii.summaries(radii.of_family(get_recipe(first)))
        points = [(np.log10(s.size), s.mean) for s in summaries]
        assert len(points) >= 4 and f"{np.polyfit(*zip(*points), 1)[0]:.3f}" in row.ours
    assert f"{fit_law(radii.paper_summaries()).slope:.3f}" in row.paper


def test_the_pullovers_are_those_that_were_counted(every):
    row = next(claim for claim in every if claim.claim.startswith("Pullovers"))
    recipe = get_recipe("fashion_classes")
    ablation = class_counts.stored(recipe, "ablation")
    retraining = class_counts.stored(recipe, "retraining")
    samples = retraining.samples
    with_them, without = retraining.counts[0, 2], retraining.counts[1 + 2, 2]
    assert f"{with_them / samples:.1%} with them and {without / samples:.1%} without" in row.ours
    shares = ablation.counts[[0, 1 + 2], 2] / ablation.samples
    assert f"by ablation {shares[0]:.1%} and {shares[1]:.1%}" in row.ours
    # two shares of so many samples each: the usual test of their difference, pooled
    pooled = (with_them + without) / (2 * samples)
    z = (without - with_them) / samples / np.sqrt(2 * pooled * (1 - pooled) / samples)
    assert row.verdict == (YES if z > 2 else NO if z < -2 else PARTLY) or abs(abs(z) - 2) < 0.05


def test_the_table_links_to_pages(every):
    table = claims_table(every)
    assert table.columns.tolist() == ["section", "verdict", "claim", "paper", "here", "rule"]
    assert table["section"].tolist() == [
        f'<a href="{claim.page}.html">{claim.section}</a>' for claim in every
    ]
