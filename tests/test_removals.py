"""Several sources removed at once."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stops import counted

from abc_lib.ground.errors import BadValue, NoSurvivors
from abc_lib.ground.here import Here
from abc_lib.method.code import Codebook
from abc_lib.method.distance import distance
from abc_lib.results.landscapes import compute as compute_landscapes
from abc_lib.results.landscapes import read as read_landscapes
from abc_lib.results.removals import draw_sets, promised_k, survivor_table
from abc_lib.results.removals import get as compute_removals
from abc_lib.results.removals import stored as stored_removals

QUIET = {"jobs": 1, "progress": False}


@pytest.fixture
def book():
    return Codebook.draw(6, 2, 12, 0)


def removable(book, k):
    return [
        each
        for each in combinations(range(book.num_sources), k)
        if not book.words[list(each)].any(axis=0).all()
    ]


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.data())
def test_what_a_weight_promises_holds_for_every_code(n, data):
    from math import comb

    weight = data.draw(st.integers(1, n - 1))
    book = Codebook.draw(
        n, weight, data.draw(st.integers(1, min(6, comb(n, weight)))), data.draw(st.integers(0, 5))
    )
    k = promised_k(n, weight)
    assert k >= 1
    if k <= book.num_sources:
        assert len(removable(book, k)) == len(list(combinations(range(book.num_sources), k)))
    # and no more: n positions can be covered by k + 1 codewords of this weight
    assert (k + 1) * weight >= n


def test_the_table_counts_what_all_sets_leave(book):
    table = survivor_table(book, [1, 2, 3, 12], 4000).set_index("k")
    assert table.loc[1, ["removable", "least", "mean", "most"]].tolist() == [1, 4, 4, 4]
    for k in (2, 3):
        alive = np.array(
            [(~book.words[list(each)].any(axis=0)).sum() for each in combinations(range(12), k)]
        )
        assert table.loc[k, "least"] == alive.min() and table.loc[k, "most"] == alive.max()
        assert table.loc[k, "mean"] == pytest.approx(alive.mean(), abs=0.05)
        assert table.loc[k, "removable"] == pytest.approx((alive > 0).mean(), abs=0.03)
    assert table.loc[12, "removable"] == 0 and table.loc[12, "most"] == 0


def test_sets_are_different_removable_and_the_same_again(book):
    sets = draw_sets(book, 3, 40, 5)
    assert len({tuple(each) for each in sets}) == 40 and all(
        each == sorted(each) and len(set(each)) == 3 for each in sets
    )
    assert all(book.survivors(each).any() for each in sets)
    assert draw_sets(book, 3, 40, 5) == sets and draw_sets(book, 3, 40, 6) != sets


def test_where_there_are_fewer_sets_all_of_them_come(book):
    assert {tuple(each) for each in draw_sets(book, 1, 50)} == {(s,) for s in range(12)}


def test_distances_are_those_of_ablating_by_hand(trained, store):
    ensemble, sets = trained.ensemble, [[3], [0, 7], [5, 2]]
    sets = [each for each in sets if not ensemble.codebook.words[each].any(axis=0).all()]
    assert len(sets) >= 2
    found = compute_removals(ensemble, [4, 1], sets, 2, here=Here(store, **QUIET))
    for row, index in enumerate([4, 1]):
        noise = ensemble.draw_noise(2, [index])
        factual = ensemble.sample(noise)
        torch.testing.assert_close(found.factual[row : row + 1], factual, atol=1e-5, rtol=0)
        for column, each in enumerate(sets):
            alive = [i for i in range(6) if not any(ensemble.codebook.words[s, i] for s in each)]
            assert found.survivors[column] == len(alive) > 0
            c = np.zeros(6)
            c[alive] = 6 / len(alive)
            assert found.distances[row, column] == pytest.approx(
                float(distance(ensemble.sample(noise, c), factual)), abs=1e-2
            )
    assert found.sets == [sorted(each) for each in sets]


def test_sets_of_one_are_the_landscape(trained, store):
    found = compute_removals(
        trained.ensemble, [0, 1, 2], [[s] for s in range(12)], 0, here=Here(store, **QUIET)
    )
    landscapes = read_landscapes(
        compute_landscapes(trained.ensemble, [0, 1, 2], 0, here=Here(store, **QUIET))
    )
    np.testing.assert_allclose(found.distances, landscapes.distances, atol=1e-2)
    (row,) = found.by_size().to_dict("records")
    assert (row["k"], row["sets"], row["survivors"]) == (1, 12, 3)
    assert row["radius"] == pytest.approx(landscapes.radii.mean(), abs=1e-2)
    assert row["mean"] == pytest.approx(landscapes.distances.mean(), abs=1e-2)
    assert row["radius_error"] == pytest.approx(landscapes.radii.std(ddof=1) / 3**0.5, abs=1e-2)


def test_a_stopped_run_goes_on(trained, store, monkeypatch):
    from abc_lib.results import removals as module

    real = module.distance
    monkeypatch.setattr(module, "trajectories_side_by_side", lambda *_: 4)
    monkeypatch.setattr(module, "distance", counted(real, stop_at=2))
    sets = [[s] for s in range(6)]
    with pytest.raises(KeyboardInterrupt):
        compute_removals(trained.ensemble, [0, 1], sets, here=Here(store, **QUIET))
    assert stored_removals(trained.recipe, here=Here(store)) is None
    monkeypatch.setattr(module, "distance", again := counted(real))
    found = compute_removals(trained.ensemble, [0, 1], sets, here=Here(store, **QUIET))
    assert len(again.calls) == 2  # one of three blocks was there
    stored = stored_removals(trained.recipe, here=Here(store))
    np.testing.assert_array_equal(stored.distances, found.distances)
    assert stored.sets == sets and stored_removals(trained.recipe, 9, here=Here(store)) is None
    again.calls.clear()
    assert (
        compute_removals(
            trained.ensemble, [0, 1], sets, here=Here(store, **QUIET)
        ).survivors.tolist()
        == [3] * 6
        and not again.calls
    )


def test_slips_take_one_line(trained, store, one_line):
    ensemble = trained.ensemble
    for kind, message, slip in (
        (
            NoSurvivors,
            "no member survives",
            lambda: compute_removals(ensemble, [0], [list(range(12))], here=Here(store)),
        ),
        (
            BadValue,
            "no sources were named",
            lambda: compute_removals(ensemble, [0], [[1], []], here=Here(store)),
        ),
        (
            BadValue,
            "no sources were named",
            lambda: compute_removals(ensemble, [0], [], here=Here(store)),
        ),
        (
            BadValue,
            "different whole numbers",
            lambda: compute_removals(ensemble, [0, 0], [[1]], here=Here(store)),
        ),
        (
            BadValue,
            "outside 0..11",
            lambda: compute_removals(ensemble, [0], [[12]], here=Here(store)),
        ),
        (BadValue, "choose 1 to 12", lambda: draw_sets(ensemble.codebook, 13, 1)),
        (BadValue, "choose 1 to 12", lambda: survivor_table(ensemble.codebook, [0])),
        (NoSurvivors, "promises sets of 1", lambda: draw_sets(ensemble.codebook, 11, 1)),
    ):
        with pytest.raises(kind, match=message) as error:
            slip()
        assert one_line(error)
