"""Exact, predicted and hybrid counterfactuals side by side: each against its own definition."""

import dataclasses

import numpy as np
import pytest
import torch
from stops import until_done

from abc_lib.ground.duals import Dual
from abc_lib.ground.errors import AbcError, ArtefactError, BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.store import Store, Workspace
from abc_lib.method.code import Codebook
from abc_lib.method.distance import distance
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.network import NoisePredictor
from abc_lib.method.space import to_images
from abc_lib.results import comparisons as comparison
from abc_lib.results.comparisons import get as compare_counterfactuals
from abc_lib.results.comparisons import hybrid_cost, pixel_correlations
from abc_lib.results.landscapes import compute as compute_landscapes
from abc_lib.results.landscapes import read as read_landscapes

QUIET = {"jobs": 1, "progress": False}
STEPS = 6
SWITCHES = (0, 1, 3, 6)


def with_sampling(ensemble, **sampling):
    return dataclasses.replace(ensemble, recipe=ensemble.recipe.replace(sampling=sampling))


def everything(ensemble, indices, steps):
    """Noise, tangents, weights and owners of all counterfactuals of some samples."""
    noise, N = ensemble.draw_noise(0, indices), ensemble.codebook.num_sources
    c = ensemble.codebook.leave_one_out(np.tile(np.arange(N), len(noise)))
    return noise, ensemble.tangents(noise, steps), c, torch.arange(len(noise)).repeat_interleave(N)


@pytest.fixture(scope="module")
def two(trained, tmp_path_factory):
    """Samples 0 and 4 compared without every source."""
    return compare_counterfactuals(
        trained.ensemble,
        [0, 4],
        switches=SWITCHES,
        here=Here(Store(tmp_path_factory.mktemp("two"), None), **QUIET),
    )


# --- hybrid counterfactuals ---


def test_no_tangent_steps_is_the_exact_counterfactual(trained):
    noise, moving, c, owner = everything(trained.ensemble, [0, 1], ())
    assert torch.equal(
        trained.ensemble.sample_hybrid(noise, c, owner, moving, 0),
        trained.ensemble.sample(noise, c, owner),
    )


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_all_tangent_steps_are_the_differential_prediction_clipped_to_images(trained, sampler):
    ensemble = with_sampling(trained.ensemble, sampler=sampler)
    noise, moving, c, owner = everything(ensemble, [0, 1], (STEPS,))
    found = ensemble.sample_hybrid(noise, c, owner, moving, STEPS)
    change = torch.from_numpy(c - 1).float()
    state = torch.stack(
        [
            moving[f"state-{STEPS}"][o]
            + sum(change[k, i] * moving[f"tangents-{STEPS}"][o, i] for i in range(6))
            for k, o in enumerate(owner)
        ]
    )
    torch.testing.assert_close(found, to_images(state, ensemble.recipe.data), rtol=0, atol=1e-5)
    # The sampler's own last clipping has already stopped what leaves [0, 1], so that clipping
    # equation 1 is the same.
    predicted = moving["factual"][owner] + torch.einsum(
        "bi,bichw->bchw", change, moving["jacobians"][owner]
    )
    torch.testing.assert_close(found, predicted.clamp(0, 1), rtol=0, atol=1e-5)
    assert (predicted - found).abs().max() > 0.01, "something must have been clipped"


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_the_first_step_is_linear_in_the_weights_where_nothing_is_clipped(trained, sampler):
    # Its state is the noise, which does not depend on c, and its prediction is f . c.
    ensemble = with_sampling(trained.ensemble, sampler=sampler, clip=None)
    noise, moving, c, owner = everything(ensemble, [0, 1], (1, 4))
    exact = ensemble.sample(noise, c, owner)
    one, four = (
        (ensemble.sample_hybrid(noise, c, owner, moving, k) - exact).abs().max() for k in (1, 4)
    )
    assert one < 2e-5 and four > 1e-3, (one, four)


def test_fewer_tangent_steps_are_closer_to_the_exact_counterfactual(two):
    errors = two.errors.mean(axis=(1, 2))
    assert errors[0] == 0 and (np.diff(errors) > 0).all()


