"""Members and a code as one model: f . c, ablation, shared first steps, devices."""

import numpy as np
import pytest
import torch

from abc_lib.ground.devices import resolve_device
from abc_lib.ground.errors import AbcError, BadValue
from abc_lib.images.registry import get_recipe
from abc_lib.method.code import Codebook
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.network import build_network
from abc_lib.method.recipe import Code, Network
from abc_lib.method.space import to_images

SOURCES = 6
RECIPE = get_recipe("digits_64").replace(
    code=Code(4, 2),
    network=Network((8, 8), layers_per_block=1, groups=4, predicts="velocity"),
    sampling={"steps": 5},
)


def build() -> Ensemble:
    members = [build_network(RECIPE.network, (1, 8, 8), seed) for seed in range(4)]
    return Ensemble(RECIPE, Codebook.draw(4, 2, SOURCES, 0), members)


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    return build()


def poison(ensemble: Ensemble, member: int) -> None:
    """Every answer of this member becomes NaN."""
    for parameter in ensemble.members[member].parameters():
        parameter.fill_(float("nan"))


@pytest.fixture
def states():
    return torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_an_ensemble_knows_its_shape_and_members(ensemble):
    assert ensemble.n == 4 and ensemble.shape == (1, 8, 8) and ensemble.device.type == "cpu"
    assert not any(
        member.training or any(p.requires_grad for p in member.parameters())
        for member in ensemble.members
    )


def test_the_shape_of_a_patched_colour_ensemble():
    network = Network((8, 8), 1, groups=4, patch=4)
    book = Codebook.draw(2, 1, 2, 0)
    assert Ensemble(
        RECIPE, book, [build_network(network, (3, 32, 32), k) for k in range(2)]
    ).shape == (3, 32, 32)


def test_members_must_fit_the_code(ensemble):
    with pytest.raises(BadValue, match="3 members do not fit a code of length 4"):
        Ensemble(RECIPE, ensemble.codebook, ensemble.members[:3])


@pytest.mark.parametrize("c", [[1, 1, 1, 1], [2, 0, 0, 2], [0.5, 1.5, -1, 3], [0, 0, 0, 0]])
def test_f_dot_c_is_the_weighted_sum_over_n(ensemble, states, c):
    t = torch.tensor(300)
    with torch.no_grad():
        found = ensemble.predict(states, 300, ensemble.weights(np.array(c), 3))
        expected = sum(ci * member(states, t) for ci, member in zip(c, ensemble.members)) / 4
    assert torch.allclose(found, torch.as_tensor(expected).expand(3, 1, 8, 8), atol=1e-5)


def test_every_state_has_weights_of_its_own(ensemble, states):
    c = ensemble.codebook.leave_one_out(np.array([0, 3, 5]))
    with torch.no_grad():
        together = ensemble.predict(states, 300, ensemble.weights(c, 3))
        apart = [
            ensemble.predict(states[k : k + 1], 300, ensemble.weights(c[k], 1)) for k in range(3)
        ]
    assert torch.allclose(together, torch.cat(apart), atol=1e-5)


def test_an_ablation_is_the_mean_of_the_survivors(ensemble, states):
    alive = ensemble.codebook.survivors(2)
    with torch.no_grad():
        found = ensemble.predict(states, 300, ensemble.weights(ensemble.codebook.ablation(2), 3))
        mean = torch.stack(
            [m(states, torch.tensor(300)) for m, on in zip(ensemble.members, alive) if on]
        ).mean(0)
    assert torch.allclose(found, mean, atol=1e-5)


def test_no_weights_is_the_whole_ensemble(ensemble):
    noise = ensemble.draw_noise(0, range(2))
    assert torch.equal(ensemble.sample(noise), ensemble.sample(noise, np.ones(4)))


@pytest.mark.parametrize("c", [np.ones(3), np.ones((2, 4)), np.ones((1, 3, 4))])
def test_weights_of_a_wrong_shape_are_refused(ensemble, c):
    with pytest.raises(BadValue, match="do not fit 3 trajectories and 4 members"):
        ensemble.weights(c, 3)


def test_weights_are_one_row_a_trajectory(ensemble):
    for c in (None, np.ones(4), np.ones((1, 4)), torch.ones(3, 4)):
        assert torch.equal(ensemble.weights(c, 3), torch.ones(3, 4))


