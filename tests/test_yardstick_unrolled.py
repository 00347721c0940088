"""Unrolled training: its derivative against training again with other weights."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small import own_store

from abc_lib.ground.here import Here
from abc_lib.ground.seeds import derive
from abc_lib.method.diffusion import add_noise, alphas_cumprod
from abc_lib.method.network import build_network
from abc_lib.method.space import state_shape, to_model
from abc_lib.training.batches import Batches, learning_rate
from abc_lib.yardstick.methods import METHODS, unrolled
from abc_lib.yardstick.methods.unrolled import Unrolled, unroll
from abc_lib.yardstick.tasks import make_task, noised


@pytest.fixture(scope="module")
def mine(trained):
    """The first member's images, and its training unrolled."""
    seen = trained.ensemble.codebook.split(0)
    images = trained.images.of_sources(seen)
    network, sources, slopes = unroll(trained.recipe, 0, images)
    return SimpleNamespace(
        seen=seen, images=images, network=network, sources=sources, slopes=slopes
    )


@pytest.fixture(scope="module")
def task(trained, tmp_path_factory):
    store = own_store(trained, tmp_path_factory.mktemp("own"))
    return make_task(trained.ensemble, 4, Here(store, "cpu", jobs=1, progress=False))


# --- Adam, on models where all is known ---

STEPS, RATE = 12, 0.05


def problem():
    """Errors of a linear model and of one that is not, from parameters (6,), of minibatches of 4
    of 5 sources' images; one twice in a minibatch, one of two images of a source.
    """
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(6, 6, generator=rng, dtype=torch.float64)
    y = torch.randn(6, generator=rng, dtype=torch.float64)
    owner = torch.tensor([0, 1, 2, 3, 4, 4])
    batches = [torch.randint(6, (4,), generator=rng) for _ in range(STEPS)]
    start = torch.randn(6, generator=rng, dtype=torch.float64)
    models = {
        "linear": lambda x, theta: x @ theta,
        "curved": lambda x, theta: torch.tanh(x[:, :3] @ theta[:3]) * torch.exp(x @ theta / 4),
    }
    return x, y, owner, batches, start, models


def trained_again(model, weights, steps=STEPS):
    x, y, owner, batches, start, models = problem()
    theta = start.clone().requires_grad_()
    adam = torch.optim.Adam([theta])
    for k, which in enumerate(batches[:steps]):
        adam.param_groups[0]["lr"] = RATE / (1 + k)
        adam.zero_grad()
        errors = (models[model](x[which], theta) - y[which]) ** 2
        (errors * weights[owner[which]]).mean().backward()
        adam.step()
    return theta.detach(), adam.state[theta]


def unrolled_again(model, of, begin=0):
    x, y, owner, batches, _, models = problem()
    for k in range(begin, STEPS):
        which = batches[k]
        errors = lambda theta, which=which: (models[model](x[which], theta) - y[which]) ** 2
        of.step(errors, owner[which] == torch.arange(5)[:, None], RATE / (1 + k))
    return of


@pytest.mark.parametrize("model", ["linear", "curved"])
def test_the_derivative_through_adam_is_that_of_training_again(model):
    start, ones = problem()[4], torch.ones(5, dtype=torch.float64)
    found = unrolled_again(model, Unrolled(start, 5))
    assert torch.allclose(found.theta, trained_again(model, ones)[0], rtol=1e-12, atol=1e-12)
    h = 1e-5
    for source, moved in enumerate(torch.eye(5, dtype=torch.float64) * h):
        more, less = (trained_again(model, ones + sign * moved)[0] for sign in (1, -1))
        assert torch.allclose(found.slopes[source], (more - less) / (2 * h), rtol=1e-6, atol=1e-8)
    assert float(found.slopes.abs().min(1).values.max()) > 1e-4


def test_the_last_steps_are_those_of_a_training_whose_weights_change_late():
    ones, begin, h = torch.ones(5, dtype=torch.float64), 7, 1e-5
    theta, adam = trained_again("curved", ones, begin)
    averages = adam["exp_avg"], adam["exp_avg_sq"]
    found = unrolled_again("curved", Unrolled(theta, 5, *averages, done=begin), begin)
    whole = unrolled_again("curved", Unrolled(problem()[4], 5))
    assert torch.allclose(found.theta, whole.theta, rtol=1e-12)
    assert not torch.allclose(found.slopes, whole.slopes, rtol=0.1)
    x, y, owner, batches, _, models = problem()

    def late(weights):
        start = theta.clone().requires_grad_()
        again = torch.optim.Adam([start])
        again.state[start] = {k: v.clone() for k, v in adam.items()}
        for k in range(begin, STEPS):
            which = batches[k]
            again.param_groups[0]["lr"] = RATE / (1 + k)
            again.zero_grad()
            errors = (models["curved"](x[which], start) - y[which]) ** 2
            (errors * weights[owner[which]]).mean().backward()
            again.step()
        return start.detach()

    for source, moved in enumerate(torch.eye(5, dtype=torch.float64) * h):
        slope = (late(ones + moved) - late(ones - moved)) / (2 * h)
        assert torch.allclose(found.slopes[source], slope, rtol=1e-6, atol=1e-8)


