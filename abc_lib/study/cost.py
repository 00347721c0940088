"""What members, landscapes and retraining cost: counted in network evaluations and FLOP, and in the time that a machine of given speed takes.

Counts are exact consequences of a recipe; a time is a count over a rate, and is as good as the rate.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from abc_lib.ground.errors import ArtefactError
from abc_lib.ground.store import Artefact, Store
from abc_lib.images.registry import get_recipe, recipe_names
from abc_lib.method.network import build_network, num_parameters
from abc_lib.method.recipe import Recipe
from abc_lib.method.space import state_shape
from abc_lib.results.run import stored_jacobians, stored_landscapes
from abc_lib.study.speed import read_benchmarks

TRAINING = 3
"""a training step on an image in evaluations: the gradient takes about two"""


@cache
def _network(network, shape: tuple[int, int, int]) -> tuple[int, int]:
    """Its parameters, and its FLOP on one image."""
    # On no device: nothing is computed, and a network of a hundred million parameters takes no memory.
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        built = build_network(network, shape, 0).eval()
        built(torch.zeros(1, *shape), torch.zeros(1, dtype=torch.int64))
    return num_parameters(built), counter.get_total_flops()


@dataclass(frozen=True)
class Cost:
    """What a recipe costs, in evaluations of one member on one image of ``flop`` floating point operations each.

    A multiplication and an addition are two operations. What surrounds the networks
    (noise, distances, an autoencoder's decoding) is not counted.
    """

    parameters: int
    """of one member"""
    flop: int
    members: float
    """training all members"""
    landscape: float
    """the landscape of one sample: all N counterfactuals and the sample"""
    jacobian: float
    """the Jacobian of one sample: each member is carried along n tangents, itself beside them"""
    retraining: float
    """training a model without each source and one with all, as the same counterfactuals take without an ensemble"""
    retrained_landscape: float
    """the landscape of one sample by those models"""


def cost_of(recipe: Recipe) -> Cost:
    """Counts :class:`Cost` from the recipe alone."""
    n, w, N = recipe.code.n, recipe.code.weight, recipe.data.num_sources
    steps, one = (
        recipe.sampling.steps,
        float(TRAINING * recipe.training.steps * recipe.training.batch_size),
    )
    return Cost(
        *_network(recipe.network, state_shape(recipe.data)),
        n * one,
        float(steps * (n + N * (n - w))),
        float(steps * n * (n + 1)),
        (1 + N) * one,
        float(steps * (1 + N)),
    )


def sustained(device: str = "cpu") -> dict[str, float]:
    """FLOP/s that the published benchmarks reached on all cores: ``training`` and ``landscapes``, each for ``digits`` and ``mnist``; by "work, data"."""
    found, rates = read_benchmarks(device), {}
    for work, part in (found or {"comparisons": {}})["comparisons"].items():
        for row in part.get("rows", []) if work in ("training", "landscapes") else []:
            family = next(
                (family for family in ("digits", "mnist") if f" {family}_" in row["name"]), None
            )
            if family and row["cores"] != 1:
                rates[f"{work}, {family}"] = row["ways"]["ours"]["flops_per_second"]
    return rates


def time_in_words(flop: float, rate: float) -> str:
    """The time that so much takes at so many FLOP/s, in words."""
    s = flop / rate
    for size, unit in ((365.25 * 86400, "years"), (86400, "days"), (3600, "h"), (60, "min")):
        if s >= 2 * size:
            return (
                f"{s / size:,.0f}\N{NO-BREAK SPACE}{unit}"
                if s >= 10 * size
                else f"{s / size:,.1f}\N{NO-BREAK SPACE}{unit}"
            )
    return f"{s:,.0f}\N{NO-BREAK SPACE}s" if s >= 10 else f"{s:.1f}\N{NO-BREAK SPACE}s"


def outlook(
    names: Iterable[str], scale: str, samples: int, machines: dict[str, float], digits: float = 1.0
) -> pd.DataFrame:
    """A line an ensemble: members and ``samples`` landscapes, how long on each of the ``machines`` (name to FLOP/s), and how many times as much retraining is.

    ``digits`` is the share of those rates that the small networks of the digits reach. Of an ensemble whose sources are classes, counting classes needs thousands of samples; ``samples`` are meant all the same.
    """
    rows = []
    for name in names:
        recipe = get_recipe(name, scale)
        cost = cost_of(recipe)
        ours, theirs = (
            cost.members + samples * cost.landscape,
            cost.retraining + samples * cost.retrained_landscape,
        )
        rows.append(
            {
                "ensemble": name,
                "sources": recipe.data.num_sources,
                "members": recipe.code.n,
                "MFLOP an evaluation": cost.flop / 1e6,
                "training, PFLOP": cost.members * cost.flop / 1e15,
                "a landscape, PFLOP": cost.landscape * cost.flop / 1e15,
                **{
                    machine: time_in_words(
                        ours * cost.flop, rate * (digits if recipe.data.family == "digits" else 1)
                    )
                    for machine, rate in machines.items()
                },
                "retraining": theirs / ours,
            }
        )
    return pd.DataFrame(rows)


def _took(artefacts: Iterable[Artefact]) -> float:
    return sum(artefact.info.get("seconds", 0.0) for artefact in artefacts)


def published_costs(scale: str = "laptop", store: Store | None = None) -> pd.DataFrame:
    """A line each for what the results at hand took: members, landscapes, Jacobians of every ensemble, by the clock and by the count.

    ``evaluations`` and ``PFLOP`` are counted; ``hours`` were noted by the run itself, as they
    passed, beside whatever else the machine did; ``at the benchmark's rate`` is PFLOP over what
    :func:`sustained` gives for its work and data, both cores together.
    """
    store, rates, rows = store or Store(), sustained(), []
    for name in recipe_names():
        recipe = get_recipe(name, scale)
        try:
            landscapes, jacobians, cost = (
                stored_landscapes(name, scale, store),
                stored_jacobians(name, scale, store),
                cost_of(recipe),
            )
        except ArtefactError:
            continue
        if landscapes is None and jacobians is None:
            continue
        packed = store.find("ensemble", recipe.label, recipe.model_spec)
        family = "digits" if recipe.data.family == "digits" else "mnist"
        found = [
            (
                "members",
                recipe.code.n,
                cost.members,
                packed.info.get("training_seconds") if packed else None,
                packed,
                "training",
            )
        ]
        for what, each, count in (
            ("landscapes", landscapes, cost.landscape),
            ("Jacobians", jacobians, cost.jacobian),
        ):
            if each is not None:
                found.append(
                    (
                        what,
                        len(each),
                        count * len(each),
                        _took(each.artefacts),
                        each.artefacts[0],
                        "landscapes",
                    )
                )
        for what, number, evaluations, clock, artefact, work in found:
            flop, rate = evaluations * cost.flop, rates.get(f"{work}, {family}")
            rows.append(
                {
                    "ensemble": name,
                    "what": what,
                    "number": number,
                    "evaluations": evaluations,
                    "PFLOP": flop / 1e15,
                    "hours": None if clock is None else clock / 3600,
                    "at the benchmark's rate": ""
                    if rate is None or what == "Jacobians"
                    else time_in_words(flop, rate),
                    "commit": artefact.provenance["commit"] if artefact else "",
                }
            )
    return pd.DataFrame(
        rows,
        columns=[
            "ensemble",
            "what",
            "number",
            "evaluations",
            "PFLOP",
            "hours",
            "at the benchmark's rate",
            "commit",
        ],
    )