def test_an_ablated_member_is_never_asked():
    whole, broken = build(), build()
    source = 1
    dead = int(np.flatnonzero(~whole.codebook.survivors(source))[0])
    poison(broken, dead)
    noise, c = whole.draw_noise(0, range(2)), whole.codebook.ablation(source)
    found = broken.sample(noise, c)
    assert torch.isfinite(found).all() and torch.equal(found, whole.sample(noise, c))
    assert not torch.isfinite(broken.sample(noise)).all(), "the poison must be one that shows"


def test_an_ablated_member_has_no_effect_when_trajectories_share_noise():
    whole, broken = build(), build()
    book = whole.codebook
    poison(broken, 0)
    seen_by_0 = book.split(0)  # without any of these, member 0 is out
    noise = whole.draw_noise(0, range(2))
    c, owner = book.leave_one_out(np.repeat(seen_by_0, 2)), torch.arange(2).repeat(len(seen_by_0))
    found = broken.sample(noise, c, owner)
    assert torch.isfinite(found).all() and torch.allclose(
        found, whole.sample(noise, c, owner), atol=1e-6
    )


def test_trajectories_that_share_noise_equal_separate_ones(ensemble):
    book, noise = ensemble.codebook, ensemble.draw_noise(5, [3, 9])
    owner, source = torch.arange(2).repeat_interleave(SOURCES), np.tile(np.arange(SOURCES), 2)
    together = ensemble.sample(noise, book.leave_one_out(source), owner)
    for row in range(len(owner)):
        alone = ensemble.sample(noise[int(owner[row])], book.ablation(int(source[row])))
        assert torch.allclose(together[row], alone[0], atol=1e-5)


def test_counterfactuals_differ_from_the_factual_and_from_each_other(ensemble):
    noise = ensemble.draw_noise(5, [3])
    images = ensemble.sample(
        noise, ensemble.codebook.leave_one_out(), torch.zeros(SOURCES, dtype=torch.int64)
    )
    images = torch.cat([ensemble.sample(noise), images])
    assert all((images[a] - images[b]).abs().max() > 1e-3 for a in range(7) for b in range(a))


def test_samples_are_images_and_the_same_for_the_same_noise(ensemble):
    noise = ensemble.draw_noise(0, range(3))
    images = ensemble.sample(noise)
    assert (
        images.shape == (3, 1, 8, 8) and images.dtype == torch.float32 and not images.requires_grad
    )
    assert 0 <= images.min() < images.max() <= 1
    assert torch.equal(images, ensemble.sample(noise))


def test_sampling_leaves_the_number_of_threads_as_it_was(ensemble):
    torch.set_num_threads(2)
    images = ensemble.sample(ensemble.draw_noise(0, [0]))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert torch.equal(images, ensemble.sample(ensemble.draw_noise(0, [0])))


def test_a_trajectory_goes_from_its_noise_to_its_sample(ensemble):
    noise, c = ensemble.draw_noise(0, range(2)), ensemble.codebook.ablation(1)
    states = ensemble.trajectory(noise, c)
    assert states.shape == (6, 2, 1, 8, 8) and 0 <= states.min() and states.max() <= 1
    assert torch.equal(states[0], to_images(noise.initial, RECIPE.data)) and torch.equal(
        states[-1], ensemble.sample(noise, c)
    )
    assert all(not torch.equal(a, b) for a, b in zip(states, states[1:]))


def test_noise_fits_the_sampler(ensemble):
    noise = ensemble.draw_noise(0, range(3))
    assert noise.initial.shape == (3, 1, 8, 8) and noise.steps.shape == (4, 3, 1, 8, 8)


def test_auto_takes_the_cpu_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device() == resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "mps"])
def test_a_device_that_is_not_here_is_one_clear_line(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(
        BadValue,
        match=f"^device '{name}' is not on this machine; use 'cpu', or 'auto' to take what there "
        "is$",
    ):
        resolve_device(name)


def test_a_gpu_beyond_the_last_is_not_here(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("cuda") == torch.device("cuda") and resolve_device("cuda:0").index == 0
    with pytest.raises(BadValue, match="not on this machine"):
        resolve_device("cuda:1")


@pytest.mark.parametrize("name", ["gpu", "tpu", "meta", "xla", "", None])
def test_an_unknown_device_is_one_clear_line(name):
    with pytest.raises(AbcError, match=f"unknown device '{name}'") as error:
        resolve_device(name)
    assert "\n" not in str(error.value)


def test_who_asks_for_a_gpu_is_not_sent_to_the_cpu():
    with pytest.raises(AbcError, match="cuda"):
        resolve_device("gpu")