def test_tangents_on_the_way_are_those_of_the_sampler(trained):
    ensemble, noise = trained.ensemble, trained.ensemble.draw_noise(0, [0, 1])
    found, states = ensemble.tangents(noise, {0, 2, STEPS}), ensemble.trajectory(noise)
    assert set(found) == {"state-2", "tangents-2", "state-6", "tangents-6", "factual", "jacobians"}
    for k in (2, STEPS):
        torch.testing.assert_close(
            to_images(found[f"state-{k}"], ensemble.recipe.data), states[k], rtol=0, atol=1e-5
        )
    torch.testing.assert_close(found["factual"], states[-1], rtol=0, atol=1e-5)
    fewer = ensemble.tangents(noise, (2,), jacobians=False)
    assert set(fewer) == {"state-2", "tangents-2", "factual"}
    assert torch.equal(fewer["state-2"], found["state-2"]) and torch.equal(
        fewer["tangents-2"], found["tangents-2"]
    )
    torch.testing.assert_close(fewer["factual"], found["factual"], rtol=0, atol=1e-5)


def test_trajectories_that_share_noise_go_on_from_their_own_states(trained):
    ensemble, noise = trained.ensemble, trained.ensemble.draw_noise(0, [0])
    states = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    owner = torch.zeros(3, dtype=torch.int64)
    for first in (0, 2):
        together = ensemble.denoise(noise, None, owner, first=first, state=states)
        for row in range(3):
            alone = ensemble.denoise(noise, first=first, state=states[[row]])
            torch.testing.assert_close(together[[row]], alone, rtol=0, atol=1e-4)


@pytest.fixture
def evaluations(monkeypatch):
    """Counts what goes through members, a tangent counting as a state."""
    counted, real = [], NoisePredictor.forward
    monkeypatch.setattr(
        NoisePredictor,
        "forward",
        lambda self, x, t: (
            counted.append(len(x) * (1 + len(x.tangents)) if isinstance(x, Dual) else len(x)),
            real(self, x, t),
        )[1],
    )
    return counted


@pytest.mark.parametrize("k", [1, 2, 5, STEPS])
def test_the_cost_of_a_hybrid_landscape_is_what_it_evaluates(trained, store, evaluations, k):
    ensemble, code = trained.ensemble, trained.ensemble.codebook
    compute_landscapes(ensemble, [0, 1], tangent_steps=k, here=Here(store, **QUIET))
    exact = code.num_sources * (ensemble.n - code.weight) * STEPS
    # The samples themselves go on after step k: those evaluations an exact landscape has as well.
    samples = 2 * ensemble.n * (STEPS - k)
    # Two more found out how much memory an evaluation takes.
    assert sum(evaluations) - samples - 2 == pytest.approx(2 * hybrid_cost(ensemble, k) * exact)


def test_costs_run_from_all_to_that_of_the_jacobian(trained):
    ensemble = trained.ensemble
    assert hybrid_cost(ensemble, 0) == 1
    assert hybrid_cost(ensemble, STEPS) == pytest.approx(6 * (1 + 5 * 7) / (12 * 3 * 6))
    many = Ensemble(ensemble.recipe, Codebook.draw(6, 3, 20, 0), ensemble.members)
    costs = [hybrid_cost(many, k) for k in range(STEPS + 1)]
    assert (np.diff(costs) < 0).all(), "with enough sources every step saved is a gain"


def test_hybrid_landscapes_are_the_comparisons(trained, two, store):
    for j, k in enumerate(SWITCHES):
        read = read_landscapes(
            compute_landscapes(trained.ensemble, [0, 4], tangent_steps=k, here=Here(store, **QUIET))
        )
        np.testing.assert_allclose(read.distances, two.hybrid[j], rtol=1e-4, atol=1e-3)


# --- pixel correlations ---


def test_pixel_correlations_are_pearsons():
    a, b = (
        torch.randn(5, 3, 4, 6, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)
    )
    b[1], b[2] = 3 * a[1] + 2, -a[2]
    found = pixel_correlations(a, b)
    expected = [np.corrcoef(x.flatten().double(), y.flatten().double())[0, 1] for x, y in zip(a, b)]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert (
        found[1] == pytest.approx(1) and found[2] == pytest.approx(-1) and np.abs(found).max() <= 1
    )


