"""What grows with N, against hand-worked counts; workers that fail, against renewal theory."""

from math import comb, exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abc_lib.ground.errors import BadValue
from abc_lib.images.registry import get_recipe
from abc_lib.study.cost import cost_of
from abc_lib.study.cost.scale import members_for, scale_of, scale_table, simulate


@given(st.integers(1, 10**8))
def test_a_code_has_a_codeword_and_a_placebo_for_each_source(sources):
    n = members_for(sources)
    assert n % 2 == 0 and comb(n, n // 2) >= 2 * sources
    assert n == 2 or comb(n - 2, n // 2 - 1) < 2 * sources


def test_counts_are_those_of_a_recipe_with_as_many_sources():
    recipe = get_recipe("mnist_1024")
    found = scale_of(recipe, 1024)
    with_code = recipe.replace(code={"n": found.members, "weight": found.members // 2})
    cost = cost_of(with_code)
    assert found.landscape == cost.landscape * cost.flop
    assert found.jacobian == cost.jacobian * cost.flop
    # 3 evaluations a training step and image, half of the images, 500 times, each member
    assert found.exposed == pytest.approx(3 * found.members * 512 * 500 * cost.flop)


def test_what_is_linear_grows_so_and_the_rest_by_logarithms():
    recipe = get_recipe("mnist_1024")
    small, large = scale_of(recipe, 10**4), scale_of(recipe, 10**8)
    assert large.landscape / small.landscape > 10**4
    assert large.jacobian / small.jacobian < 4 and large.members < 2 * small.members
    table = scale_table([small, large])
    assert table["grows by"].iloc[0] == f"{large.members / small.members:,.1f} ×"


def test_without_failures_work_takes_its_rounds():
    for workers, rounds in ((1, 12), (2, 6), (4, 3), (5, 3), (12, 1), (100, 1)):
        done = simulate(12, 600, workers)
        assert done.hours == pytest.approx(rounds / 6) and done.failures == 0
        assert done.useful == pytest.approx(12 / (workers * rounds))


@pytest.mark.parametrize("checkpoint, pieces", [(float("inf"), 1), (900.0, 4)])
def test_one_worker_that_fails_takes_as_long_as_renewal_theory_says(checkpoint, pieces):
    """A piece of d seconds at rate r takes (exp(r d) - 1) / r on average."""
    rate = 2 / 3600
    expected = pieces * (exp(rate * 3600 / pieces) - 1) / rate / 3600
    found = [
        simulate(1, 3600, 1, failures=2, checkpoint=checkpoint, recovery=0, seed=seed).hours
        for seed in range(4000)
    ]
    mean = sum(found) / len(found)
    spread = (sum((x - mean) ** 2 for x in found) / len(found)) ** 0.5
    assert abs(mean - expected) < 4 * spread / len(found) ** 0.5


def test_checkpoints_lose_less_and_the_same_seed_says_the_same():
    often = simulate(200, 3600, 50, failures=0.5, checkpoint=300, seed=3)
    never = simulate(200, 3600, 50, failures=0.5, seed=3)
    assert often.useful > never.useful and often.hours < never.hours
    assert often == simulate(200, 3600, 50, failures=0.5, checkpoint=300, seed=3)


@pytest.mark.parametrize(
    "bad", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1, -1), (1, 1, 1, 0, 0), (1, float("nan"), 1)]
)
def test_what_cannot_be_scheduled_is_refused(bad, one_line):
    with pytest.raises(BadValue) as error:
        simulate(*bad)
    assert one_line(error)
