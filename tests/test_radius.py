"""Counterfactual radius, its summaries, and the paper's law."""

import csv
import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats

from abc_lib.ground import paper
from abc_lib.ground.errors import BadValue
from abc_lib.ground.paths import PAPER
from abc_lib.method.landscape import Landscapes
from abc_lib.method.radius import LogRadius, counterfactual_radius, fit_law, slope_within, summarise
from abc_lib.results.measures.radii import paper_summaries


def point(size: int, mean: float) -> LogRadius:
    return LogRadius(f"made_{size}", size, 10, 0, mean, 0.1)


def test_the_radius_is_the_largest_distance():
    distances = np.array([[1.0, 5.0, 2.0], [0.0, 0.0, 0.0]])
    assert counterfactual_radius(distances).tolist() == [5, 0]
    assert counterfactual_radius([3, 1]) == 3
    assert counterfactual_radius(np.ones((2, 3, 4))).shape == (2, 3)


def landscapes(distances: np.ndarray) -> Landscapes:
    S = len(distances)
    images = torch.rand(S, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    kept = np.argsort(-distances, axis=1)[:, :1]
    return Landscapes(
        "x", "laptop", 0, np.arange(S), images, distances, kept, images[:, None], images, kept[:, 0]
    )


def test_landscapes_have_the_radii_of_definition_1():
    distances = np.array([[1.0, 5.0, 2.0], [0.0, 0.0, 0.0], [2.0, 1.0, 0.5]])
    found = landscapes(distances)
    assert found.radii.tolist() == counterfactual_radius(distances).tolist() == [5, 0, 2]
    distances[1, 1] = np.nan
    with pytest.raises(BadValue, match="finite and not negative"):
        _ = found.radii


def test_landscapes_of_some_samples_in_an_order_of_their_own():
    whole = landscapes(np.random.default_rng(0).random((4, 3)))
    some = whole.select([3, 1])
    assert len(some) == 2 and some.indices.tolist() == [3, 1]
    for name in ("factual", "distances", "kept_sources", "kept_images", "attributed_images"):
        assert np.array_equal(getattr(some, name), getattr(whole, name)[[3, 1]])
    assert some.attributed_labels.tolist() == whole.attributed_labels[[3, 1]].tolist()
    bare = dataclasses.replace(whole, attributed_images=None, attributed_labels=None).select([0])
    assert bare.attributed_images is None and bare.attributed_labels is None


@pytest.mark.parametrize("distances", [[], np.zeros((3, 0)), 4.0])
def test_a_landscape_without_counterfactuals_has_no_radius(distances):
    with pytest.raises(BadValue, match="at least one data source"):
        counterfactual_radius(distances)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0])
def test_distances_that_cannot_be_are_refused(wrong):
    with pytest.raises(BadValue, match="finite and not negative"):
        counterfactual_radius([[1.0, 2.0], [wrong, 1.0]])


def test_a_summary_is_mean_and_deviation_of_the_logarithms():
    found = summarise("x", 64, [1, 10, 100])
    assert found == LogRadius("x", 64, 3, 0, pytest.approx(1), pytest.approx(1))


def test_radii_of_zero_are_counted_apart():
    found = summarise("x", 64, [0, 10, 0, 1000])
    assert (found.count, found.zeros) == (2, 2) and found.mean == pytest.approx(2)


def test_one_radius_has_no_deviation_and_none_above_zero_no_mean():
    one, none = summarise("x", 64, [10]), summarise("x", 64, [0, 0])
    assert one.mean == pytest.approx(1) and np.isnan(one.sd)
    assert (none.count, none.zeros) == (0, 2) and np.isnan(none.mean) and np.isnan(none.sd)


def test_no_radii_at_all_are_refused():
    with pytest.raises(BadValue, match="x has no radii"):
        summarise("x", 64, [])


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0])
def test_radii_that_cannot_be_are_refused_not_left_out(wrong):
    with pytest.raises(BadValue):
        summarise("x", 64, [1.0, wrong, 10.0])


def test_the_line_is_numpys_least_squares_line():
    rng = np.random.default_rng(0)
    sizes = [64, 128, 256, 512, 1024]
    means = 2.5 - 0.3 * np.log10(sizes) + 0.05 * rng.standard_normal(5)
    law = fit_law([point(size, mean) for size, mean in zip(sizes, means)])
    slope, intercept = np.polyfit(np.log10(sizes), means, 1)
    residual = means - (slope * np.log10(sizes) + intercept)
    assert (law.slope, law.intercept) == (
        pytest.approx(slope, rel=1e-9),
        pytest.approx(intercept, rel=1e-9),
    )
    assert law.r2 == pytest.approx(
        1 - residual @ residual / ((means - means.mean()) ** 2).sum(), rel=1e-9
    )
    assert law.ensembles == 5 and 0 < law.p < 0.05
    assert law.radius_at(1000) == pytest.approx(10 ** (intercept + 3 * slope), rel=1e-9)


def test_ensembles_of_one_size_count_each():
    law = fit_law([point(100, 1.0), point(100, 2.0), point(1000, 1.0)])
    assert law.ensembles == 3 and law.slope == pytest.approx(-0.5)


def test_two_ensembles_make_a_line_without_a_p_value():
    law = fit_law([point(100, 2.0), point(10_000, 1.0)])
    assert (law.slope, law.intercept) == (pytest.approx(-0.5), pytest.approx(3)) and np.isnan(law.p)


def test_an_ensemble_of_zeros_only_is_left_out_of_the_line():
    law = fit_law([point(100, 2.0), point(10_000, 1.0), summarise("zeros", 500, [0, 0])])
    assert law.ensembles == 2


