"""The yardstick: truths against brute force, methods against closed forms, files from outside."""

import dataclasses
import mmap
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from small import own_store

import abc_lib as abc
from abc_lib.ground.devices import Peak
from abc_lib.ground.errors import BadValue, UnknownName
from abc_lib.ground.here import Here
from abc_lib.images.registry import get_recipe
from abc_lib.images.training_set import training_set
from abc_lib.method.diffusion import add_noise, alphas_cumprod
from abc_lib.method.space import to_model
from abc_lib.results.placebos.signal import recipes_of
from abc_lib.training.ensembles import get_ensemble
from abc_lib.training.members import network_of
from abc_lib.training.retrained import get_retrained
from abc_lib.training.together import FULL, TrainingTogether
from abc_lib.yardstick import (
    METHODS,
    advice,
    beside,
    compare_truths,
    cost_verdict,
    costs,
    get,
    hardest,
    hardest_verdict,
    make_task,
    published_verdict,
    radius_verdict,
    ranking_table,
    ranking_verdict,
    read,
    removal_verdict,
    same_ranking,
    shown,
    stored,
    sweep_verdict,
    swept,
    unrolled_verdict,
)
from abc_lib.yardstick.gradients import (
    Kernels,
    cosines,
    diffusion_attribution,
    gauss_newton,
    influence,
    kernels,
    per_sample_gradients,
    projected,
    relative_influence,
    unlearned,
)
from abc_lib.yardstick.methods import by_unlearning
from abc_lib.yardstick.methods.base import source_losses
from abc_lib.yardstick.methods.by_curvature import kronecker_influence
from abc_lib.yardstick.methods.by_unlearning import forgotten, skew
from abc_lib.yardstick.methods.closed import local_rise, means_without, sensitivity
from abc_lib.yardstick.methods.kernels import by_patch, shares
from abc_lib.yardstick.removal import removal
from abc_lib.yardstick.report import free_methods, read_scores, score_file
from abc_lib.yardstick.scores import bootstrap, ceiling, datamodelling, rank_correlation, top_share
from abc_lib.yardstick.sweeps import SWEPT, sweeps
from abc_lib.yardstick.table import _packed, _unpacked, rows
from abc_lib.yardstick.table import rows as rows_of
from abc_lib.yardstick.tasks import Relabelled, unseen_split
from abc_lib.yardstick.truths import TIMES, Truth, error_products, noised, retrained_rises


@pytest.fixture(scope="module")
def home(trained, tmp_path_factory):
    return Here(own_store(trained, tmp_path_factory.mktemp("own")), "cpu", jobs=1, progress=False)


@pytest.fixture(scope="module")
def task(trained, home):
    return make_task(trained.ensemble, 4, home)


# --- scores ---


def test_rank_correlation_is_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, size=(2, 6, 20)).astype(float)
    assert np.allclose(rank_correlation(a, b), [spearmanr(*pair).statistic for pair in zip(a, b)])
    a[0], a[1, 3] = 1, np.nan
    found = rank_correlation(a, b)
    assert found[0] == 0 and np.isnan(found[1])
    with pytest.raises(BadValue, match="cannot be correlated"):
        rank_correlation(a, b[:, :3])


def test_a_linear_truth_is_predicted_perfectly_by_its_own_terms():
    rng = np.random.default_rng(1)
    terms, design = rng.normal(size=(5, 12)), rng.integers(0, 2, size=(9, 12)).astype(float)
    gains = terms @ design.T
    assert np.allclose(datamodelling(terms, design, gains), 1)
    assert np.allclose(datamodelling(-terms, design, gains), -1)


def test_the_top_is_counted_and_the_ceiling_knows_the_noise():
    truth = np.arange(10.0)[None]
    assert top_share(truth, truth, 3).tolist() == [1]
    assert top_share(-truth, truth, 3).tolist() == [0]
    other = truth.copy()
    other[0, 9] = -1
    assert top_share(other, truth, 3) == pytest.approx([2 / 3])
    rng = np.random.default_rng(2)
    signal, noise = rng.normal(size=(300, 40)), rng.normal(size=(2, 300, 40))
    halves = signal + noise
    reached = rank_correlation(signal, halves.mean(0)).mean()
    assert ceiling(halves) == pytest.approx(reached, abs=0.03)
    assert ceiling(noise) < 0.3 and ceiling(np.stack([signal] * 2)) == pytest.approx(1)


def test_the_interval_of_codes_and_queries_covers_the_mean_and_knows_both():
    rng, inside = np.random.default_rng(4), []
    for seed in range(200):
        codes, queries = rng.normal(size=(8, 1)), rng.normal(size=(1, 40))
        values = codes + queries + rng.normal(size=(8, 40))
        _, low, high = bootstrap(values, 200, seed)
        inside.append(low <= 0 <= high)
    # Eight codes are few: a percentile interval of so few falls short of what it says.
    assert 0.8 <= np.mean(inside) <= 0.99
    known = np.array([[1.0, 3.0], [5.0, np.nan]])
    mean, low, high = bootstrap(known)
    assert mean == 3 and low == 1 and high == 5
    one = rng.normal(size=30)
    assert np.allclose(
        bootstrap(one)[1:],
        np.quantile([rng.choice(one, 30).mean() for _ in range(4000)], [0.025, 0.975]),
        atol=0.05,
    )


def test_the_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(3)
    draws = [bootstrap(rng.normal(size=60), 200, seed) for seed in range(200)]
    assert 0.88 <= np.mean([low <= 0 <= high for _, low, high in draws]) <= 0.99
    assert bootstrap(np.array([1.0, np.nan]))[0] == 1
    assert np.isnan(bootstrap(np.array([np.nan]))).all()


@pytest.mark.parametrize(
    "name, split",
    [
        ("digits_64", "held out"),
        ("mnist_256", "train"),
        ("cifar10_500", "test"),
        ("metfaces", None),
    ],
)
def test_held_out_queries_are_of_a_part_that_trained_nobody(name, split):
    data = get_recipe(name).data
    assert unseen_split(data) == (split or None) != data.split


# --- gradients, on a model where all is known ---


