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
from abc_lib.study import exposures
from abc_lib.study.claims import measures, rules
from abc_lib.study.claims.__init__ import ROWS, claims, claims_table, judge
from abc_lib.study.claims.rules import LENGTH, NO, OPEN, PARTLY, PLACEBO, UNDECIDED, VERDICTS, YES
from abc_lib.study.exposures import law

RULES = dict(inspect.getmembers(rules, inspect.isfunction))
RULES = {name: rule for name, rule in RULES.items() if not name.startswith("_")}


def cases(name, keys, *rows):
    """Numbers by their names, and the verdict that stands last."""
    return [(name, dict(zip(keys.split(), row[:-1])), row[-1]) for row in rows]


# Of every rule: evidence for, evidence against, and too little of either.
CASES = [
    *cases("viable", "mean wide", (0.05, 0.1, YES), (0.5, 0.2, NO), (-0.5, 0.2, NO)),
    # All of 0.54 to 1.58, the range that passed before, and no interval that is as wide.
    *cases("viable", "mean wide", (0.06, 0.3, UNDECIDED), (np.log(0.54), 0.2, NO)),
    *cases("hurts_then_helps", "small large", (1.4, 0.6, YES), (0.7, 0.8, NO), (1.4, 1.3, NO)),
    # Five seeds of the single model on the largest set move its FID by as much as that.
    *cases("hurts_then_helps", "small large", (1.8, 0.92, UNDECIDED)),
    *cases("pullovers_rise", "rise error", (0.03, 0.01, YES), (-0.03, 0.01, NO)),
    *cases("pullovers_rise", "rise error", (-0.01, 0.01, UNDECIDED)),
    *cases("lists_comparable", "gap error", (0.02, 0.03, YES), (0.2, 0.05, NO)),
    *cases("lists_comparable", "gap error", (0.02, 0.2, UNDECIDED)),  # few samples prove nothing
    *cases("predicted_lists", "gain error", ([0.2, 0.3], [0.05, 0.05], YES)),
    *cases("predicted_lists", "gain error", ([0.2, 0.0], [0.05, 0.05], PARTLY)),
    *cases("predicted_lists", "gain error", ([-0.2, 0.0], [0.05, 0.05], NO)),
    *cases("predicted_lists", "gain error", ([0.05, 0.0], [0.05, 0.05], UNDECIDED)),
    *cases("predicted_looks_alike", "lower error", ([0.2, 0.1], [0.04, 0.04], YES)),
    *cases("predicted_looks_alike", "lower error", ([0.2, 0.0], [0.04, 0.04], PARTLY)),
    *cases("predicted_looks_alike", "lower error", ([-0.2, 0.0], [0.04, 0.04], NO)),
    *cases("predicted_looks_alike", "lower error", ([0.01, 0.0], [0.04, 0.04], UNDECIDED)),
    *cases("truly_unattributable", "unattributable", ([0, 3], YES), ([0, 0], NO)),
    *cases("never_exactly", "zeros samples", (0, 50, YES), (1, 100, NO)),
    *cases("nearly_unattributable", "more error", ([0.5, 0.4], [0.1, 0.1], YES)),
    *cases("nearly_unattributable", "more error", ([0.5, 0.1], [0.1, 0.1], PARTLY)),
    *cases("nearly_unattributable", "more error", ([-0.5, 0.1], [0.1, 0.1], NO)),
    *cases("nearly_unattributable", "more error", ([0.1, 0.1], [0.1, 0.1], UNDECIDED)),
    *cases("nearest_hardly_matters", "faster error", ([0.2, 0.3], [0.05, 0.1], YES)),
    *cases("nearest_hardly_matters", "faster error", ([0.2, 0.1], [0.05, 0.1], PARTLY)),
    *cases("nearest_hardly_matters", "faster error", ([-0.2, 0.1], [0.05, 0.1], NO)),
    *cases("nearest_hardly_matters", "faster error", ([0.01, 0.1], [0.05, 0.1], UNDECIDED)),
    *cases("extrapolates", "far_low far_high", ([4, 5], [13, 12], YES)),
    *cases("extrapolates", "far_low far_high", ([4, 0.1], [13, 50], PARTLY)),
    *cases("extrapolates", "far_low far_high", ([0.1, 0.1], [1, 50], NO)),
    *cases("extrapolates", "far_low far_high", ([0.1, 0.1], [50, 50], UNDECIDED)),
    *cases("falls_in_other_metrics", "slope p", (-0.4, 0.01, PARTLY), (0.1, 0.01, NO)),
    *cases("falls_in_other_metrics", "slope p", (-0.4, 0.2, UNDECIDED)),
    *cases("ranks_predicted", "small", (0.95, YES), (0.7, PARTLY), (0.5, NO)),
    *cases("pixels_predicted", "small", (0.95, YES), (0.8, PARTLY), (0.3, NO)),
    *cases("few_members", "members sources", ([11, 19], [384, 50_000], YES)),
    *cases("few_members", "members sources", ([11, 32], [384, 50_000], NO)),
    *cases("linear_time", "N n pixels", (0.96, 1.1, 0.9, YES), (0.96, 1.2, 0.9, PARTLY)),
    *cases("linear_time", "N n pixels", (0.96, 1.5, 0.9, NO)),
]
LAW = "slope p by_size_low by_size_high placebo_by_size"
NOT = (np.nan,) * 3
CASES += [
    *cases("radius_falls", LAW, ([-0.4, -0.1], [0.01, 0.02], *NOT, YES)),
    *cases("radius_falls", LAW, ([-0.4, -0.1], [0.01, 0.02], -0.3, -0.1, 0.0, YES)),
    *cases("radius_falls", LAW, ([-0.4, -0.1], [0.01, 0.02], -0.3, -0.1, -0.2, PLACEBO)),
    # The smallest of two p-values is no evidence at 0.05.
    *cases("radius_falls", LAW, ([-0.4, -0.1], [0.03, 0.5], *NOT, UNDECIDED)),
    *cases("radius_falls", LAW, ([-0.4, -0.1], [0.01, 0.5], *NOT, PARTLY)),
    *cases("radius_falls", LAW, ([0.4, -0.1], [0.01, 0.5], -0.3, -0.1, -0.2, NO)),
]
LAW = "slope wide paper_slope by_exposure_low by_exposure_high"
CASES += [
    *cases("slope_is_theirs", LAW, ([-0.2, -0.25], [0.08, 0.09], -0.2, -0.1, 0.1, YES)),
    *cases("slope_is_theirs", LAW, ([-0.2, -0.4], [0.08, 0.09], -0.2, -0.1, 0.1, PARTLY)),
    *cases("slope_is_theirs", LAW, ([0.43, -0.4], [10, 0.09], -0.2, -0.1, 0.1, NO)),
    # An interval that holds everything is no agreement.
    *cases("slope_is_theirs", LAW, ([0.43, 0.1], [10, 9], -0.2, np.nan, np.nan, UNDECIDED)),
    *cases("slope_is_theirs", LAW, ([-0.2, -0.25], [0.08, 0.09], -0.2, 0.1, 0.3, LENGTH)),
]
RANKS = "ablation retraining ablation_error retraining_error"
CASES += [
    *cases("looks_alike", RANKS, (0.3, 0.28, 0.02, 0.02, YES), (0.4, 0.2, 0.02, 0.02, PARTLY)),
    *cases("looks_alike", RANKS, (0.6, 0.2, 0.02, 0.02, NO), (0.48, 0.2, 0.02, 0.02, UNDECIDED)),
]
RANKS = "small small_error rise rise_error"
CASES += [
    *cases("prediction_diverges", RANKS, ([0.2, 0.3], [0.02] * 2, [0.3, 0.2], [0.03] * 2, YES)),
    *cases("prediction_diverges", RANKS, ([0.2, 0.49], [0.02] * 2, [0.3, 0], [0.03] * 2, PARTLY)),
    *cases("prediction_diverges", RANKS, ([0.6, 0.49], [0.02] * 2, [0.3, 0], [0.03] * 2, NO)),
    *cases("prediction_diverges", RANKS, ([0.2], [0.02], [0.03], [0.03], UNDECIDED)),
]
CASES += [
    *cases("metrics_disagree", "lower error", (0.2, 0.05, PARTLY), (-0.2, 0.05, NO)),
    *cases("metrics_disagree", "lower error", (0.05, 0.05, UNDECIDED)),
]
RANKS = "small small_error rise rise_error near near_error fall fall_error by_euclidean"
LESS = [0.02] * 2
CASES += [
    *cases(
        "same_by_other_metrics", RANKS,
        ([0.2, 0.3], LESS, [0.2, 0.1], LESS, [0.8, 0.7], LESS, [0.2, 0.1], LESS, [1, 0], PARTLY),
        # The same by the Euclidean distance alone is nothing about others.
        ([0.2, 0.5], LESS, [0.2, 0], LESS, [0.8, 0.5], LESS, [0.2, 0], LESS, [1, 0], UNDECIDED),
        ([0.2, 0.7], LESS, [0.2, 0.1], LESS, [0.8, 0.7], LESS, [0.2, 0.1], LESS, [1, 0], NO),
        # What fails by the Euclidean distance, too, is not about other metrics.
        ([0.7, 0.7], LESS, [0.2, 0.1], LESS, [0.8, 0.7], LESS, [0.2, 0.1], LESS, [1, 0], UNDECIDED),
    ),
]  # fmt: skip
RANKS = "small small_error fall fall_error large"
EVEN, FAR = [0.52, 0.55], [0.52, 0.3]
CASES += [
    *cases("distance_diverges", RANKS, ([0.8, 0.7], [0.02] * 2, [0.3, 0.2], [0.03] * 2, EVEN, YES)),
    *cases(
        "distance_diverges", RANKS, ([0.8, 0.7], [0.02] * 2, [0.3, 0.2], [0.03] * 2, FAR, PARTLY)
    ),
    *cases("distance_diverges", RANKS, ([0.4, 0.51], [0.02] * 2, [0, 0], [0.03] * 2, EVEN, NO)),
    *cases("distance_diverges", RANKS, ([0.51], [0.02], [0], [0.03], [0.5], UNDECIDED)),
]
VANISH = "by_ablation by_retraining kept_by_ablation kept_by_retraining"
CASES += [
    *cases("classes_vanish", VANISH, ([10, 9], [9, 10], [0.1, 0.4], [0.15, 0.35], YES)),
    *cases("classes_vanish", VANISH, ([10, 8], [9, 10], [0.1, 0.4], [0.15, 0.35], PARTLY)),
    *cases("classes_vanish", VANISH, ([10, 9], [9, 10], [0.1, 0.4], [0.15, 0.2], PARTLY)),
    *cases("classes_vanish", VANISH, ([10, 2], [9, 10], [0.1, 0.4], [0.15, 0.35], NO)),
]
MEET = "ablation retraining ablation_error retraining_error chance"
CASES += [
    *cases("lists_meet", MEET, (0.4, 0.6, 0.05, 0.05, 0.14, YES)),
    *cases("lists_meet", MEET, (0.4, 0.6, 0.10, 0.05, 0.14, UNDECIDED)),
    *cases("lists_meet", MEET, (0.4, 0.1, 0.05, 0.05, 0.14, NO)),
]


