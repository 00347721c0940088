"""Whole ensembles of candidate networks: how far their samples move for their core-hours.

    python benchmarks/run.py --only frontier --output data/published/benchmarks/frontier.json

``remembering.py`` asks what two members of each candidate know; this trains all members, and asks
what the ensemble does: its counterfactual radii, from the same noise for all candidates, and how
often a sample keeps its nearest image without it, and without another one. Members that were
trained before are taken from the cache. What training costs is a step of one block on one thread,
all candidates in turns, times the steps of all members.
"""

import statistics
import time

import numpy as np
from measuring import Options, say, threads_set
from remembering import EXPOSURE, candidates

import abc_lib as abc
from abc_lib.method.distance import distance
from abc_lib.results.measures.attributions import false_attribution_rate
from abc_lib.results.placebos.evidence import without
from abc_lib.training.budget import num_parameters, trajectories_side_by_side
from abc_lib.training.members import Block, blocks_of

CHOSEN = "chosen"
LEFT_OUT = ("before, predicting the image", "before, image, batches of 16", "chosen, times uniform")
"""candidates between the one of before and the chosen one, of which the losses say enough"""
SAMPLES, ATTRIBUTED = 8, 100
STEPS = 15
"""of a block, in a turn"""


def _block(recipe: abc.Recipe) -> Block:
    """The first members of an ensemble, before their training."""
    images, code = abc.training_set(recipe.data), abc.draw_codebook(recipe)
    members = blocks_of(recipe, [0])[0]
    return Block(recipe, members, [images.of_sources(code.split(m)) for m in members], "cpu")


def _costs(recipes: dict[str, abc.Recipe], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of training all members of each, as one thread would take, a round each."""
    blocks = {words: _block(recipe) for words, recipe in recipes.items()}
    costs: dict[str, list[float]] = {words: [] for words in recipes}
    for turn in range(rounds + 1):
        for words, block in blocks.items():
            recipe, start = recipes[words], time.process_time()
            steps = min(STEPS, recipe.training.steps)
            for k in range(steps):
                block.step(k)
            taken = (time.process_time() - start) / steps / len(block.losses)
            if turn:  # the first warms up
                costs[words].append(taken * recipe.training.steps * recipe.code.n)
    return costs


def _radii(ensemble: abc.Ensemble, samples: int, here: abc.Here) -> list[float]:
    """Counterfactual radii of some samples."""
    noise = ensemble.draw_noise(0, range(samples))
    size = trajectories_side_by_side(ensemble, here)
    found = []
    for row in range(samples):
        factual, there = without(ensemble, noise[[row]], ensemble.codebook.words, size)
        found.append(float(distance(there, factual).max()))
    return found


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
        "radii": _radii(ensemble, samples, here),
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
    found = candidates(name, 1 if options.quick else EXPOSURE)
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