@pytest.mark.parametrize("value", [0.0, 0.1, -1 / 3])
def test_an_image_without_variation_correlates_with_nothing(value):
    flat, other = torch.full((2, 1, 8, 8), value), torch.rand(2, 1, 8, 8)
    assert (
        np.isnan(pixel_correlations(flat, other)).all()
        and np.isnan(pixel_correlations(other, flat)).all()
    )
    assert np.isnan(pixel_correlations(flat, flat)).all()


# --- comparisons ---


def test_a_comparison_is_what_its_columns_say(trained, two):
    ensemble = trained.ensemble
    noise, moving, c, owner = everything(ensemble, [0, 4], SWITCHES)
    factual, exact = ensemble.sample(noise)[owner], ensemble.sample(noise, c, owner)
    predicted = moving["factual"][owner] + torch.einsum(
        "bi,bichw->bchw", torch.from_numpy(c - 1).float(), moving["jacobians"][owner]
    )
    shaped = lambda values: np.asarray(values).reshape(2, 12)  # noqa: E731
    near = {"rtol": 1e-4, "atol": 1e-3}
    np.testing.assert_allclose(two.exact, shaped(distance(exact, factual)), **near)
    np.testing.assert_allclose(two.predicted, shaped(distance(predicted, factual)), **near)
    expected = [
        np.corrcoef((e - f).flatten(), (p - f).flatten())[0, 1]
        for e, p, f in zip(exact, predicted, factual)
    ]
    np.testing.assert_allclose(two.pixel_correlations, shaped(expected), atol=1e-3)
    for j, k in enumerate(SWITCHES):
        image = ensemble.sample_hybrid(noise, c, owner, moving, k)
        np.testing.assert_allclose(two.hybrid[j], shaped(distance(image, factual)), **near)
        np.testing.assert_allclose(two.errors[j], shaped(distance(image, exact)), **near)
    assert (two.hybrid[0] == two.exact).all() and two.errors[-1].min() > 0.1
    assert two.costs.tolist() == [hybrid_cost(ensemble, k) for k in SWITCHES]
    assert (two.name, two.scale, two.seed, len(two)) == ("digits_64", "laptop", 0, 2)
    assert (
        two.indices.tolist() == [0, 4]
        and two.sources.tolist() == list(range(12))
        and two.switches.tolist() == list(SWITCHES)
    )