@pytest.mark.parametrize(("name", "numbers", "verdict"), CASES)
def test_a_rule_follows_its_numbers(name, numbers, verdict):
    assert RULES[name](**numbers) == verdict
    arrays = {key: np.array(value) for key, value in numbers.items()}
    assert RULES[name](**arrays) == verdict


@pytest.mark.parametrize("name", RULES)
def test_a_rule_can_come_out_two_ways_and_says_when(name):
    verdicts = {verdict for case, _, verdict in CASES if case == name}
    # Evidence for gives another verdict than evidence against, and every rule can say no.
    assert verdicts & {YES, PARTLY} and NO in verdicts
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
    parts = [
        {"family": "digits", "far": 6.0, "far_low": 4.0, "far_high": 12.0},
        {"family": "MNIST", "far": 0.5, "far_low": 0.1, "far_high": 2.0},
    ]
    claim = judge("extrapolates", {"parts": parts, "paper_far": 7.3})
    assert claim.paper == "7.3 from the published radii" and claim.verdict == PARTLY
    assert claim.ours == (
        "6 (4 to 12, 95%) from the line of digits; 0.5 (0.1 to 2, 95%) from the line of MNIST, "
        "five decades beyond their data"
    )
    assert claim.rule.startswith("Agrees where the 95% interval of every family's line lies")


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
        assert claim.verdict in VERDICTS
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
    assert row.verdict == (YES if z > 2 else NO if z < -2 else UNDECIDED) or abs(abs(z) - 2) < 0.05


def test_what_the_digits_64_show_is_asked_of_the_other_sizes(every):
    for claim in every:
        if claim.claim.startswith("Differential ablation"):
            assert all(f"digits_{size}" in claim.ours for size in (64, 128, 256, 512))


def test_the_law_is_held_against_placebos_and_exposure(every):
    line = law.fit(exposures.at_hand(["digits_64"]))
    row = next(claim for claim in every if claim.claim.startswith("Mean log10 radius falls"))
    assert f"{line.by_size:.2f}" in row.ours and row.verdict == PLACEBO
    row = next(claim for claim in every if claim.claim.startswith("The slope is"))
    assert f"{line.by_exposure:.2f}" in row.ours and row.verdict == LENGTH


def test_the_table_links_to_pages(every):
    table = claims_table(every)
    assert table.columns.tolist() == ["section", "verdict", "claim", "paper", "here", "rule"]
    assert table["section"].tolist() == [
        f'<a href="{claim.page}.html">{claim.section}</a>' for claim in every
    ]
