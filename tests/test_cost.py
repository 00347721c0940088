"""What things cost: counts against networks that really run, times against hand-worked ones."""

import json
from contextlib import contextmanager

import pandas as pd
import pytest
import torch
from small import own_store
from torch.utils.flop_counter import FlopCounterMode

from abc_lib.ground.here import Here
from abc_lib.ground.store import Store
from abc_lib.images.registry import get_recipe, recipe_names
from abc_lib.method.network import build_network
from abc_lib.results.jacobians import publish as publish_jacobians
from abc_lib.results.landscapes import publish as publish_landscapes
from abc_lib.study import command as command
from abc_lib.study import speed as benchmarks
from abc_lib.study.cost import TRAINING, cost_of, outlook, published_costs, sustained, time_in_words
from abc_lib.training.ensembles import publish_ensemble


@contextmanager
def counting(networks):
    """The numbers of images that networks are evaluated on within it."""
    images = []
    hooks = [
        network.register_forward_pre_hook(lambda _, inputs: images.append(len(inputs[0])))
        for network in networks
    ]
    yield images
    for hook in hooks:
        hook.remove()


def test_parameters_and_operations_are_those_of_the_network(trained):
    cost, network = (
        cost_of(trained.recipe),
        build_network(trained.recipe.network, (1, 8, 8), 0).eval(),
    )
    assert cost.parameters == sum(p.numel() for p in network.parameters())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.randn(5, 1, 8, 8), torch.zeros(5, dtype=torch.int64))
    assert counter.get_total_flops() == 5 * cost.flop
    # one convolution by hand: 9 products and sums for each of 8 channels and 64 pixels
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.unet.conv_in(torch.randn(1, 1, 8, 8))
    assert counter.get_total_flops() == 2 * 9 * 8 * 64 < cost.flop


@pytest.mark.parametrize("name", ["digits_64", "mnist_256"])
def test_a_training_step_takes_about_three_evaluations(name):
    recipe = get_recipe(name)
    shape = (1, 8, 8) if name == "digits_64" else (1, 32, 32)
    network = build_network(recipe.network, shape, 0)
    with FlopCounterMode(display=False) as counter:
        network(
            torch.randn(2, *shape), torch.zeros(2, dtype=torch.int64)
        ).square().mean().backward()
    assert counter.get_total_flops() / 2 / cost_of(recipe).flop == pytest.approx(TRAINING, rel=0.05)


def test_a_landscape_is_as_many_evaluations_as_ablating_by_hand_takes(trained):
    ensemble, cost = trained.ensemble, cost_of(trained.recipe)
    noise = ensemble.draw_noise(0, [0])
    with counting(ensemble.members) as images:
        ensemble.sample(noise)
        for source in range(12):
            ensemble.sample(noise, ensemble.codebook.survivors(source))
    assert sum(images) == cost.landscape == 6 * (6 + 12 * 3)


def test_training_is_counted_by_minibatches_and_retraining_by_models(tiny):
    cost = cost_of(tiny)
    assert cost.members == 6 * 12 * 8 * TRAINING and cost.retraining == 13 * 12 * 8 * TRAINING
    assert cost.retrained_landscape == 13 * 6 and cost.jacobian == 6 * 6 * 7


def test_the_papers_networks_are_counted_without_being_made():
    cost = cost_of(get_recipe("mnist_256", "paper"))
    assert 30e6 < cost.parameters < 150e6 and cost.flop > 1e9


def test_every_recipe_has_a_cost():
    for scale in ("laptop", "paper"):
        for name in recipe_names():
            try:
                recipe = get_recipe(name, scale)
            except Exception:  # noqa: BLE001, S112  not every name is there at every scale
                continue
            cost = cost_of(recipe)
            assert (
                min(
                    cost.flop,
                    cost.members,
                    cost.landscape,
                    cost.jacobian,
                    cost.retraining,
                    cost.retrained_landscape,
                )
                > 0
            )


