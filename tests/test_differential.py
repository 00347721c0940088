"""Differential ablation: Jacobians against differences and by hand, what they predict, and the
radius they screen for.
"""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from small import budget, tiny_recipe
from stops import until_done

from abc_lib.ground.errors import ArtefactError, BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.store import Store
from abc_lib.images.registry import get_recipe
from abc_lib.method.code import Codebook
from abc_lib.method.differential import (
    Jacobians,
    rank_correlations,
    screening_bounds,
    screening_sizes,
)
from abc_lib.method.diffusion import ExogenousNoise, denoise, sampler_steps
from abc_lib.method.distance import distance
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.space import to_images
from abc_lib.results import jacobians as differential
from abc_lib.results.jacobians import compute as compute_jacobians
from abc_lib.results.jacobians import find as find_jacobians
from abc_lib.results.jacobians import get as get_jacobians
from abc_lib.results.jacobians import read as read_jacobians
from abc_lib.results.jacobians import screened_radius
from abc_lib.training.budget import samples_at_once
from abc_lib.training.ensembles import find_ensemble

QUIET = {"jobs": 1, "progress": False}


def in_float64(ensemble):
    return dataclasses.replace(
        ensemble, members=[copy.deepcopy(member).double() for member in ensemble.members]
    )


def with_sampling(ensemble, **sampling):
    return dataclasses.replace(ensemble, recipe=ensemble.recipe.replace(sampling=sampling))


@torch.inference_mode()
def sample_for(ensemble, noise, c):
    """Images for weights c (B, n), in the precision of everything given: a plain sum."""

    def predict(_, x, t):
        times = torch.full((len(x),), t)
        return (
            sum(
                c[:, i, None, None, None] * member(x, times)
                for i, member in enumerate(ensemble.members)
            )
            / ensemble.n
        )

    owner = torch.zeros(len(c), dtype=torch.int64)
    return to_images(
        denoise(predict, noise, ensemble.recipe.diffusion, ensemble.recipe.sampling, owner),
        ensemble.recipe.data,
    )


def differences(ensemble, noise, directions, h=1e-7):
    """Central differences of one sample along directions (K, n), all at once."""
    ones = torch.ones(len(directions), ensemble.n, dtype=torch.float64)
    images = sample_for(ensemble, noise, torch.cat([ones + h * directions, ones - h * directions]))
    # A larger step would carry pixels over the edge of the sampler's clipping.
    return (images[: len(directions)] - images[len(directions) :]) / (2 * h)


def close(found, expected, tolerance):
    assert expected.norm() > 0
    assert (found - expected).norm() <= tolerance * expected.norm()
    assert (found - expected).abs().max() <= 10 * tolerance * expected.abs().max()


def memory_for(ensemble, size):
    """The least memory that differentiates ``size`` samples of the tiny ensemble at once."""
    low, high = 1, 2**28
    while low < high:
        middle = (low + high) // 2
        try:
            fits = samples_at_once(ensemble, middle, 1) >= size
        except BadValue:
            fits = False
        low, high = (low, middle) if fits else (middle + 1, high)
    return low


@pytest.fixture(scope="module")
def three(trained, tmp_path_factory):
    """The Jacobians of samples 0, 1, 2 of the tiny ensemble."""
    return read_jacobians(
        compute_jacobians(
            trained.ensemble,
            range(3),
            here=Here(Store(tmp_path_factory.mktemp("three"), None), **QUIET),
        )
    )


# --- the Jacobian ---


@pytest.mark.parametrize(
    "sampling", [{}, {"sampler": "ddim"}, {"clip": None}, {"clip": 0.5}, {"steps": 1}], ids=str
)
def test_jacobians_are_central_differences(trained, sampling):
    ensemble = with_sampling(in_float64(trained.ensemble), **sampling)
    noise = ensemble.draw_noise(0, [0, 1]).to("cpu", torch.float64)
    factual, jacobians = ensemble.differentiate(noise)
    assert factual.dtype == jacobians.dtype == torch.float64 and jacobians.shape == (2, 6, 1, 8, 8)
    for row in range(2):
        close(
            jacobians[row],
            differences(ensemble, noise[row], torch.eye(6, dtype=torch.float64)),
            1e-6,
        )


