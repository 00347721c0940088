"""Ablation, retraining and predictions compared with each other, source by source."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from small import own_store

from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.paper import intersections as paper_intersections
from abc_lib.method.attribution import intersection_chance
from abc_lib.results.jacobians import get as get_jacobians
from abc_lib.results.landscapes import get as get_landscapes
from abc_lib.results.measures.agreement import (
    Predicted,
    agreement,
    agreement_table,
    in_common,
    meeting_matrix,
    predicted_landscapes,
    same_noise,
    top_sources,
)
from abc_lib.results.retraining import get as retraining_landscapes
from abc_lib.results.retraining import stored as find_retraining_landscapes
from abc_lib.training.retrained import get_retrained

QUIET = {"jobs": 1, "progress": False}


@pytest.fixture(scope="module")
def here(trained, tmp_path_factory):
    return own_store(trained, tmp_path_factory.mktemp("agreement"))


@pytest.fixture(scope="module")
def ablation(trained, here):
    return get_landscapes(trained.ensemble, 5, here=Here(here, **QUIET))


@pytest.fixture(scope="module")
def retraining(trained, here):
    models = get_retrained(trained.recipe, [7, 2, 9, 4], here=Here(here, "cpu", **QUIET))
    return retraining_landscapes(models, [4, 0, 3], here=Here(here, **QUIET))


def test_what_two_landscapes_share(ablation, retraining):
    samples, sources, (a, b) = in_common([ablation, retraining])
    assert samples.tolist() == [0, 3, 4] and sources.tolist() == [2, 4, 7, 9]
    for row, sample in enumerate(samples):
        for column, source in enumerate(sources):
            assert a[row, column] == ablation.distances[sample, source]
            assert (
                b[row, column]
                == retraining.distances[[4, 0, 3].index(sample), [7, 2, 9, 4].index(source)]
            )


def test_predicted_landscapes_take_part(trained, here, ablation, retraining):
    jacobians = get_jacobians(trained.ensemble, range(4), here=Here(here, **QUIET))
    predicted = predicted_landscapes(jacobians, trained.ensemble.codebook)
    samples, sources, (p, a, r) = in_common([predicted, ablation, retraining])
    assert samples.tolist() == [0, 3] and p.shape == a.shape == r.shape == (2, 4)
    np.testing.assert_array_equal(
        p, jacobians.only([0, 3]).landscape(trained.ensemble.codebook)[:, sources]
    )


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda a, r: [], "nothing to compare"),
        (lambda a, r: [a, dataclasses.replace(r, seed=1)], "seeds differ"),
        (
            lambda a, r: [dataclasses.replace(a, indices=a.indices + 100), r],
            "0 samples and 4 sources in common",
        ),
        (lambda a, r: [a, r.only(sources=[2])], "3 samples and 1 sources in common"),
    ],
)
def test_landscapes_that_cannot_be_compared(ablation, retraining, change, words, one_line):
    with pytest.raises(BadValue, match=words) as error:
        in_common(change(ablation, retraining))
    assert one_line(error)


def test_a_part_of_retrained_landscapes(retraining, one_line):
    part = retraining.only([3, 4], [9, 2])
    assert (
        part.indices.tolist() == [3, 4]
        and part.sources.tolist() == [9, 2]
        and part.kept_images.shape[1] == 0
    )
    np.testing.assert_array_equal(part.distances, retraining.distances[[2, 0]][:, [2, 1]])
    rows = retraining.only([0])
    assert torch.equal(rows.kept_images, retraining.kept_images[[1]]) and torch.equal(
        rows.factual, retraining.factual[[1]]
    )
    for wanted in (([1], None), (None, [3])):
        with pytest.raises(BadValue, match="compute it with retraining.get") as error:
            retraining.only(*wanted)
        assert one_line(error)


def test_retrained_landscapes_are_found_without_their_models(trained, here, retraining):
    found = find_retraining_landscapes(trained.recipe, here=Here(here))
    np.testing.assert_array_equal(found.distances, retraining.distances)
    assert find_retraining_landscapes(trained.recipe, 1, here=Here(here)) is None
    assert find_retraining_landscapes(trained.recipe, removed="removed", here=Here(here)) is None
    assert find_retraining_landscapes(trained.recipe, seed=3, here=Here(here)) is None
    assert (
        find_retraining_landscapes(trained.recipe.replace(network={"groups": 8}), here=Here(here))
        is None
    )


@given(st.integers(0, 2**31), st.integers(2, 12), st.integers(20, 40))
@settings(max_examples=25, deadline=None)
def test_agreement_against_scipy_and_by_hand(seed, S, K):
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, S, K))
    found = agreement(a, b)
    np.testing.assert_allclose(
        found.correlations, [stats.spearmanr(x, y).statistic for x, y in zip(a, b)]
    )
    for k, met in found.tops.items():
        count = sum(bool(set(np.argsort(-x)[:k]) & set(np.argsort(-y)[:k])) for x, y in zip(a, b))
        assert met.count == count and met.chance == intersection_chance(K, k)
    assert list(found.tops) == [1, 3, 8] and found.samples == S
    if S > 2:
        assert found.radii == pytest.approx(stats.spearmanr(a.max(1), b.max(1)).statistic)
    else:
        assert np.isnan(found.radii)


def test_a_landscape_agrees_with_itself_and_not_with_its_reverse():
    a = np.random.default_rng(0).random((30, 20))
    same, turned = agreement(a, 3 * a + 1), agreement(a, 1 - a)
    np.testing.assert_allclose(same.correlations, 1)
    np.testing.assert_allclose(turned.correlations, -1)
    assert same.interval() == (1, 1, 1) and same.tops[1].count == 30 and turned.tops[1].count == 0
    table = agreement_table({"itself": same, "its reverse": turned})
    assert table["rank correlation (mean, 95%)"].tolist() == [
        "1.00 (1.00 to 1.00)",
        "-1.00 (-1.00 to -1.00)",
    ]
    assert table["top 1 meet"].tolist() == ["100% (chance 5%)", "0% (chance 5%)"]


def test_few_sources_leave_out_the_larger_tops():
    a = np.random.default_rng(0).random((4, 7))
    assert list(agreement(a, a).tops) == [1, 3] and list(agreement(a[:, :2], a[:, :2]).tops) == [1]


def test_an_interval_covers_the_mean_it_is_for():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        latent = rng.normal(size=(60, 40))
        found = agreement(
            latent + rng.normal(size=latent.shape), latent + rng.normal(size=latent.shape)
        )
        _, low, high = found.interval()
        covered += (
            low <= 0.4827 <= high
        )  # 6 / pi * asin(0.5 / 2), Spearman's for two normals that correlate with 1/2
    assert 87 <= covered <= 100


def test_each_pair_of_lists_meets_as_often_as_counted_by_hand():
    rng = np.random.default_rng(1)
    look, moved = rng.random((15, 12)), rng.random((15, 12))
    tops = top_sources({"look": look}, {"moved": moved}, 3)
    assert (tops["look"] == np.argsort(look, axis=1)[:, :3]).all() and (
        tops["moved"] == np.argsort(-moved, axis=1)[:, :3]
    ).all()
    matrix = meeting_matrix(tops, 12)
    share = np.mean([bool(set(a) & set(b)) for a, b in zip(tops["look"], tops["moved"])])
    assert matrix.loc["look", "moved"] == matrix.loc["moved", "look"] == share
    assert matrix.loc["look", "look"] == matrix.loc["moved", "moved"] == 1
    assert list(matrix.columns) == list(matrix.index) == ["look", "moved"]


def test_the_same_noise_gives_nearer_samples_than_other_noise(ablation, retraining, one_line):
    pairs = same_noise(ablation, retraining)
    assert pairs.same.shape == pairs.other.shape == (3,)
    itself = same_noise(ablation, ablation)
    assert (itself.same == 0).all() and (itself.other > 0).all()
    with pytest.raises(BadValue, match="fewer than two samples") as error:
        same_noise(ablation, retraining.only([3]))
    assert one_line(error)


def test_the_papers_table_4():
    found = paper_intersections("mnist_384")
    assert (
        set(found) == {"ablation", "retraining", "differential"}
        and found["ablation"]["euclidean"] == 272
    )
    assert (
        found["differential"]["dino_patch"] == 747
        and paper_intersections("fashion_384")["retraining"]["lpips"] == 303
    )
    assert paper_intersections("digits_64") == {}


def test_predictions_need_no_landscape():
    x = Predicted(0, np.array([1, 2]), np.array([[1.0, 2, 3], [3, 1, 2]]))
    samples, sources, (a, b) = in_common([x, x])
    assert samples.tolist() == [1, 2] and sources.tolist() == [0, 1, 2] and (a == b).all()