class Linear(torch.nn.Module):
    """Predicts W x from x, whatever the time."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.W = torch.nn.Parameter(torch.randn(4, 4, generator=generator))

    def forward(self, x, t):
        return (x.flatten(1) @ self.W.T).reshape(x.shape)


@pytest.fixture(scope="module")
def linear():
    generator = torch.Generator().manual_seed(1)
    states, noise = torch.randn(2, 20, 3, 1, 2, 2, generator=generator)
    return SimpleNamespace(net=Linear(), states=states, noise=noise, times=torch.arange(3))


@pytest.mark.parametrize("feature", ["loss", "square"])
def test_gradients_of_a_linear_model_are_those_on_paper(linear, feature):
    found = per_sample_gradients(linear.net, linear.states, linear.noise, linear.times, feature)
    x, eps = linear.states.flatten(2), linear.noise.flatten(2)
    error = x @ linear.net.W.T - (eps if feature == "loss" else 0)
    paper = torch.einsum("bki,bkj->bij", error, x) * 2 / (3 * 4)
    assert torch.allclose(found, paper.detach().flatten(1), atol=1e-5)


def test_influence_in_the_dual_form_is_the_primal_one(linear):
    G = per_sample_gradients(linear.net, linear.states, linear.noise, linear.times)
    q, g = G[:5], G[5:]
    found = kernels(iter([(q, g), (2 * q, 2 * g)]))
    assert found.among.shape == (2, 15, 15) and found.across.shape == (2, 5, 15)
    q, g = q.double().numpy(), g.double().numpy()
    d = 0.3 * (g**2).sum(1).mean()
    primal = q @ np.linalg.inv(g.T @ g + d * np.eye(16)) @ g.T
    # Gradients twice as large, with damping in their own units, give the same scores.
    assert np.allclose(influence(found, 0.3), primal, rtol=1e-4, atol=1e-6)
    unit = lambda each: each / np.linalg.norm(each, axis=1, keepdims=True)
    assert np.allclose(cosines(found), unit(q) @ unit(g).T, atol=1e-5)
    with pytest.raises(BadValue, match="damping is 0"):
        influence(found, 0)


def test_influence_is_the_exact_effect_where_the_model_is_least_squares():
    """Of y = x.w with squared error, the first-order effect of a row on a prediction."""
    rng = np.random.default_rng(4)
    x, z = rng.normal(size=(30, 5)), rng.normal(size=(3, 5))
    y = x @ rng.normal(size=5) + 0.1 * rng.normal(size=30)
    ridge = 1e-3
    whole = np.linalg.solve(x.T @ x + ridge * np.eye(5), x.T @ y)
    d = ridge / ((x**2).sum() / 30)
    found = influence(Kernels((x @ x.T)[None], (z @ x.T)[None], (z**2).sum(1)[None]), d)
    # Sherman and Morrison: without row s the prediction moves by -found * residual / (1 - lever).
    lever = np.diag(x @ np.linalg.solve(x.T @ x + ridge * np.eye(5), x.T))
    for s in range(30):
        keep = np.arange(30) != s
        rest = np.linalg.solve(x[keep].T @ x[keep] + ridge * np.eye(5), x[keep].T @ y[keep])
        moved = z @ rest - z @ whole
        assert np.allclose(moved, -found[:, s] * (y - x @ whole)[s] / (1 - lever[s]), atol=1e-8)
    # DAS is that movement, squared, whatever the row.
    products = Kernels((x @ x.T)[None], (z @ x.T)[None], (z**2).sum(1)[None])
    told = diffusion_attribution(products, d, (y - x @ whole)[None])
    assert np.allclose(told[:, -1], moved**2, atol=1e-8)


def sketched(rng, R=40):
    """Gradients of 3 queries and 15 sources and R sketches in 6 parameters, and their products."""
    q, g, v = (rng.normal(size=(count, 6)) for count in (3, 15, R))
    return q, g, v, kernels([tuple(torch.from_numpy(each) for each in (q, g, v))])


def test_projection_keeps_inner_products_in_the_mean():
    rng = torch.Generator().manual_seed(3)
    g = torch.randn(3, 5000, generator=rng) / 5000**0.5
    exact = g @ g.T
    found = torch.stack([projected(g, dims) @ projected(g, dims).T for dims in range(200, 260)])
    assert torch.allclose(found.mean(0), exact, atol=0.04)  # one: 0.07 or so
    assert projected(g, 7).shape == (3, 7) and torch.equal(projected(g, 7), projected(g, 7))
    assert torch.allclose(projected(2 * g, 7), 2 * projected(g, 7))
    with pytest.raises(BadValue, match="dims"):
        projected(g, 0)


def test_the_gauss_newton_form_by_sketches_is_the_primal_one():
    q, g, v, found = sketched(np.random.default_rng(5))
    d = 0.3 * (v**2).sum(1).mean()
    primal = q @ np.linalg.inv(v.T @ v + d * np.eye(6)) @ g.T
    assert np.allclose(gauss_newton(found, 0.3), primal)
    same = kernels([tuple(torch.from_numpy(each) for each in (q, g, g))])
    assert np.allclose(gauss_newton(same, 0.1), influence(same, 0.1))
    with pytest.raises(BadValue, match="no sketches"):
        gauss_newton(kernels([(torch.ones(1, 6), torch.ones(2, 6))]), 0.1)


def test_relative_influence_is_influence_over_what_a_source_moves():
    q, g, _, found = sketched(np.random.default_rng(6))
    d = 0.2 * (g**2).sum(1).mean()
    moves = np.linalg.inv(g.T @ g + d * np.eye(6)) @ g.T
    assert np.allclose(relative_influence(found, 0.2), q @ moves / np.linalg.norm(moves, axis=0))


def test_sketches_have_the_gauss_newton_matrix_as_their_covariance(linear):
    x, generator = linear.states[:1], torch.Generator().manual_seed(2)
    many = torch.randn(4000, *x.shape[1:], generator=generator)
    found = per_sample_gradients(
        linear.net, x.expand(4000, *x.shape[1:]), many, linear.times, "sketch"
    )
    flat = x[0].flatten(1)
    exact = torch.kron(torch.eye(4), flat.T @ flat) / (3 * 4) ** 2
    assert torch.allclose(found.T @ found / 4000, exact, atol=0.1 * float(exact.max()))


@pytest.mark.parametrize("rise", [0.01, 0.5])
def test_unlearning_is_one_step_on_paper(linear, rise):
    q = per_sample_gradients(linear.net, linear.states, linear.noise, linear.times)[:2]
    x, eps, W = linear.states.flatten(2), linear.noise.flatten(2), linear.net.W.detach()

    def losses(call):
        out = call(linear.states.flatten(0, 1), linear.times.repeat(20)).unflatten(0, (20, 3))
        return ((out - linear.noise) ** 2).flatten(1).mean(1)

    found = unlearned(linear.net, q, losses, torch.full((2,), rise))
    for gradient, told in zip(q, found, strict=True):
        at = W + rise * gradient.view(4, 4) / (gradient**2).sum()
        paper = ((x @ at.T - eps) ** 2).mean((1, 2)) - ((x @ W.T - eps) ** 2).mean((1, 2))
        assert np.allclose(told, paper, atol=1e-5)
    assert found[0, 0] == pytest.approx(rise, rel=0.1 if rise < 0.1 else 2)


@pytest.mark.parametrize("corrected", [False, True])
def test_kronecker_factors_are_exact_for_one_layer(corrected):
    """The Gauss-Newton matrix of W x under squared error is that of x beside an identity."""

    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.of_time = torch.nn.Parameter(torch.ones(3))  # no layer: it has no factors
            self.layer = torch.nn.Linear(4, 4, bias=False)

        def forward(self, x, t):
            return self.layer(x.flatten(1)).reshape(x.shape) + 0 * self.of_time.sum()

    generator = torch.Generator().manual_seed(5)
    x = torch.randn(50, 1, 2, 2, generator=generator)
    q, g = torch.randn(3, 19, generator=generator), torch.randn(7, 19, generator=generator)
    network = Layer().eval()
    found = kronecker_influence(
        network, q, g, x, torch.arange(50), [0.1, 10.0], corrected, "type-2"
    )
    flat = x.flatten(1).double()
    curvature = torch.kron(torch.eye(4), flat.T @ flat / 50 * 2 / 4).double()
    for damping, told in found.items():
        ridge = damping * float(curvature.trace()) / 16 * torch.eye(16)
        primal = q[:, 3:].double() @ torch.linalg.inv(curvature + ridge) @ g[:, 3:].T.double()
        assert np.allclose(told, primal, rtol=1e-3, atol=1e-4)
    assert not any(p.grad is not None for p in network.parameters())


def test_mirrored_unlearning_forgets_the_query_and_little_else(trained, task, monkeypatch):
    member, recipe = trained.ensemble.members[0], trained.recipe
    before = {k: v.clone() for k, v in member.state_dict().items()}
    images = to_model(task.sources, recipe.data)
    call = forgotten(member, images[0], images, recipe)
    assert all(torch.equal(v, before[k]) for k, v in member.state_dict().items())
    # The same steps without the query: what is left of the difference is the forgetting.
    monkeypatch.setattr(by_unlearning, "WEIGHT", 0)
    kept = forgotten(member, images[0], images, recipe)
    losses = source_losses(task, 8)
    with torch.no_grad():
        old, new, otherwise = losses(member), losses(call), losses(kept)
    risen = skew(old, new)
    assert float((new - otherwise)[0].mean()) > 0
    assert skew(otherwise, new)[0] >= skew(otherwise, new).median()
    by_hand = ((new - old) / (new + old + 1e-3)).mean(1)
    assert torch.allclose(risen, by_hand) and (risen.abs() <= 1).all()


def test_sensitivity_is_the_derivative_of_the_optimal_error():
    generator = torch.Generator().manual_seed(6)
    sources = torch.rand(5, 1, 3, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, 1, 3, 3, generator=generator, dtype=torch.float64)
    a = torch.tensor([0.3, 0.6], dtype=torch.float64)
    at = a[:, None, None, None]
    states = at.sqrt() * sources[0] * 0.8 + (1 - at).sqrt() * noise

    def optimal(masses):
        """The noise that data with these masses expect at each state."""
        apart = states[:, None] - at[:, None].sqrt() * sources
        logits = -apart.flatten(2).square().sum(2) / (2 * (1 - a))[:, None] + masses.log()
        eps = apart / (1 - at[:, None]).sqrt()
        return (logits.softmax(1)[:, :, None, None, None] * eps).sum(1)

    def error(masses):
        return (optimal(masses) - noise).square().flatten(1).mean(1).mean()

    masses = torch.full((5,), 0.2, dtype=torch.float64)
    found = sensitivity(optimal(masses), states, noise, sources, a)
    step = 1e-6
    for s in range(5):
        fewer = masses.clone()
        fewer[s] *= 1 - step
        assert float(error(fewer) - error(masses)) / step == pytest.approx(
            float(found[s]), rel=1e-3, abs=1e-7
        )


def test_softmax_means_without_each_value_are_those_taken_anew():
    rng = np.random.default_rng(7)
    # One weight so large that nothing is left of the others by subtraction.
    logits = torch.from_numpy(np.vstack([rng.normal(size=5), [800.0, 0, 1, 2, 3]]))
    values = torch.from_numpy(rng.normal(size=(2, 5)))
    mean, without = means_without(logits, values)
    assert torch.allclose(mean[:, 0], (logits.softmax(-1) * values).sum(-1))
    for s in range(5):
        keep = [k for k in range(5) if k != s]
        paper = (logits[:, keep].softmax(-1) * values[:, keep]).sum(-1)
        assert torch.allclose(without[:, s], paper)


@pytest.mark.parametrize("side", [3, 15])
def test_the_local_score_machine_forgets_as_if_it_had_never_seen(side):
    """Of every pixel by hand; patches that cover the image make it the optimal denoiser."""
    generator = torch.Generator().manual_seed(3)
    sources = torch.rand(4, 2, 6, 6, generator=generator, dtype=torch.float64)
    query, a = sources[0] * 0.9, torch.tensor([0.5], dtype=torch.float64)
    state = a.sqrt() * query + 0.1 * torch.randn(2, 6, 6, generator=generator)
    half = side // 2

    def error(some):
        total = 0.0
        for i in range(6):
            for j in range(6):
                box = (
                    ...,
                    slice(max(i - half, 0), i + half + 1),
                    slice(max(j - half, 0), j + half + 1),
                )
                far = ((state[box] - a.sqrt() * some[box]) ** 2).sum((1, 2, 3))
                weights = (-far / (2 * (1 - a))).softmax(0)
                mean = (weights[:, None] * some[..., i, j]).sum(0)
                total += float(((mean - query[:, i, j]) ** 2).sum())
        return total / 72

    found = local_rise(query, state[None], sources, a, side)
    paper = [error(sources[[k for k in range(4) if k != s]]) - error(sources) for s in range(4)]
    assert np.allclose(found, paper) and found.argmax() == 0


def test_patches_are_compared_place_by_place():
    a = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(4))
    far = by_patch(a, a, 3)
    assert far.shape == (2, 2, 16) and (far[[0, 1], [0, 1]] == 0).all()
    box = ((a[0, 0] - a[1, 0]) ** 2)[:2, :2]
    assert torch.isclose(far[0, 1, 0], box.mean())
    weights = shares(far.numpy(), 0.1)
    assert np.allclose(weights.sum(1), 1) and (weights[0, 0] > weights[0, 1]).all()


def test_loss_covariance_is_that_of_members(trained, task):
    book, gram = trained.ensemble.codebook, task.gram[0].mean(0)
    mine = error_products(trained.ensemble, task.sources).mean(0)
    losses = [np.diagonal(each, axis1=1, axis2=2) for each in (gram, mine)]
    paper = np.cov(losses[0][3], losses[1][5], bias=True)[0, 1]
    found = METHODS["loss covariance"].scores(task)
    assert book.n == 6 and found[3, 5] == pytest.approx(paper, rel=1e-4)


# --- truths ---


@pytest.fixture(scope="module")
def two(trained, home):
    """Both of two codes, and both of two seeds of leaving each source out by training."""
    ensembles = [get_ensemble(each, home) for each in recipes_of(trained.recipe, 2)]
    models = [get_retrained(trained.recipe, seed=seed, here=home) for seed in range(2)]
    return (
        make_task(ensembles, 4, home, models, class_seeds=2, moving=2, alone=3),
        ensembles,
        models,
    )


def test_several_codes_are_scored_one_by_one_and_averaged_where_a_source_is_left_out(two, home):
    task, ensembles, _ = two
    alone = [make_task(each, 4, home) for each in ensembles]
    # The generated queries are the first code's samples; the others are the same for all.
    rows, scores = np.arange(4, 8), np.random.default_rng(0).normal(size=task.shape)
    for name in ("members", "subsets"):
        each = [one.truths[name].score(scores, rows)[0] for one in alone]
        assert np.allclose(task.truths[name].score(scores, rows), each)
    rises = [one.truths["leave_one_out"].gains[0, rows] for one in alone]
    both = task.truths["leave_one_out"]
    assert np.allclose(both.gains[0, rows], np.mean(rises, axis=0), atol=1e-7)
    # Its halves are the codes, so that a ceiling knows their chance.
    assert np.allclose(both.halves[:, 0, rows], rises, atol=1e-7)
    losses, seen = task.truths["members"].models()
    assert losses.shape == (12, 8) and len(seen) == 12
    assert np.array_equal(seen[7], ensembles[1].codebook.split(1))


def test_retraining_is_a_truth_with_the_losses_of_its_models(two):
    task, _, models = two
    q, source = 6, 5
    rises = []
    for each in models:
        x, noise, t = noised(each.recipe, task.queries[q : q + 1], TIMES, "half", 0)
        without, full = (
            float(((net(x[0], t) - noise[0]) ** 2).mean())
            for net in (each.model(source), each.full)
        )
        rises.append(without - full)
    assert np.allclose(task.truths["retrained"].halves[:, 0, q, source], rises, atol=1e-5)
    with pytest.raises(BadValue, match="give two or more"):
        retrained_rises(models[:1], task.queries)
    # Members have no part in it, so its control is another order of the sources.
    rows, relabelled = np.arange(8), Relabelled(task, 40)
    truth = task.truths["retrained"]
    assert (relabelled.chance(truth.gains[0], truth, rows) < 1).all()
    assert np.unique(relabelled.chance(truth.gains[0], truth, rows)).size == 40


def test_leaving_a_class_out_is_a_truth_of_sums(two, home):
    task, _, _ = two
    images = training_set(task.recipe.data)
    labels = images.labels[images.sources.argsort()].numpy()
    present = np.unique(labels)
    truth = task.truths["classes"]
    assert truth.design.shape == (1, len(present), 12) and truth.left_out
    assert np.array_equal(truth.design[0], labels == present[:, None])
    classes = task.recipe.replace(data={"sources": "class", "num_sources": len(present)})
    q, c = 6, 1
    for seed in range(2):
        models = get_retrained(classes, seed=seed, removed="removed", here=home)
        x, noise, t = noised(task.recipe, task.queries[q : q + 1], TIMES, "half", 0)
        without, full = (
            float(((net(x[0], t) - noise[0]) ** 2).mean()) for net in (models.model(c), models.full)
        )
        assert truth.halves[seed, 0, q, c] == pytest.approx(without - full, abs=1e-5)
    # A method's score of a class is the sum over its sources.
    scores = np.random.default_rng(3).normal(size=task.shape)
    sums = np.stack([scores[:, labels == each].sum(1) for each in present], axis=1)
    rows = np.arange(8)
    assert np.allclose(truth.score(scores, rows)[0], rank_correlation(sums, truth.gains[0]))
    assert np.allclose(truth.found(scores, rows, 1), top_share(sums, truth.gains[0], 1))
    assert np.isnan(truth.found(scores, rows, len(present))).all()


def test_a_member_trained_again_by_the_same_chance_is_a_truth(two):
    task, ensembles, _ = two
    recipe, truth = task.recipe, task.truths["same_chance"]
    seen = ensembles[0].codebook.split(0)
    assert task.alone.tolist() == seen[:3].tolist() and truth.left_out
    assert truth.design.shape == (1, 3, 12) and truth.design[0, 1, seen[1]] == 1
    # The member that lacks nothing is the member; without a source it is another.
    own = training_set(recipe.data).of_sources(seen)
    work = TrainingTogether(recipe, [FULL, int(seen[1])], own, "removed", stream=0)
    for k in range(work.steps):
        work.step(k)
    losses, q = [], 6
    for row in range(2):
        net = network_of(recipe, {name: each[row] for name, each in work.parameters().items()})
        x, noise, t = noised(recipe, task.queries[q : q + 1], TIMES, "half", 1)
        losses.append(float(((net(x[0], t).detach() - noise[0]) ** 2).mean()))
    assert losses[0] == pytest.approx(float(-task.truths["members"].halves[1, 0, q, 0]), rel=2e-2)
    assert truth.halves[1, 0, q, 1] == pytest.approx(losses[1] - losses[0], abs=1e-5)
    # Which is what the derivative through training is of.
    scores = METHODS["unrolled"].scores(task)
    assert (scores[:, np.setdiff1d(np.arange(12), seen)] == 0).all()


def test_samples_that_every_code_moves_are_truths_of_distance(two):
    task, ensembles, _ = two
    rows, truth = np.arange(8), task.truths["moved"]
    assert task.moving.tolist() == truth.measured(rows).tolist() == [1, 3]
    moved = []
    for each in ensembles:
        noise = each.draw_noise(0, [3])
        there = each.sample(noise, each.codebook.ablation(5))
        moved.append(float(abc.distance(each.sample(noise), there)[0]))
    # Two codes: its halves are one each.
    assert truth.halves[:, 0, 3, 5] == pytest.approx(moved, rel=2e-3)
    scores = METHODS["distance moved"].scores(task)
    assert scores[3, 5] == pytest.approx(moved[0], rel=2e-3) and np.isnan(scores[[0, 5]]).all()
    assert task.truths["away"].measured(rows).tolist() == [1, 3]
    # Who knows it scores one and finds the whole radius of a code that is alone.
    told = {row["truth"]: row for row in rows_of(task, truth.gains[0])}
    assert told["moved"]["score"] == pytest.approx(1) and told["moved"]["queries"] == "generated"
    assert told["moved"]["top8"] == 1 and 0 < told["moved"]["radius8"] <= 1
    assert np.isnan(told["away"]["radius8"])
    first = np.argsort(-truth.gains[0, 3])[:8]
    shares = [each[first].max() / each.max() for each in task.moved[0].astype(float)[:, 1]]
    first = np.argsort(-truth.gains[0, 1])[:8]
    shares += [each[first].max() / each.max() for each in task.moved[0].astype(float)[:, 0]]
    assert told["moved"]["radius8"] == pytest.approx(np.mean(shares), abs=1e-6)
    # Other orders of the members make no other truth of these.
    other = task.truths_of(task.words[:, :, ::-1])
    assert np.array_equal(other["moved"].gains, truth.gains, equal_nan=True)


def test_products_of_errors_are_kept_as_they_were_measured(two):
    gram = two[0].gram
    assert np.array_equal(_unpacked(*(each.numpy() for each in _packed(gram).values())), gram)
    exact = np.stack([error_products(each, two[0].queries) for each in two[1]])
    assert np.allclose(gram, exact, rtol=1e-3) and not np.array_equal(gram, exact)


def test_removal_of_several_codes_is_their_mean(two, home):
    task, ensembles, _ = two
    scores = np.random.default_rng(8).normal(size=task.shape)
    rises = []
    for r, each in enumerate(ensembles):
        alone = make_task(each, 4, home)
        alone.gram = task.gram[[r]]
        rises += [row for row in removal(alone, scores, Relabelled(alone, 2)) if row["k"] == 1]
    found = [row for row in removal(task, scores, Relabelled(task, 2)) if row["k"] == 1]
    for row, group in zip(found, ("generated", "held out"), strict=True):
        each = [one["rise"] for one in rises if one["queries"] == group]
        assert row["asked"] == 4 and row["rise"] == pytest.approx(np.mean(each))


def test_truths_are_the_losses_that_ablated_ensembles_have(trained, task):
    ensemble, book, steps = trained.ensemble, trained.ensemble.codebook, TIMES
    alphas, q = alphas_cumprod(trained.recipe.diffusion), 5

    def loss(c):
        found = []
        for half in range(2):
            _, noise, t = noised(trained.recipe, task.queries[q : q + 1], steps, "half", half)
            x = add_noise(
                (task.queries[q : q + 1] - 0.5).mul(2).expand(steps, -1, -1, -1),
                noise[0],
                t,
                alphas,
            )
            weights = ensemble.weights(c, steps)
            found.append(float(((ensemble.predict(x, t, weights) - noise[0]) ** 2).mean()))
        return np.array(found)

    whole = loss(np.ones(6))
    for s in range(12):
        rise = loss(book.ablation(s)) - whole
        assert np.allclose(task.truths["leave_one_out"].halves[:, 0, q, s], rise, atol=1e-5)
    for i in range(6):
        assert np.allclose(
            task.truths["members"].halves[:, 0, q, i], -loss(6 * np.eye(6)[i]), atol=1e-5
        )
    chosen, subsets = task.truths["subsets"].design[0, 0], task.truths["subsets"]
    some = next(
        each
        for each in np.array(np.meshgrid(*[[0, 1]] * 6)).reshape(6, -1).T
        if each.sum() == 3 and np.allclose(each @ book.words.T / 3, chosen)
    )
    assert np.allclose(subsets.halves[:, 0, q, 0], -loss(2.0 * some), atol=1e-5)


def test_queries_are_samples_and_images_that_no_member_saw(trained, task):
    assert task.shape == (8, 12) and task.generated.tolist() == [True] * 4 + [False] * 4
    samples = trained.ensemble.sample(trained.ensemble.draw_noise(0, range(4)))
    assert torch.allclose(task.queries[:4], samples, atol=1e-2)
    seen = trained.images.images.flatten(1)
    assert torch.cdist(task.queries[4:].flatten(1), seen).min() > 0.1
    classes = SimpleNamespace(recipe=get_recipe("digits_classes"))
    with pytest.raises(BadValue, match="single images in pixels"):
        make_task([classes], 4)


def test_members_go_out_as_losses_and_the_sources_that_each_saw(trained, task):
    losses, seen = task.truths["members"].models()
    assert losses.shape == (6, 8) and np.allclose(losses, -task.truths["members"].gains[0].T)
    for member, sources in enumerate(seen):
        assert np.array_equal(sources, trained.ensemble.codebook.split(member))
    with pytest.raises(BadValue, match="take members"):
        task.truths["subsets"].models()


def test_other_orders_of_the_members_are_other_truths_of_the_same_losses(task):
    order = np.array([1, 0, 2, 3, 4, 5])
    other = task.truths_of(task.words[:, :, order])
    assert np.array_equal(other["members"].halves, task.truths["members"].halves)
    assert np.array_equal(other["members"].design, task.truths["members"].design[:, order])
    assert not np.allclose(
        other["leave_one_out"].halves, task.truths["leave_one_out"].halves, atol=1e-9
    )


OF_SAMPLES = {"Journey-TRAK-like"}


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda m: m.name)
def test_every_method_scores_every_source(task, method):
    scores = method.scores(task)
    assert scores.shape == task.shape
    if method.name == "distance moved":  # nothing was moved
        assert np.isnan(scores).all()
        return
    asked = task.generated if method.name in OF_SAMPLES else np.full(8, True)
    assert np.isfinite(scores[asked]).all() and np.isnan(scores[~asked]).all()
    assert (scores[asked].std(1) > 0).all()


def test_differential_ablation_is_the_slope_of_the_loss(task):
    words, step = task.words[0], 1e-4
    change = task.codebooks[0].leave_one_out() - 1
    shares = np.vstack([np.full((1, 6), 1 / 6), (1 + step * change) / 6])
    losses = np.einsum("sij,mi,mj->sm", task.gram[0].mean(0).astype(float), shares, shares)
    slope = (losses[:, 1:] - losses[:, :1]) / step
    found = METHODS["differential ablation"].scores(task)
    assert words.shape == (12, 6) and np.allclose(found, slope, atol=1e-4)


def test_choices_are_made_with_queries_that_are_not_scored(task):
    truth, tune = task.truths["members"], task.tuning
    good, bad = np.zeros((2, *task.shape))
    fit = np.linalg.pinv(truth.design[0]) @ truth.gains[0].T
    good[tune], bad[~tune] = fit.T[tune], fit.T[~tune]
    assert task.choose({1: bad, 2: good}) is good


# --- removal ---


def test_removal_is_the_loss_of_the_members_that_are_left(trained, task):
    rng = np.random.default_rng(8)
    scores = rng.normal(size=task.shape)
    found = {(row["queries"], row["k"]): row for row in removal(task, scores, Relabelled(task, 30))}
    gram, words, rises, whole = task.gram[0].mean(0), task.words[0], [], np.full(6, 1 / 6)
    for q in np.flatnonzero(~task.tuning & ~task.generated):
        two = np.argsort(-scores[q])[:2]
        left = np.flatnonzero(words[two].sum(0) == 0)
        if len(left):
            rises.append(gram[q][np.ix_(left, left)].mean() / (whole @ gram[q] @ whole) - 1)
    row = found["held out", 2]
    assert row["asked"] == 2 and row["answered"] == len(rises)
    if rises:
        assert row["rise"] == pytest.approx(np.mean(rises), rel=1e-4)
    # Nobody is left without twelve sources of which each member saw some.
    last = removal(task, scores, Relabelled(task, 2), top=12)[-1]
    assert last["k"] == 12 and last["answered"] == 0 and np.isnan(last["rise"])


def test_removal_finds_who_matters_and_nothing_in_chance(task):
    relabelled = Relabelled(task, 60)
    knows = task.truths["leave_one_out"].gains[0]
    best = [row for row in removal(task, knows, relabelled) if row["k"] == 1]
    assert all(row["rise"] > row["control"] and row["p"] < 0.1 for row in best)
    worst = [row for row in removal(task, -knows, relabelled) if row["k"] == 1]
    assert all(row["rise"] < row["control"] and row["p"] > 0.9 for row in worst)


# --- sweeps ---


def test_sweeps_score_what_they_say(task):
    table = pd.DataFrame(sweeps(task, draws=(1, 3), dims=(5,)))
    assert set(table["sweep"]) == {"damping", "draws", "projection"}
    assert set(table["method"]) == set(SWEPT) and set(table["queries"]) == {"generated", "held out"}
    held, truth = np.flatnonzero(~task.generated & ~task.tuning), task.truths["members"]

    def reached(method, sweep, value):
        row = table.query("method == @method and sweep == @sweep and value == @value")
        return row[row["queries"] == "held out"]["score"].item()

    for method, feature in SWEPT.items():
        scores = influence(task.kernels(feature), 0.1)
        assert reached(method, "damping", 0.1) == pytest.approx(truth.score(scores, held).mean())
        # Without projection, it is the method of the table.
        scores = METHODS[method].scores(task)
        exact = truth.score(scores, held).mean()
        assert reached(method, "projection", 0) == pytest.approx(exact)
    # Draws are other gradients: those of three steps are what the mean over three gives.
    member = task.ensembles[0].members[0]
    states = noised(task.recipe, task.sources, 3, "sources")
    g = per_sample_gradients(member, *states, "loss")
    assert np.allclose(task.kernels("loss", 3).among[0], (g @ g.T).numpy(), rtol=1e-4, atol=1e-9)
    few = projected(g, 5)
    assert task.kernels("loss", 10, 5).among[0].shape == (12, 12) and few.shape == (12, 5)
    assert np.linalg.matrix_rank(task.kernels("loss", 10, 5).among[0], rtol=1e-5) <= 5


def swept_table():
    values = {"damping": (0.1, 1.0), "draws": (1.0, 40.0), "projection": (0.0, 64.0)}
    rows = [
        (method, sweep, value, queries, 0.5, 0.4, 0.6, 1.5)
        for method in SWEPT
        for sweep, some in values.items()
        for value in some
        for queries in ("generated", "held out")
    ]
    names = "method sweep value queries score low high seconds".split()
    return pd.DataFrame(rows, columns=names)


def test_a_sweep_is_told_by_rules_with_evidence_for_and_against():
    sweeps = swept_table()
    text = swept(sweeps, "projection")
    assert text["projection"].tolist() == ["none", "64"]
    assert text["TRAK-like"].tolist() == ["0.50 (0.40 to 0.60)"] * 2
    assert "TRAK-like, s" in text and "TRAK-like, s" not in swept(sweeps, "damping")

    def told(low, high, /, **changed):
        row = {"method": "softmax kernel", "truth": "members", "queries": "held out"}
        table = pd.DataFrame([row | {"score": (low + high) / 2, "low": low, "high": high}])
        found = sweeps.assign(**changed)
        return sweep_verdict({"x": SimpleNamespace(table=table, sweeps=found)})

    assert told(0.7, 0.8).count("below the softmax kernel's 0.75") == 2
    assert told(0.2, 0.3).count("above the softmax kernel's 0.25") == 2
    assert told(0.5, 0.9).count("not told apart from") == 2
    assert "projection to no size does worse" in told(0.5, 0.9)
    lost = sweeps["high"].where(sweeps["value"] != 64, 0.45)
    assert told(0.5, 0.9, high=lost).count("to 64 numbers or fewer does worse") == 2


def test_a_truth_without_agreement_has_no_ceiling_to_share_in():
    rows = [("a", "members", 0.5, 0.9), ("a", "retrained", 0.2, 0.0), ("b", "members", 0.4, 0.9)]
    table = pd.DataFrame(rows, columns=["method", "truth", "score", "ceiling"])
    table = table.assign(queries="held out", low=0.0, high=1.0, needs="images", seconds=1.0)
    table = table.assign(chance=0.1, p=0.5, top1=0.1, top8=0.2)
    wide = compare_truths(table)
    assert wide.loc["a", "members"] == pytest.approx(5 / 9) and np.isnan(wide.loc["a", "retrained"])
    text = shown(table, "retrained")
    assert text["of ceiling"].tolist() == [""] and text["top 8"].tolist() == ["0.20"]


def test_sets_stand_side_by_side_best_first_with_a_star_for_what_no_control_reaches():
    rows = [
        ("one", "a", "members", 0.5, 0.9, 0.01),
        ("one", "b", "members", 0.4, 0.9, 0.30),
        ("two", "a", "members", 0.1, 0.8, 0.06),
        ("two", "b", "members", 0.6, 0.8, 0.05),
        ("two", "c", "members", 0.3, 0.8, 0.00),
        ("two", "a", "retrained", 0.2, 0.7, 0.00),
    ]
    table = pd.DataFrame(rows, columns=["set", "method", "truth", "score", "ceiling", "p"])
    table = table.assign(queries="held out", needs="images")
    table = table.assign(low=table["score"] - 0.1, high=table["score"] + 0.1)
    tables = dict(list(table.groupby("set")))
    text = beside(tables).set_index("method")
    assert text.index.tolist() == ["b", "a", "c", "ceiling"]
    assert text["one"].fillna("").tolist() == [
        "0.40 (0.30 to 0.50)", "0.50 (0.40 to 0.60) *", "", "0.90",
    ]  # fmt: skip
    assert text["two"].tolist() == [
        "0.60 (0.50 to 0.70) *", "0.10 (0.00 to 0.20)", "0.30 (0.20 to 0.40) *", "0.80",
    ]  # fmt: skip
    # A set without this truth has no column.
    assert list(beside(tables, "retrained")) == ["method", "needs", "two"]


# --- tables ---


def test_a_table_is_kept_and_read_again_without_members(trained, home):
    found = get(trained.recipe, 2, 4, class_seeds=2, moving=2, alone=3, here=home)
    table = found.table
    assert set(table["method"]) == set(METHODS) and (table["score"].abs() <= 1).all()
    losses = {"members", "subsets", "leave_one_out", "classes"}
    assert set(table["truth"]) == losses | {"same_chance", "moved", "away"}
    assert (table["memory"] >= 0).all()
    assert set(found.sweeps["sweep"]) == {"damping", "draws", "projection"}
    assert set(found.removal["method"]) == set(METHODS) and set(found.removal["k"]) == {1, 2, 3, 4}
    again = stored(trained.recipe, home)
    for name in ("classes", "labels", "same_chance", "alone", "moved"):
        assert np.array_equal(getattr(again.task, name), getattr(found.task, name))
    assert again.by_query.equals(found.by_query)
    assert again.removal.equals(found.removal)
    assert again.table.equals(table) and not again.task.ensembles
    assert read(again.artefact, trained.recipe).table.equals(table)
    mine = pixel = METHODS["pixel distance"].scores(found.task)
    told = rows(found.task, mine)
    old = table[table["method"] == "pixel distance"].reset_index(drop=True)
    assert np.allclose([row["score"] for row in told], old["score"])
    with pytest.raises(BadValue, match="no ensemble"):
        METHODS["TRAK-like"].scores(again.task)
    with pytest.raises(BadValue, match=r"takes \(8, 12\)"):
        rows(found.task, pixel[:3], Relabelled(found.task, 2))
    with pytest.raises(BadValue, match="infinite"):
        rows(found.task, pixel * np.inf, Relabelled(found.task, 2))


def test_the_triangle_of_rankings_holds_every_pair_once(trained, home):
    table = get(trained.recipe, 2, 4, class_seeds=2, moving=2, alone=3, here=home).table
    found, triangle = same_ranking(table), ranking_table(table)
    numbers = [x for x in triangle.drop(columns="").to_numpy().ravel() if x]
    assert len(numbers) == len(found) >= 3
    assert sorted(numbers) == sorted(f"{value:.2f}" for value in found.values())
    said = ranking_verdict({"x": table})
    assert f"{min(found.values()):.2f} of" in said and f"{max(found.values()):.2f} of" in said


def test_peak_memory_is_what_was_held_within_and_beyond_what_was_there():
    with Peak(0.001) as much:
        # 64 MiB of new pages: an allocator may give what it kept, which adds nothing.
        held = mmap.mmap(-1, 2**26)
        torch.frombuffer(held, dtype=torch.uint8).fill_(1)
        time.sleep(0.05)
        held.close()
    with Peak(0.001) as little:
        time.sleep(0.02)
    assert 60 * 2**20 < much.most < 200 * 2**20 or np.isnan(much.most)
    assert little.most < 20 * 2**20 or np.isnan(little.most)


def test_methods_and_dials_can_be_left_out(trained, home, monkeypatch, one_line):
    kept = ("random", "pixel distance")
    few = get(trained.recipe, 1, 4, swept=False, skipped=set(METHODS) - set(kept), here=home)
    assert few.sweeps is None and set(few.table["method"]) == set(kept)
    assert len(few.by_query) == 2 * 8 and set(few.by_query["method"]) == set(kept)
    with pytest.raises(
        UnknownName, match="unknown method 'TRAK'; did you mean 'TRAK-like'"
    ) as error:
        get(trained.recipe, 1, 4, skipped=["TRAK"], here=home)
    assert one_line(error)


def test_the_hardest_queries_are_those_on_which_the_best_method_is_worst(trained, home):
    found = get(trained.recipe, 2, 4, class_seeds=2, moving=2, alone=3, here=home)
    table = hardest(found)
    assert table["query"].isin([5, 7]).all() and table["best"].is_monotonic_increasing
    q = int(table["query"][0])
    scores = {m: METHODS[m].scores(found.task) for m in ("softmax kernel", "patch kernel")}
    each = found.by_query.query("query == @q").set_index("method")["score"]
    for method, mine in scores.items():
        by_code = found.task.truths["members"].score(mine, np.array([q]))
        assert each[method] == pytest.approx(by_code.mean(), abs=1e-6)
    assert table["best"][0] == pytest.approx(each[free_methods(found.table)].max(), abs=1e-6)
    none = dataclasses.replace(found, by_query=found.by_query.assign(score=-1.0))
    assert "2 of 2 held out (" in hardest_verdict({"x": none})
    every = dataclasses.replace(found, by_query=found.by_query.assign(score=1.0))
    assert "0 of 2 held out and" in hardest_verdict({"x": every})
    with pytest.raises(BadValue, match="--publish"):
        hardest(dataclasses.replace(found, by_query=None))


def test_the_derivative_through_training_is_judged_truth_by_truth():
    names = "method needs truth score low high".split()
    rows = [
        ("unrolled", "training again", "same_chance", 0.6, 0.5, 0.7),
        ("TRAK-like", "gradients", "same_chance", 0.2, 0.1, 0.3),
        ("unrolled", "training again", "members", 0.1, 0.0, 0.2),
        ("TRAK-like", "gradients", "members", 0.5, 0.4, 0.6),
    ]
    frame = pd.DataFrame(rows, columns=names).assign(queries="held out")
    said = unrolled_verdict({"x": frame})
    assert "above TRAK-like under *same chance* (0.60 and 0.20)" in said
    assert "below TRAK-like under *members* (0.10 and 0.50)" in said
    assert "not told apart" in unrolled_verdict({"x": frame.assign(low=0.0, high=1.0)})
    assert "Nobody" in unrolled_verdict({"x": frame[frame["method"] != "unrolled"]})


def test_whether_names_find_the_radius_sooner_is_judged_beside_random_ones():
    rows = [("random", "nothing", 0.6), ("TRAK-like", "gradients", 0.9)]
    frame = pd.DataFrame(rows, columns=["method", "needs", "radius8"]).assign(truth="moved")
    assert "naming sources helps (TRAK-like 0.90, random 0.60)" in radius_verdict({"x": frame})
    close = frame.assign(radius8=[0.6, 0.65])
    assert "hardly helps" in radius_verdict({"x": close})
    assert "Nobody" in radius_verdict({"x": frame.drop(columns="radius8")})


def test_control_orders_do_not_call_chance_an_effect(task):
    """Scores that know nothing, alike for all queries, pass about as often as the level says."""
    relabelled, rng = Relabelled(task, 60), np.random.default_rng(0)
    truth, mine, passed = task.truths["members"], np.flatnonzero(~task.tuning), []
    for _ in range(100):
        scores = np.tile(rng.normal(size=12), (8, 1))
        chance = relabelled.chance(scores, truth, mine)
        passed.append(1 + (chance >= truth.score(scores, mine).mean()).sum() <= 0.1 * 61)
    assert 0 < np.mean(passed) < 0.2


def test_files_that_are_no_scores_are_refused_in_a_line(tmp_path, one_line):
    path = tmp_path / "mine.npy"
    path.write_text("not numbers")
    with pytest.raises(BadValue, match="numpy.save") as error:
        read_scores(path)
    assert one_line(error)
    np.save(path, np.array(["a"]))
    with pytest.raises(BadValue, match="one array of numbers"):
        read_scores(path)


@pytest.mark.parametrize("name", ["none.npy", "none.parquet", ".", "/dev/null"])
def test_paths_without_scores_are_refused_in_a_line(name, tmp_path, one_line):
    with pytest.raises(BadValue) as error:
        read_scores(tmp_path / name)
    assert one_line(error)


def test_scores_come_as_parquet_too_and_are_finite(tmp_path, one_line):
    scores = np.random.default_rng(0).normal(size=(4, 3))
    path = tmp_path / "mine.parquet"
    pd.DataFrame(scores, columns=list("abc")).to_parquet(path)
    assert np.array_equal(read_scores(path), scores)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BadValue, match="Parquet file of numbers") as error:
        read_scores(path)
    assert one_line(error)
    scores[2, 1] = np.nan
    np.save(tmp_path / "mine.npy", scores)
    with pytest.raises(BadValue, match="NaN or infinite"):
        read_scores(tmp_path / "mine.npy")


def test_advice_follows_from_the_table(trained, home):
    table = get(trained.recipe, 1, 4, here=home).table
    best = table.assign(low=0.0, high=0.1, score=0.05, p=0.5)
    best.loc[best["method"] == "softmax kernel", ["score", "low", "high", "p"]] = 0.9, 0.8, 1, 0.01
    said = advice({"one": best})
    assert "softmax kernel is best everywhere" in said[0]
    assert "2 of 31 scores" in said[1] and "0 of 2 comparisons" in said[2]
    best.loc[best["method"] == "TRAK-like", ["score", "low", "high", "p"]] = 2, 1.5, 3, 0.01
    said = advice({"one": best})
    assert "TRAK-like is best everywhere" in said[0] and "2 of 2 comparisons" in said[2]
    assert all(abs(value) <= 1 + 1e-9 for value in same_ranking(table).values())
    assert "TRAK" in published_verdict({"one": best}) and "order" in ranking_verdict({"one": best})
    assert published_verdict({"one": best}).count("below TRAK") == 2


def test_cost_is_judged_by_what_a_second_buys():
    rows = [("a", 0.1, 0.2), ("b", 0.5, 0.4), ("c", 2, 0.3), ("d", 9, 0.8)]
    frame = pd.DataFrame(rows, columns=["method", "seconds", "score"])
    frame = frame.assign(truth="members", queries="held out", needs="images", ceiling=0.8)
    frame = frame.assign(low=frame["score"] - 0.05, high=frame["score"] + 0.05)
    found = costs(frame)
    assert found["best"].tolist() == [True, True, False, True]
    assert found["share"].tolist() == pytest.approx([0.25, 0.5, 0.375, 1])
    assert "more time pays: d reaches 1.00, beside b with 0.50" in cost_verdict({"x": frame})
    assert "no method is better" in cost_verdict({"x": frame[:3]})
    close = frame.assign(low=frame["score"] - 0.5)
    assert "does not pay" in cost_verdict({"x": close})


def test_a_verdict_on_removal_counts_what_passes():
    rows = [("softmax kernel", "images", 0.2, 0.01), ("TRAK-like", "gradients", 0.1, 0.5)]
    frame = pd.DataFrame(rows, columns=["method", "needs", "rise", "p"])
    frame = frame.assign(queries="held out", k=1, control=0.05, answered=9, asked=10)
    said = removal_verdict({"one": frame})
    assert "1 of 2 methods" in said and "softmax kernel" in said and "20%" in said
    none = removal_verdict({"one": frame.assign(p=0.9)})
    assert "0 of 2 methods" in none


def test_a_truth_scores_only_the_queries_it_is_asked_for(task):
    truth: Truth = task.truths["members"]
    scores = METHODS["pixel distance"].scores(task)
    assert truth.score(scores, np.array([2, 3])).shape == (1, 2)


def test_what_is_published_scores_a_file_from_outside(tmp_path):
    found = abc.yardstick.stored(abc.get_recipe("digits_64").exposed(500))
    assert found.artefact.published and found.task.shape == (200, 64)
    mine = METHODS["softmax kernel"].scores(found.task)
    path = tmp_path / "mine.npy"
    np.save(path, mine)
    table = score_file(found, path)
    old = found.table[found.table["method"] == "softmax kernel"]
    assert np.allclose(table["score"], old["score"], atol=1e-6)
    np.save(path, mine[:, :5])
    done = subprocess.run(
        [sys.executable, "-m", "abc_lib", "yardstick", "digits_64", "--scores", str(path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "(200, 64)" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
