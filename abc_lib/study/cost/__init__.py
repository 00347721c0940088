"""What members, landscapes and retraining cost: counted in evaluations and FLOP, and in time.

Counts are exact consequences of a recipe; a time is a count over a rate, and is as good as
the rate.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from abc_lib.ground.errors import ArtefactError
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact
from abc_lib.images.registry import get_recipe, recipe_names
from abc_lib.method.network import build_network
from abc_lib.method.recipe import Network, Recipe
from abc_lib.method.space import state_shape
from abc_lib.results import jacobians, landscapes
from abc_lib.study.speed import read_benchmarks
from abc_lib.training.budget import num_parameters

__all__ = [
    "Cost",
    "TRAINING",
    "cost_of",
    "sustained",
    "time_in_words",
    "outlook",
    "published_costs",
]

TRAINING = 3
"""a training step on an image in evaluations: the gradient takes about two"""


@cache
def _network(network: Network, shape: tuple[int, int, int]) -> tuple[int, int]:
    """Its parameters, and its FLOP on one image."""
    # On no device: nothing is computed, and a hundred million parameters take no memory.
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        built = build_network(network, shape, 0).eval()
        built(torch.zeros(1, *shape), torch.zeros(1, dtype=torch.int64))
    return num_parameters(built), counter.get_total_flops()


@dataclass(frozen=True)
class Cost:
    """What a recipe costs, in evaluations of one member on one image.

    An evaluation is ``flop`` floating point operations, a multiplication and an addition
    being two. What surrounds the networks (noise, distances, an autoencoder's decoding) is
    not counted.
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
    """training a model without each source and one with all: the same without an ensemble"""
    retrained_landscape: float
    """the landscape of one sample by those models"""


def cost_of(recipe: Recipe) -> Cost:
    """Counts :class:`Cost` from the recipe alone."""
    n, w, N = recipe.code.n, recipe.code.weight, recipe.data.num_sources
    steps = recipe.sampling.steps
    one_model = float(TRAINING * recipe.training.steps * recipe.training.batch_size)
    parameters, flop = _network(recipe.network, state_shape(recipe.data))
    return Cost(
        parameters,
        flop,
        members=n * one_model,
        landscape=float(steps * (n + N * (n - w))),
        jacobian=float(steps * n * (n + 1)),
        retraining=(1 + N) * one_model,
        retrained_landscape=float(steps * (1 + N)),
    )


def sustained(device: str = "cpu") -> dict[str, float]:
    """FLOP/s that the published benchmarks reached on all cores, by "work, data".

    Work is ``training`` or ``landscapes``, data ``digits`` or ``mnist``.
    """
    measured = read_benchmarks(device) or {"comparisons": {}}
    rates = {}
    for work in ("training", "landscapes"):
        for row in measured["comparisons"].get(work, {}).get("rows", []):
            for family in ("digits", "mnist"):
                if f" {family}_" in row["name"] and row["cores"] != 1:
                    rates[f"{work}, {family}"] = row["ways"]["ours"]["flops_per_second"]
    return rates


def time_in_words(flop: float, rate: float) -> str:
    """The time that so much takes at so many FLOP/s, in words."""
    s = flop / rate
    sizes = {"years": 365.25 * 86400, "days": 86400, "h": 3600, "min": 60}
    unit, size = next(((u, size) for u, size in sizes.items() if s >= 2 * size), ("s", 1))
    amount = f"{s / size:,.0f}" if s >= 10 * size else f"{s / size:,.1f}"
    return f"{amount}\N{NO-BREAK SPACE}{unit}"


def outlook(
    names: Iterable[str], scale: str, samples: int, machines: dict[str, float], digits: float = 1.0
) -> pd.DataFrame:
    """A line an ensemble: members and ``samples`` landscapes, and how long on each machine.

    ``machines`` maps names to FLOP/s; ``digits`` is the share of those rates that the small
    networks of the digits reach. The last column is how many times as much retraining is. Of
    an ensemble whose sources are classes, counting classes needs thousands of samples;
    ``samples`` are meant all the same.
    """
    rows = []
    for name in names:
        recipe = get_recipe(name, scale)
        cost = cost_of(recipe)
        ours = cost.members + samples * cost.landscape
        theirs = cost.retraining + samples * cost.retrained_landscape
        share = digits if recipe.data.family == "digits" else 1
        times = {
            machine: time_in_words(ours * cost.flop, rate * share)
            for machine, rate in machines.items()
        }
        rows.append(
            {
                "ensemble": name,
                "sources": recipe.data.num_sources,
                "members": recipe.code.n,
                "MFLOP an evaluation": cost.flop / 1e6,
                "training, PFLOP": cost.members * cost.flop / 1e15,
                "a landscape, PFLOP": cost.landscape * cost.flop / 1e15,
                **times,
                "retraining": theirs / ours,
            }
        )
    return pd.DataFrame(rows)


def published_costs(scale: str = "laptop", here: Here | None = None) -> pd.DataFrame:
    """A line for each kind of result at hand of every ensemble: members, landscapes, Jacobians.

    ``evaluations`` and ``PFLOP`` are counted; ``hours`` were noted by the run itself, as they
    passed, beside whatever else the machine did; ``at the benchmark's rate`` is PFLOP over what
    :func:`sustained` gives for its work and data, both cores together.
    """
    here, rates, rows = here or Here(), sustained(), []
    for name in recipe_names():
        recipe = get_recipe(name, scale)
        family = "digits" if recipe.data.family == "digits" else "mnist"
        for what, number, evaluations, seconds, artefact in _results(recipe, here):
            flop = evaluations * cost_of(recipe).flop
            work = {"members": "training"}.get(what, what)
            rate = rates.get(f"{work}, {family}")
            rows.append(
                {
                    "ensemble": name,
                    "what": what,
                    "number": number,
                    "evaluations": evaluations,
                    "PFLOP": flop / 1e15,
                    "hours": None if seconds is None else seconds / 3600,
                    "at the benchmark's rate": "" if rate is None else time_in_words(flop, rate),
                    "commit": artefact.provenance["commit"] if artefact else "",
                }
            )
    columns = "ensemble|what|number|evaluations|PFLOP|hours|at the benchmark's rate|commit"
    return pd.DataFrame(rows, columns=columns.split("|"))


def _results(recipe: Recipe, here: Here) -> list[tuple]:
    """Of each kind that is at hand: its name, number, evaluations, seconds and an artefact."""
    try:
        parts = landscapes.stored(recipe, here), jacobians.stored(recipe, here)
        cost = cost_of(recipe)
    except ArtefactError:
        return []
    if not any(parts):
        return []
    packed: Artefact | None = here.store.find("ensemble", recipe.label, recipe.model_spec)
    seconds = packed.info.get("training_seconds") if packed else None
    lines = [("members", recipe.code.n, cost.members, seconds, packed)]
    for what, part, each in zip(
        ("landscapes", "Jacobians"), parts, (cost.landscape, cost.jacobian)
    ):
        if part is not None:
            seconds = sum(artefact.info.get("seconds", 0.0) for artefact in part.artefacts)
            lines.append((what, len(part), each * len(part), seconds, part.artefacts[0]))
    return lines