def test_some_sources_in_the_order_asked_for_and_no_switches(trained, two, store):
    found = compare_counterfactuals(trained.ensemble, [4], [7, 2], here=Here(store, **QUIET))
    assert found.sources.tolist() == [7, 2] and found.exact.shape == (1, 2)
    assert found.hybrid.shape == found.errors.shape == (
        0,
        1,
        2,
    ) and found.switches.shape == found.costs.shape == (0,)
    for name in ("exact", "predicted", "pixel_correlations"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(two, name)[[1]][:, [7, 2]], rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("size", [1, 5])
def test_blocks_of_any_size_give_the_same_comparison(trained, two, store, monkeypatch, size):
    monkeypatch.setattr(comparison, "trajectories_side_by_side", lambda *_: size)
    few = 1 if size == 1 else 2
    monkeypatch.setattr(comparison, "samples_side_by_side", lambda *_: few)
    found = compare_counterfactuals(
        trained.ensemble, [0, 4], range(3), [3], here=Here(store, **QUIET)
    )
    assert found.artefact.info["block"] == size
    for name in ("exact", "predicted", "pixel_correlations"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(two, name)[:, :3], rtol=1e-3, atol=1e-3
        )
    np.testing.assert_allclose(found.hybrid[0], two.hybrid[2][:, :3], rtol=1e-3, atol=1e-3)


def test_a_stopped_comparison_goes_on_to_the_same_numbers(trained, store, monkeypatch):
    monkeypatch.setattr(comparison, "trajectories_side_by_side", lambda *_: 4)
    arguments = {"indices": [0, 4, 5], "sources": [3, 1, 8], "switches": [2]}
    whole = compare_counterfactuals(
        trained.ensemble, here=Here(Store(store.cache / "whole", None), **QUIET), **arguments
    )
    found, stops, pieces = until_done(
        monkeypatch,
        lambda: compare_counterfactuals(trained.ensemble, here=Here(store, **QUIET), **arguments),
        0.5,
        2,
    )
    assert stops >= 2 and len(pieces) == len(set(pieces)) == 1 + 3
    assert found.artefact.read("comparison.parquet") == whole.artefact.read("comparison.parquet")
    assert list(store.cache.rglob("block-*")) == list(store.cache.rglob("tangents-*")) == []


def test_a_comparison_stopped_under_one_budget_goes_on_under_another(
    trained, two, store, monkeypatch
):
    real, at_once = Workspace.save, [1]
    monkeypatch.setattr(comparison, "samples_side_by_side", lambda *_: at_once[0])

    def save(self, name, tensors):
        real(self, name, tensors)
        if name.startswith("block"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "save", save)
        with pytest.raises(KeyboardInterrupt):
            compare_counterfactuals(
                trained.ensemble, [0, 4], switches=SWITCHES, here=Here(store, **QUIET)
            )
    # The block that is there has one sample's counterfactuals; now one has those of both.
    at_once[0] = 2
    found = compare_counterfactuals(
        trained.ensemble, [0, 4], switches=SWITCHES, here=Here(store, **QUIET)
    )
    np.testing.assert_allclose(found.exact, two.exact, rtol=1e-4, atol=1e-3)


def test_finished_comparisons_are_not_computed_again(trained, store, monkeypatch):
    first = compare_counterfactuals(trained.ensemble, [0], [5], [1], here=Here(store, **QUIET))
    monkeypatch.setattr(type(comparison.KIND), "build", None)
    again = compare_counterfactuals(trained.ensemble, [0], [5], [1, 1], here=Here(store, **QUIET))
    assert again.artefact.manifest == first.artefact.manifest
    for other in (
        dataclasses.replace(trained.ensemble, identity="another"),
        with_sampling(trained.ensemble, sampler="ddim"),
    ):
        with pytest.raises(TypeError, match="not callable"):  # it would have to be computed
            compare_counterfactuals(other, [0], [5], [1], here=Here(store, **QUIET))


def test_some_of_the_samples_of_a_comparison(two):
    one = two.only([1])
    assert (
        one.indices.tolist() == [4]
        and one.hybrid.shape == one.errors.shape == (4, 1, 12)
        and (one.sources == two.sources).all()
    )
    assert (one.exact == two.exact[[1]]).all() and (one.errors == two.errors[:, [1]]).all()


def test_published_comparisons_come_first_and_can_be_passed_over(trained, store):
    made = compare_counterfactuals(
        trained.ensemble, [0], [5], here=Here(Store(store.cache / "elsewhere", None), **QUIET)
    )
    store.copy(made.artefact, "comparison")
    assert compare_counterfactuals(
        trained.ensemble, [0], [5], here=Here(store, **QUIET)
    ).artefact.published
    assert not compare_counterfactuals(
        trained.ensemble, [0], [5], here=Here(store, **QUIET).anew()
    ).artefact.published


def test_damaged_comparisons_are_refused(trained, store, one_line):
    path = (
        compare_counterfactuals(trained.ensemble, [0], [5], here=Here(store, **QUIET)).artefact.path
        / "comparison.parquet"
    )
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(ArtefactError, match="comparison.parquet") as error:
        compare_counterfactuals(trained.ensemble, [0], [5], here=Here(store, **QUIET))
    assert one_line(error)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"indices": []}, "at least one"),
        ({"indices": [1, 1]}, "different whole numbers"),
        ({"indices": [-1]}, "from 0 on"),
        ({"sources": []}, "sources are asked for"),
        ({"sources": [3, 3]}, "all different"),
        ({"sources": [12]}, "source 12 is outside"),
        ({"sources": [-1]}, "source -1 is outside"),
        ({"switches": [7]}, "0 to 6 steps, not 7"),
        ({"switches": [2, -1]}, "0 to 6 steps, not -1"),
        ({"memory": 1000}, "memory budget"),
    ],
)
def test_wrong_arguments_give_one_line(trained, store, change, words, one_line):
    with pytest.raises(AbcError, match=words) as error:
        memory = change.pop("memory", "2GiB")
        asked = {"indices": [0]} | change
        here = Here(store, memory=memory, **QUIET)
        compare_counterfactuals(trained.ensemble, here=here, **asked)
    assert one_line(error) and isinstance(error.value, BadValue)
