"""Whole ensembles of candidate networks: how far their samples move for their core-hours.

    python benchmarks/run.py --only frontier --output data/published/benchmarks/networks.json

``remembering.py`` asks what two members of each candidate know; this trains all members, and asks
what the ensemble does: its counterfactual radii, from the same noise for all candidates, and how
often a sample keeps its nearest image without it, and without another one. Members that were
trained before are taken from the cache. What training costs is a step of one block on one thread,
all candidates in turns, times the steps of all members.
"""

import statistics

import numpy as np
from measuring import Options, clock, say, threads_set
from remembering import EXPOSURES, LEFT_OUT, block_of, candidates

import abc_lib as abc
from abc_lib.results.measures.attributions import false_attribution_rate
from abc_lib.study.exposures.remembering import CHOSEN
from abc_lib.training.budget import num_parameters
from abc_lib.training.members import blocks_of

SAMPLES, ATTRIBUTED = 8, 100
STEPS = 15
"""of a block, in a turn"""


def _costs(recipes: dict[str, abc.Recipe], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of training all members of each, as one thread would take, a round each."""
    blocks = {
        words: block_of(recipe, blocks_of(recipe, [0])[0]) for words, recipe in recipes.items()
    }
    costs: dict[str, list[float]] = {words: [] for words in recipes}
    for turn in range(rounds + 1):
        for words, block in blocks.items():
            recipe, start = recipes[words], clock("cpu", 1)
            steps = min(STEPS, recipe.training.steps)
            for k in range(steps):
                block.step(k)
            taken = (clock("cpu", 1) - start) / steps / len(block.losses)
            if turn:  # the first warms up
                costs[words].append(taken * recipe.training.steps * recipe.code.n)
    return costs


def _measured(
    words: str, recipe: abc.Recipe, samples: int, attributed: int, here: abc.Here
) -> dict:
    images, ensemble = abc.training_set(recipe.data), abc.get_ensemble(recipe, here)
    rate = false_attribution_rate(ensemble, range(attributed), images, seed=2, here=here)
    whose = recipe, ensemble.members, ensemble.codebook.words, images
    row = {
        "ensemble": recipe.name,
        "candidate": words,
        "parameters": num_parameters(ensemble.members[0]),
        "exposure": recipe.exposure,
        "radii": abc.landscapes.get(ensemble, samples, here=here).radii[:samples].tolist(),
        "false_attribution": vars(rate) | {},
        "ratio": float(np.median(abc.memory.ratios(*whose))),
    }
    logs = np.log10(row["radii"])
    kept = f"{rate.again:.2f} and {rate.instead:.2f} keep it"
    say(f"  {words}: log10 radius {logs.mean():.3f}, {kept}")
    return row


def compare(options: Options) -> dict:
    """The candidates as ensembles of MNIST; a quick run has another set, and hardly trains."""
    name = "digits_64" if options.quick else "mnist_256"
    found = candidates(name, 1 if options.quick else EXPOSURES[name])
    recipes = {words: recipe for words, recipe in found.items() if words not in LEFT_OUT}
    if options.quick:
        recipes = {CHOSEN: recipes[CHOSEN]}
    counts, here = (2, 4) if options.quick else (SAMPLES, ATTRIBUTED), options.here(jobs=1)
    with threads_set(1):
        costs = _costs(recipes, options.how_many(5))
        rows = [
            _measured(words, recipe, *counts, here)
            | {"cpu_seconds": statistics.median(costs[words])}
            | {"times": [a / b for a, b in zip(costs[words], costs[CHOSEN], strict=True)]}
            for words, recipe in recipes.items()
        ]
    return {"ensembles": rows}