@pytest.mark.slow
def test_a_published_ensembles_jacobian_is_central_differences_through_all_fifty_steps(tmp_path):
    ensemble = find_ensemble(get_recipe("digits_64"), here=Here(Store(tmp_path)))
    assert ensemble.recipe.sampling.steps == 50
    precise = in_float64(ensemble)
    noise = ensemble.draw_noise(0, [0])
    expected = differences(
        precise, noise.to("cpu", torch.float64), torch.eye(ensemble.n, dtype=torch.float64)
    )
    close(precise.differentiate(noise.to("cpu", torch.float64))[1][0], expected, 1e-6)
    factual, single = ensemble.differentiate(noise)
    assert factual.dtype == single.dtype == torch.float32
    close(single[0].double(), expected, 1e-3)  # fifty steps of float32


class Line(torch.nn.Module):
    """A member whose prediction is a x + b."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = (
            torch.nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in (a, b)
        )

    def forward(self, x, t):
        return self.a * x + self.b


LINES = [(0.3, 0.02), (-0.5, 0.05), (0.9, -0.04)]


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_a_sampler_small_enough_to_differentiate_by_hand(sampler, steps):
    """With f_i(x) = a_i x + b_i a step is x' = (p - q A) x - q B + r z, A and B the means of c_i
    a_i and c_i b_i over n.
    """
    recipe = tiny_recipe().replace(sampling={"sampler": sampler, "steps": steps, "clip": None})
    ensemble = Ensemble(recipe, Codebook.draw(3, 1, 3, 0), [Line(a, b) for a, b in LINES])
    drawn = ExogenousNoise.draw(0, [0, 1], (1, 2, 2), recipe.sampling).to("cpu", torch.float64)
    noise = dataclasses.replace(
        drawn, initial=drawn.initial / 100, steps=None if drawn.steps is None else drawn.steps / 100
    )
    x, moved = noise.initial, torch.zeros(3, *noise.initial.shape, dtype=torch.float64)
    slope, offset = (sum(line[k] for line in LINES) / 3 for k in (0, 1))
    for k, s in enumerate(sampler_steps(recipe.diffusion, recipe.sampling)):
        p, q = s.to_x0 / s.from_x + s.to_x, s.to_x0 * s.from_eps / s.from_x - s.to_eps
        # the product rule: A and B move by a_j / n and b_j / n, x by what it moved so far
        moved = torch.stack(
            [(p - q * slope) * moved[j] - q * (a * x + b) / 3 for j, (a, b) in enumerate(LINES)]
        )
        x = (p - q * slope) * x - q * offset + (s.to_noise * noise.steps[k] if s.to_noise else 0)
    factual, jacobians = ensemble.differentiate(noise)
    assert 0 < (x / 2 + 0.5).min() and (x / 2 + 0.5).max() < 1, "nothing may be clipped"
    torch.testing.assert_close(factual, x / 2 + 0.5, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(jacobians, moved.transpose(0, 1) / 2, rtol=1e-12, atol=1e-12)


def test_what_is_clipped_does_not_move():
    recipe = tiny_recipe().replace(sampling={"steps": 1, "clip": 1.0})
    ensemble = Ensemble(recipe, Codebook.draw(3, 1, 3, 0), [Line(a, b) for a, b in LINES])
    step = sampler_steps(recipe.diffusion, recipe.sampling)[0]
    initial = torch.tensor([0.2, 1.5, -1.5, -0.2], dtype=torch.float64).reshape(1, 1, 2, 2)
    noise = ExogenousNoise(
        initial, torch.zeros(0, 1, 1, 2, 2, dtype=torch.float64), torch.tensor([0])
    )
    factual, jacobians = ensemble.differentiate(noise)
    free = initial.abs() < 1
    assert torch.equal(factual[~free], torch.tensor([1.0, 0.0], dtype=torch.float64))
    for j, (a, b) in enumerate(LINES):
        expected = -step.from_eps / step.from_x * (a * initial + b) / 3 / 2 * free
        torch.testing.assert_close(jacobians[:, j], expected, rtol=1e-12, atol=1e-12)


def test_the_members_rows_add_up_to_the_derivative_in_a_factor_of_the_whole_prediction(trained):
    # sum_j dG/dc_j at c = u is the derivative of G((1 + s) u) in s.
    ensemble = in_float64(trained.ensemble)
    noise = ensemble.draw_noise(0, [3]).to("cpu", torch.float64)
    close(
        ensemble.differentiate(noise)[1][0].sum(0)[None],
        differences(ensemble, noise, torch.ones(1, 6, dtype=torch.float64)),
        1e-6,
    )


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_the_factual_is_the_sample(trained, sampler):
    ensemble = with_sampling(trained.ensemble, sampler=sampler)
    noise = ensemble.draw_noise(0, range(3))
    factual, jacobians = ensemble.differentiate(noise)
    torch.testing.assert_close(factual, ensemble.sample(noise), rtol=0, atol=1e-5)
    assert (
        not factual.requires_grad
        and not jacobians.requires_grad
        and jacobians.dtype == torch.float32
    )


def test_a_member_is_asked_once_a_step(trained, monkeypatch):
    asked, noise = [], trained.ensemble.draw_noise(0, range(2))
    member = trained.ensemble.members[0]
    real = member.unet.forward
    monkeypatch.setattr(
        member.unet,
        "forward",
        lambda x, *a, **k: (asked.append(tuple(x.shape)), real(x, *a, **k))[1],
    )
    trained.ensemble.differentiate(noise)
    assert asked == [(2, 1, 8, 8)] * 6


def test_differentiating_leaves_the_number_of_threads_as_it_was(trained):
    noise = trained.ensemble.draw_noise(0, [0])
    try:
        torch.set_num_threads(2)
        several = trained.ensemble.differentiate(noise)[1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert torch.equal(several, trained.ensemble.differentiate(noise)[1])


# --- computed in blocks, stored, found ---


@pytest.mark.parametrize("size", [1, 2, 3])
def test_any_memory_budget_gives_the_same_jacobians(trained, three, store, size):
    artefact = compute_jacobians(
        trained.ensemble,
        range(3),
        here=Here(store, memory=memory_for(trained.ensemble, size), **QUIET),
    )
    found = read_jacobians(artefact)
    assert artefact.info["block"] == size and artefact.info["members"] == found.n == 6
    torch.testing.assert_close(found.factual, three.factual, rtol=0, atol=1e-5)
    close(found.jacobians, three.jacobians, 1e-4)


@pytest.mark.slow
def test_jacobians_of_several_jobs_are_those_of_one(trained, three, store):
    artefact = compute_jacobians(
        trained.ensemble, range(3), here=Here(store, jobs=2, progress=False)
    )
    assert artefact.info["block"] == 2
    close(read_jacobians(artefact).jacobians, three.jacobians, 1e-4)


def test_a_budget_too_small_gives_one_line(trained, store, one_line):
    with pytest.raises(BadValue, match="memory budget.*Jacobian") as error:
        compute_jacobians(
            trained.ensemble,
            [0],
            here=Here(store, memory=memory_for(trained.ensemble, 1) - 1, **QUIET),
        )
    assert one_line(error)


def test_jacobians_stopped_at_any_block_go_on_to_the_same_bits(trained, store, monkeypatch):
    options = {"memory": memory_for(trained.ensemble, 1), **QUIET}
    whole = compute_jacobians(
        trained.ensemble, range(4), here=Here(Store(store.cache / "whole", None), **options)
    )
    artefact, stops, pieces = until_done(
        monkeypatch,
        lambda: compute_jacobians(trained.ensemble, range(4), here=Here(store, **options)),
        0.5,
        1,
    )
    assert stops >= 2 and len(pieces) == len(set(pieces)) == 4
    assert artefact.read("jacobians.safetensors") == whole.read("jacobians.safetensors")
    assert list(store.cache.rglob("jacobians-*")) == []


def test_finished_jacobians_are_not_computed_again(trained, store, monkeypatch):
    first = compute_jacobians(trained.ensemble, [2], here=Here(store, **QUIET))
    monkeypatch.setattr(Ensemble, "differentiate", None)
    assert (
        compute_jacobians(trained.ensemble, [2], here=Here(store, **QUIET)).manifest
        == first.manifest
    )


def test_what_is_stored_reads_back(trained, store):
    noise = trained.ensemble.draw_noise(5, [7, 2])
    read = read_jacobians(compute_jacobians(trained.ensemble, [7, 2], 5, here=Here(store, **QUIET)))
    factual, jacobians = trained.ensemble.differentiate(noise)
    assert torch.equal(read.factual, factual) and torch.equal(
        read.jacobians, jacobians.half().float()
    )
    torch.testing.assert_close(read.jacobians, jacobians, rtol=2**-11, atol=1e-7)
    assert (read.name, read.scale, read.seed, read.indices.tolist(), len(read)) == (
        "digits_64",
        "laptop",
        5,
        [7, 2],
        2,
    )


def test_damaged_jacobians_are_refused(trained, store, one_line):
    path = (
        compute_jacobians(trained.ensemble, [0], here=Here(store, **QUIET)).path
        / "jacobians.safetensors"
    )
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    for read in (
        lambda ensemble, store: find_jacobians(ensemble, here=Here(store)),
        lambda ensemble, store: get_jacobians(ensemble, [0, 1], here=Here(store, **QUIET)),
    ):
        with pytest.raises(ArtefactError, match="jacobians.safetensors") as error:
            read(trained.ensemble, store)
        assert one_line(error)


def test_published_and_cached_jacobians_are_joined_in_the_order_asked_for(
    trained, three, store, monkeypatch
):
    store.copy(
        compute_jacobians(
            trained.ensemble, [2, 0], here=Here(Store(store.cache / "elsewhere", None), **QUIET)
        ),
        "jacobian",
    )
    compute_jacobians(trained.ensemble, [5, 2], here=Here(store, **QUIET))
    asked, real = [], differential.compute
    spy = lambda ensemble, indices, *a, **k: (
        asked.append(list(indices)),
        real(ensemble, indices, *a, **k),
    )[1]  # noqa: E731
    monkeypatch.setattr(differential, "compute", spy)
    assert find_jacobians(trained.ensemble, here=Here(store)).indices.tolist() == [0, 2, 5]
    found = get_jacobians(trained.ensemble, iter([5, 1, 2, 0]), here=Here(store, **QUIET))
    assert asked == [[1]] and found.indices.tolist() == [5, 1, 2, 0]
    assert [a.published for a in found.artefacts] == [True, False, False]
    close(found.jacobians[[3, 1, 2]], three.jacobians, 1e-4)
    again = get_jacobians(trained.ensemble, [0, 5], here=Here(store, **QUIET))
    assert asked == [[1]] and torch.equal(again.jacobians, found.jacobians[[3, 0]])
    # The published ones are passed over when asked, and what the cache has is enough then.
    assert find_jacobians(trained.ensemble, here=Here(store).anew()).indices.tolist() == [1, 2, 5]
    assert not any(
        a.published
        for a in get_jacobians(trained.ensemble, [2], here=Here(store, **QUIET).anew()).artefacts
    )


def test_a_sample_asked_for_twice_is_computed_once(trained, store):
    found = get_jacobians(trained.ensemble, [4, 4], here=Here(store, **QUIET))
    assert found.indices.tolist() == [4, 4] and len(found.artefacts) == 1


def test_another_ensemble_seed_or_sampler_has_other_jacobians(trained, store):
    compute_jacobians(trained.ensemble, [0], here=Here(store, **QUIET))
    assert (
        find_jacobians(trained.ensemble, here=Here(store)) is not None
        and find_jacobians(trained.ensemble, 1, here=Here(store)) is None
    )
    for other in (
        dataclasses.replace(trained.ensemble, identity="another"),
        with_sampling(trained.ensemble, steps=5),
        with_sampling(trained.ensemble, sampler="ddim"),
    ):
        assert find_jacobians(other, here=Here(store)) is None


@pytest.mark.parametrize("indices", [[], [1, 1], [-1]])
def test_wrong_sample_numbers_give_one_line(trained, store, indices, one_line):
    with pytest.raises(BadValue, match="at least one index|sample indices") as error:
        compute_jacobians(trained.ensemble, indices, here=Here(store, **QUIET))
    assert one_line(error)
    with pytest.raises(BadValue):
        get_jacobians(
            trained.ensemble, [] if indices == [1, 1] else indices, here=Here(store, **QUIET)
        )


def test_a_sample_without_a_jacobian_is_named(three, one_line):
    assert three.only(iter([2, 0])).indices.tolist() == [2, 0]
    with pytest.raises(
        BadValue, match="sample 99 of digits_64 has no Jacobian.*jacobians.get"
    ) as error:
        three.only([0, 99])
    assert one_line(error)


# --- predictions ---


def made(shape=(1, 8, 8), samples=2, n=4, seed=0):
    """Jacobians out of thin air."""
    draw = torch.Generator().manual_seed(seed)
    factual, jacobians = (
        torch.rand(samples, *shape, generator=draw),
        torch.randn(samples, n, *shape, generator=draw) / 10,
    )
    return Jacobians("made", "up", 0, np.arange(samples), factual, jacobians)


def test_a_prediction_is_equation_1(trained, three):
    c = trained.ensemble.codebook.leave_one_out()
    found = three.predict(1, c)
    assert found.shape == (12, 1, 8, 8)
    for k in range(12):
        expected = three.factual[1].clone()
        for i in range(6):
            expected += (c[k, i] - 1) * three.jacobians[1, i]
        torch.testing.assert_close(found[k], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(three.predict(2, np.ones(6)), three.factual[[2]])


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 5, 9), (3, 6, 4)])
def test_predicted_distances_are_those_of_predicted_images(shape):
    jacobians, c = made(shape), np.random.default_rng(0).uniform(0, 2, (7, 4))
    expected = [
        distance(jacobians.predict(row, c).double(), jacobians.factual[row].double()).numpy()
        for row in range(2)
    ]
    np.testing.assert_allclose(jacobians.distances(c), expected, rtol=1e-5)
    assert jacobians.distances(np.ones(4)).tolist() == [[0], [0]]


def test_a_predicted_landscape_is_without_each_source(trained, three):
    book = trained.ensemble.codebook
    found = three.landscape(book)
    assert found.shape == (3, 12) and found.dtype == np.float64
    np.testing.assert_array_equal(found, three.distances(book.leave_one_out()))
    for source in (0, 7):
        np.testing.assert_allclose(
            found[:, source], three.distances(book.ablation(source))[:, 0], rtol=1e-12
        )


def test_small_changes_are_predicted_to_second_order(trained):
    ensemble = in_float64(with_sampling(trained.ensemble, clip=None))
    noise = ensemble.draw_noise(0, [0]).to("cpu", torch.float64)
    factual, jacobians = ensemble.differentiate(noise)
    exact = Jacobians("digits_64", "laptop", 0, np.array([0]), factual, jacobians)
    direction = ensemble.codebook.leave_one_out(np.array([4])) - 1

    def error(h):
        return float(
            (
                exact.predict(0, 1 + h * direction)
                - sample_for(ensemble, noise, torch.from_numpy(1 + h * direction))
            ).norm()
        )

    assert error(1e-3) / error(5e-4) == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize(
    "c, words",
    [
        (np.ones(3), "do not fit 4 members"),
        (np.ones((2, 5)), "do not fit 4 members"),
        (np.ones((1, 1, 4)), "do not fit"),
        ([1, 1, np.nan, 1], "finite"),
        ([1, np.inf, 1, 1], "finite"),
    ],
)
def test_wrong_weights_give_one_line(c, words, one_line):
    for predict in (made().distances, lambda c: made().predict(0, c)):
        with pytest.raises(BadValue, match=words) as error:
            predict(c)
        assert one_line(error)


def test_a_jacobian_that_is_not_finite_gives_one_line(one_line):
    broken = made()
    broken.jacobians[1, 2, 0, 3, 3] = torch.nan
    with pytest.raises(BadValue, match="Jacobian of made.*not finite") as error:
        broken.distances(np.ones(4))
    assert one_line(error)


# --- ranks ---


def ranks(values):
    """Ranks from 1, equal values sharing the mean of theirs."""
    return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])


def test_rank_correlations_are_spearmans():
    rng = np.random.default_rng(3)
    predicted, exact = (
        rng.integers(0, 6, (5, 30)).astype(float),
        rng.integers(0, 9, (5, 30)).astype(float),
    )
    exact[0], exact[1] = predicted[0] ** 3, -predicted[1]
    found = rank_correlations(predicted, exact)
    for row in range(5):
        assert found[row] == pytest.approx(
            np.corrcoef(ranks(predicted[row]), ranks(exact[row]))[0, 1], abs=1e-12
        )
        assert found[row] == pytest.approx(
            stats.spearmanr(predicted[row], exact[row]).statistic, abs=1e-12
        )
    assert found[:2].tolist() == pytest.approx([1, -1])
    assert rank_correlations(predicted[2], exact[2]).tolist() == [found[2]]


def test_distances_that_are_all_equal_have_no_order(recwarn):
    same, other = np.full((1, 5), 0.3), np.arange(5.0)[None]
    for a, b in ((same, other), (other, same), (same, same)):
        assert np.isnan(rank_correlations(a, b)).tolist() == [True]
    assert (
        rank_correlations(np.vstack([same, other]), np.vstack([other, other]))[1]
        == pytest.approx(1)
        and not recwarn.list
    )


@pytest.mark.parametrize(
    "predicted, exact, words",
    [
        (np.ones((2, 3)), np.ones((2, 4)), "not of the same samples and sources"),
        (np.ones((2, 3)), np.ones((1, 3)), "not of the same"),
        (np.ones((2, 1)), np.ones((2, 1)), "one source"),
        (np.ones((2, 0)), np.ones((2, 0)), "one source"),
        ([[1, np.nan]], [[1, 2]], "finite"),
        ([[1, 2]], [[np.inf, 2]], "finite"),
    ],
)
def test_distances_that_do_not_fit_give_one_line(predicted, exact, words, one_line):
    for function in (rank_correlations, screening_bounds, lambda a, b: screening_sizes(a, b, 0.9)):
        with pytest.raises(BadValue, match=words) as error:
            function(predicted, exact)
        assert one_line(error)


# --- screening ---


def landscapes(samples=3, sources=8):
    # small whole numbers, so that there are ties
    return arrays(np.float64, (samples, sources), elements=st.integers(0, 6).map(float))


@settings(max_examples=60, deadline=None)
@given(landscapes(), landscapes(), st.sampled_from([0.1, 0.5, 0.9, 0.99, 1.0]))
def test_screening_is_a_running_maximum_in_the_predicted_order(predicted, exact, share):
    bounds, sizes = screening_bounds(predicted, exact), screening_sizes(predicted, exact, share)
    for row in range(3):
        order = sorted(range(8), key=lambda s: (-predicted[row, s], s))
        expected = [max(exact[row, s] for s in order[:k]) for k in range(1, 9)]
        assert bounds[row].tolist() == expected and expected[-1] == exact[row].max()
        assert sizes[row] == next(
            k for k in range(1, 9) if expected[k - 1] >= share * exact[row].max()
        )


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan")])
def test_a_share_that_is_none_gives_one_line(share, one_line):
    with pytest.raises(BadValue, match="share of the radius") as error:
        screening_sizes(np.eye(3), np.eye(3), share)
    assert one_line(error)


def exact_distances(ensemble, jacobians):
    noise = ensemble.draw_noise(jacobians.seed, jacobians.indices)
    N = ensemble.codebook.num_sources
    rows = [
        ensemble.sample(
            noise[row], ensemble.codebook.leave_one_out(), torch.zeros(N, dtype=torch.int64)
        )
        for row in range(len(noise))
    ]
    return np.stack(
        [distance(images, factual).numpy() for images, factual in zip(rows, ensemble.sample(noise))]
    )


def test_a_screened_radius_is_a_bound_that_reaches_the_radius(trained, three):
    exact, last = exact_distances(trained.ensemble, three), np.zeros(3)
    bounds = screening_bounds(three.landscape(trained.ensemble.codebook), exact)
    for k in (1, 4, 12):
        found = screened_radius(trained.ensemble, three, k, here=Here(**QUIET))
        assert found.sources.shape == found.distances.shape == (
            3,
            k,
        ) and found.indices.tolist() == [0, 1, 2]
        predicted = np.take_along_axis(
            three.landscape(trained.ensemble.codebook), found.sources, axis=1
        )
        assert (np.diff(predicted) <= 0).all()
        np.testing.assert_allclose(
            found.distances, np.take_along_axis(exact, found.sources, axis=1), atol=2e-3
        )
        np.testing.assert_allclose(found.radii, bounds[:, k - 1], atol=2e-3)
        assert (found.radii >= last - 1e-3).all()
        last = found.radii
    np.testing.assert_allclose(last, exact.max(axis=1), atol=2e-3)
    assert [sorted(row) for row in found.sources.tolist()] == [list(range(12))] * 3


@pytest.mark.parametrize("size", [1, 5])
def test_screening_in_blocks_of_any_size_is_the_same(trained, three, size):
    whole = screened_radius(trained.ensemble, three.only([2, 0]), 4, here=Here(**QUIET))
    cut = screened_radius(
        trained.ensemble,
        three.only([2, 0]),
        4,
        here=Here(memory=budget(trained.ensemble, size), **QUIET),
    )
    assert whole.indices.tolist() == [2, 0] and (whole.sources == cut.sources).all()
    np.testing.assert_allclose(cut.distances, whole.distances, atol=1e-3)


def test_only_the_most_promising_are_computed(trained, three, monkeypatch):
    computed, real = [], Ensemble.sample
    monkeypatch.setattr(
        Ensemble,
        "sample",
        lambda self, noise, c, owner: (computed.append(len(owner)), real(self, noise, c, owner))[1],
    )
    screened_radius(trained.ensemble, three, 2, here=Here(**QUIET))
    assert sum(computed) == 6


@pytest.mark.parametrize(
    "k, words",
    [
        (13, "k is 13, but digits_64 has only 12 sources"),
        (0, "k is 0"),
        (-1, "k is -1"),
        (2.5, "k is 2.5"),
        (True, "k is True"),
    ],
)
def test_a_wrong_k_gives_one_line(trained, three, k, words, one_line):
    with pytest.raises(BadValue, match=words) as error:
        screened_radius(trained.ensemble, three, k, here=Here(**QUIET))
    assert one_line(error)


def test_jacobians_of_another_ensemble_do_not_fit(trained, one_line):
    with pytest.raises(BadValue, match="do not fit 4 members") as error:
        screened_radius(trained.ensemble, made(), 2, here=Here(**QUIET))
    assert one_line(error)