def test_parameters_without_a_gradient_stay_where_they_are():
    model = Unrolled(torch.ones(3), 2)
    model.step(lambda theta: theta[:2] ** 2, torch.eye(2), 0.1)
    assert model.theta[2] == 1 and (model.slopes[:, 2] == 0).all()
    assert torch.isfinite(model.slopes).all() and (model.slopes[[0, 1], [1, 0]] == 0).all()


# --- members ---


def test_the_member_is_trained_again_as_it_was(trained, mine):
    stored = trained.ensemble.members[0].state_dict()
    assert mine.sources.tolist() == mine.seen.tolist()
    for name, value in mine.network.state_dict().items():
        # What is stored is in half precision. Keys' bias changes nothing, and Adam makes steps of
        # what rounding leaves of its gradient.
        atol = 1e-3 if name.endswith("to_k.bias") else 1e-5
        assert torch.allclose(value, stored[name], rtol=1e-3, atol=atol), name
    late, _, slopes = unroll(trained.recipe, 0, mine.images, 5)
    for a, b in zip(late.parameters(), mine.network.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-3)
    assert slopes.shape == mine.slopes.shape and not torch.allclose(slopes, mine.slopes, rtol=0.1)


def weighted_member(recipe, images, weights):
    """The first member, trained in double precision by a plain loop with weights of its images."""
    shape, training = state_shape(recipe.data), recipe.training
    seed = derive("initial", training.seed, 0)
    net = build_network(recipe.network, shape, seed, recipe.diffusion).double()
    x, alphas = to_model(images.images, recipe.data), alphas_cumprod(recipe.diffusion)
    batches, adam = Batches(recipe, 0, len(x)), torch.optim.Adam(net.parameters())
    for k in range(training.steps):
        which = batches.indices(k)
        t, noise, _, _ = batches.chance(k, (len(which), *shape))
        states, a = add_noise(x[which], noise, t, alphas).double(), alphas[t].double()
        errors = (net(states, t) - noise).square().mean((1, 2, 3)) / a
        adam.param_groups[0]["lr"] = learning_rate(recipe, k)
        adam.zero_grad()
        (errors * weights[which]).mean().backward()
        adam.step()
    return net


def test_scores_are_what_training_again_with_other_weights_does_to_losses(trained, task, mine):
    recipe = trained.recipe
    assert recipe.training.weighting == "velocity" and not recipe.data.flips
    states, noise, t = noised(recipe, task.queries, 10, "queries")
    x, times = states.flatten(0, 1).double(), t.repeat(len(task))

    def losses(weights):
        out = weighted_member(recipe, mine.images, weights)(x, times).detach()
        return ((out - noise.flatten(0, 1)) ** 2).flatten(1).mean(1).view(len(task), -1).mean(1)

    # Adam's first steps have the size of the rate, whatever that of the gradient: where its sign
    # changes they jump, so that only small changes of a weight have effects in proportion.
    scores, h = METHODS["unrolled"].scores(task), 1e-5
    for row in (0, 3):
        weights = torch.ones(len(mine.images), dtype=torch.float64)
        weights[row] += h
        more = losses(weights)
        weights[row] -= 2 * h
        rise = (more - losses(weights)) / (2 * h)
        source = int(mine.images.sources[row])
        assert np.allclose(-scores[:, source], rise, rtol=0.01, atol=1e-3 * float(rise.abs().max()))


def test_long_trainings_of_many_sources_are_unrolled_at_their_end(trained, task, mine, monkeypatch):
    whole = METHODS["unrolled"].scores(task)
    monkeypatch.setattr(unrolled, "WORK", 5 * len(mine.seen))
    network, _, slopes = unroll(trained.recipe, 0, mine.images, 5)
    found = METHODS["unrolled"].scores(task)[:, mine.seen]
    assert np.allclose(found, -(task.query_gradients(network) @ slopes.T).numpy(), atol=1e-6)
    assert not np.allclose(found, whole[:, mine.seen], rtol=0.1)


def test_sources_that_the_member_did_not_see_score_nothing(task, mine):
    scores = METHODS["unrolled"].scores(task)
    assert scores.shape == task.shape and np.isfinite(scores).all()
    unseen = np.setdiff1d(np.arange(task.shape[1]), mine.seen)
    assert (scores[:, unseen] == 0).all() and (scores[:, mine.seen] != 0).all()