@pytest.mark.parametrize(
    "summaries",
    [[], [point(64, 2.0)], [point(64, 2.0), point(64, 1.9)], [point(64, 2.0), point(128, np.nan)]],
)
def test_a_line_needs_two_sizes(summaries):
    with pytest.raises(BadValue, match="at least two training set sizes"):
        fit_law(summaries)


def test_the_papers_law_comes_out_of_its_radii():
    law = fit_law(paper_summaries())
    assert law.ensembles == 23
    assert law.slope == pytest.approx(-0.200, abs=5e-4)
    assert law.intercept == pytest.approx(2.464, abs=5e-4)
    assert law.r2 == pytest.approx(0.80, abs=5e-3)
    assert 8e-9 < law.p <= 8.8e-9
    assert law.radius_at(1e8) == pytest.approx(7, abs=0.5)


def test_the_papers_summaries_are_the_23_ensembles_of_table_2():
    with open(PAPER / "ensembles.csv", newline="") as file:
        table = {row["ensemble"]: int(row["training_set_size"]) for row in csv.DictReader(file)}
    assert {s.name: s.size for s in paper_summaries()} == table
    logs = paper.radii().groupby("ensemble")["log10_radius"]
    for summary in paper_summaries():
        assert summary.mean == pytest.approx(logs.get_group(summary.name).mean(), rel=1e-9)
        assert summary.sd == pytest.approx(logs.get_group(summary.name).std(), rel=1e-9)
        assert summary.zeros == 0 and summary.count == len(logs.get_group(summary.name))


# --- the other tables of the authors ---


def test_false_attribution_is_of_counts_out_of_samples():
    table = paper.false_attribution()
    assert list(table) == [
        "metric",
        "ensemble",
        "images",
        "samples",
        "unchanged_without_nearest",
        "unchanged_without_random",
    ]
    assert set(table.metric) == {"Euclidean", "OpenCLIP", "LPIPS", "DINOv2"}
    for column in table.columns[4:]:
        assert table[column].between(0, table.samples).all()
    series = table[table.ensemble.str.contains("_TRJ_")]
    assert (series.samples == 1024).all() and len(series) == 124
    assert (series.images == series.ensemble.str.split("_").str[2].astype(int)).all()


def test_classifiers_are_those_of_b5():
    table = paper.classifiers().set_index("family")
    assert table.accuracy.to_dict() == {"mnist": 0.9788, "fashion": 0.6378}
    assert table.adversarial_accuracy.to_dict() == {"mnist": 0.9370, "fashion": 0.8077}


# --- one slope, a level for each kind ---


def kinds(rng, sizes):
    return [
        LogRadius(
            f"{kind}_{size}",
            size,
            10,
            0,
            float(level - 0.3 * np.log10(size) + rng.normal(0, 0.05)),
            0.1,
        )
        for (kind, level), each in zip((("a", 3.0), ("b", 1.0), ("c", 2.0)), sizes)
        for size in each
    ]


@pytest.mark.parametrize("seed", range(5))
def test_a_slope_within_kinds_is_that_of_a_regression_with_indicators(seed):
    rng = np.random.default_rng(seed)
    points = kinds(rng, [(64, 128, 256), (1000, 50_000), (300, 900, 2700, 8100)])
    found = slope_within(points)
    design = np.array(
        [[np.log10(s.size), *(s.name[0] == kind for kind in "abc")] for s in points], dtype=float
    )
    y = np.array([s.mean for s in points])
    beta, (left,), *_ = np.linalg.lstsq(design, y, rcond=None)
    free = len(y) - 4
    error = np.sqrt(left / free * np.linalg.inv(design.T @ design)[0, 0])
    assert found.slope == pytest.approx(beta[0]) and found.wide == pytest.approx(
        stats.t.ppf(0.975, free) * error
    )
    assert (
        found.p == pytest.approx(2 * stats.t.sf(abs(beta[0]) / error, free))
        and found.ensembles == 9
    )
    assert found.intercept == pytest.approx(beta[1:].mean())


def test_levels_do_not_make_a_slope():
    # Large sets of a kind with large radii: a line through all rises, though radii fall within
    # each kind.
    points = [point(100, 1.0), point(1000, 0.8)] + [
        LogRadius(f"other_{s}", s, 9, 0, m, 0.1) for s, m in ((100_000, 3.0), (1_000_000, 2.8))
    ]
    assert (
        fit_law(points).slope > 0
        and slope_within(points).slope == pytest.approx(-0.2)
        and slope_within(points).wide == pytest.approx(0, abs=1e-9)
    )


def test_with_one_kind_the_slope_within_is_the_laws():
    points = [point(64, 1.7), point(128, 1.5), point(256, 1.45), point(512, 1.2)]
    one, other = fit_law(points), slope_within(points)
    assert (other.slope, other.intercept, other.r2, other.p, other.wide) == pytest.approx(
        (one.slope, one.intercept, one.r2, one.p, one.wide)
    )


def test_kinds_of_one_size_do_not_count():
    points = [point(64, 1.7), point(128, 1.5)]
    found = slope_within([*points, LogRadius("lone_5", 5, 9, 0, 9.0, 0.1)])
    assert (
        found.slope == pytest.approx(slope_within(points).slope)
        and found.ensembles == 2
        and np.isnan(found.wide)
        and np.isnan(found.p)
    )
    with pytest.raises(BadValue, match="two training set sizes of one kind"):
        slope_within([point(64, 1.0), LogRadius("lone_5", 5, 9, 0, 9.0, 0.1)])