@pytest.mark.parametrize(
    ("flop", "words"),
    [
        (3.2, "3.2 s"),
        (59, "59 s"),
        (119, "119 s"),
        (121, "2.0 min"),
        (3600, "60 min"),
        (7201, "2.0 h"),
        (86400 * 3, "3.0 days"),
        (86400 * 365.25 * 12, "12 years"),
    ],
)
def test_times_are_said_in_words(flop, words):
    assert time_in_words(flop * 1e9, 1e9).replace("\N{NO-BREAK SPACE}", " ") == words


def test_rates_are_those_of_the_benchmarks_on_all_cores(tmp_path, monkeypatch):
    def row(name, cores, rate):
        return {"name": name, "cores": cores, "ways": {"ours": {"flops_per_second": rate}}}

    monkeypatch.setattr(benchmarks, "FOLDER", tmp_path)
    assert sustained() == {}
    parts = {
        "landscapes": {
            "rows": [
                row("exact, digits_1024, all cores", 2, 5.0),
                row("exact, digits_1024, one thread", 1, 3.0),
            ]
        },
        "training": {"rows": [row("training, mnist_1024", 2, 7.0)]},
        "jacobians": {"rows": [row("Jacobian, digits_1024", 2, 9.0)]},
    }
    (tmp_path / "cpu.json").write_text(json.dumps({"machine": {}, "comparisons": parts}))
    assert sustained() == {"landscapes, digits": 5.0, "training, mnist": 7.0}


def test_the_outlook_follows_the_counts():
    frame = outlook(
        ["digits_64", "mnist_256"], "laptop", 20, {"slow": 1e9, "fast": 1e11}, digits=0.5
    )
    cost = cost_of(get_recipe("digits_64"))
    work = cost.members + 20 * cost.landscape
    assert frame.loc[0, "slow"] == time_in_words(work * cost.flop, 0.5e9) and frame.loc[
        0, "fast"
    ] == time_in_words(work * cost.flop, 0.5e11)
    assert frame.loc[0, "retraining"] == pytest.approx(
        (cost.retraining + 20 * cost.retrained_landscape) / work
    )
    assert (
        frame["ensemble"].tolist() == ["digits_64", "mnist_256"] and frame["retraining"].min() > 1
    )


def test_what_was_published_is_counted(trained, tmp_path, monkeypatch):
    store = own_store(trained, tmp_path)
    publish_ensemble(trained.recipe, here=Here(store))
    publish_landscapes(trained.ensemble, 3, 0, here=Here(store))
    publish_jacobians(trained.ensemble, 2, 0, here=Here(store))
    recipes = {"digits_64": trained.recipe}
    monkeypatch.setattr(
        "abc_lib.study.cost.get_recipe",
        lambda name, scale: recipes.get(name) or get_recipe(name, scale),
    )
    frame = published_costs(here=Here(Store(tmp_path / "none", store.published)))
    cost = cost_of(trained.recipe)
    assert frame["what"].tolist() == ["members", "landscapes", "Jacobians"] and frame[
        "number"
    ].tolist() == [6, 3, 2]
    assert frame["evaluations"].tolist() == [cost.members, 3 * cost.landscape, 2 * cost.jacobian]
    assert frame["PFLOP"].tolist() == pytest.approx(
        [n * cost.flop / 1e15 for n in frame["evaluations"]]
    )
    assert (frame["hours"].astype(float) >= 0).all() and frame["commit"].ne("").all()


def test_without_results_there_is_nothing_to_count(store):
    frame = published_costs(here=Here(store))
    assert isinstance(frame, pd.DataFrame) and not len(frame) and frame["PFLOP"].sum() == 0


def test_the_plan_is_said_and_nothing_done(argv, capsys, tmp_path, store, monkeypatch):
    monkeypatch.setattr(command, "Here", lambda device, cluster: Here(store, device))
    argv("publish", "digits_64", "--plan", "--samples", "4")
    assert command.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        len(lines) == 4
        and all(line.startswith("digits_64-laptop: ") and "minutes" in line for line in lines[:3])
        and "hours" in lines[3]
    )
    assert not list(tmp_path.rglob("*.safetensors"))
