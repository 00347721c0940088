"""Networks and trainings that memorise on two cores, side by side: what they know for their time.

    python benchmarks/run.py --only remembering --output data/published/benchmarks/networks.json

Two members of one ensemble are trained in lockstep by each candidate, on one thread, and every
candidate sees an image as often. Then: the squared error (as a velocity) on images that a member
saw and on others, in the times [200, 400), where a network that memorises differs from one that
does not, and samples of a member alone, by how much nearer they lie to an image that it saw than
to any other. One training seed each: differences of a few per cent between candidates are chance.

Candidates whose learning rate stays the same pass through shorter trainings. Two are also measured
at a quarter of the exposure, where they are as far as the longer training was: could one training
leave members at several exposures?
"""

import dataclasses
import time

import numpy as np
import torch
from measuring import Options, main, say, threads_set

import abc_lib as abc
from abc_lib.method.recipe import Network
from abc_lib.study.exposures.remembering import CHOSEN
from abc_lib.training.budget import num_parameters
from abc_lib.training.members import Block, network_of

EXPOSURES, MEMBERS = {"digits_256": 250, "mnist_256": 250, "cifar10_500": 125}, 2
GENERAL = {"digits": "digits_classes", "mnist": "mnist_classes", "cifar10": "cifar10_50000"}
"""ensembles of a family whose networks and training are those of general members"""
FALLING, AVERAGED = "chosen, rate falling", "chosen, rate constant, averaged over a tenth"
PASSED = (FALLING, AVERAGED)
BEFORE = "as before: velocity, batches of 64"
LEFT_OUT = (
    "before, predicting the image",
    "before, image, batches of 16",
    "chosen, times uniform",
    FALLING,
    "chosen, rate constant",
    "chosen, rate constant, averaged over a twentieth",
)
"""not measured as whole ensembles: the losses say enough of them, or another one is as they are"""
SOME = {"cifar10_500": (BEFORE, "chosen, half as wide", FALLING, CHOSEN)}
"""of sets whose candidates take too long"""
BAND = 1
"""of :data:`abc_lib.results.placebos.memory.BANDS`"""


def candidates(name: str, times: float) -> dict[str, abc.Recipe]:
    """What was tried, by name, each image seen so often; the last is what ``abc.get_recipe``
    gives.
    """
    chosen = abc.get_recipe(name)
    general = abc.get_recipe(GENERAL[chosen.data.family])
    before = chosen.replace(
        network=general.network,
        training=dataclasses.replace(general.training, block=chosen.training.block),
    )
    target = {"network": {"predicts": "image"}, "training": {"weighting": "image"}}
    small = {"batch_size": 16}

    def with_network(network: Network) -> abc.Recipe:
        return dataclasses.replace(chosen, network=network)

    def steady(average: float) -> abc.Recipe:
        return chosen.replace(training={"schedule": "constant", "warmup": 0, "average": average})

    own = chosen.network
    found = {
        BEFORE: before,
        "before, predicting the image": before.replace(**target),
        "before, image, batches of 16": before.replace(
            network=target["network"], training=target["training"] | small
        ),
        "chosen, times uniform": chosen.replace(training={"times": "uniform"}),
        "chosen, half as wide": with_network(
            dataclasses.replace(own, channels=(own.channels[0] // 2 // 8 * 8,))
        ),
        "chosen, 1.6 times as wide": with_network(
            dataclasses.replace(own, channels=(int(1.6 * own.channels[0]) // 8 * 8,))
        ),
        "chosen, patches twice as large": with_network(
            dataclasses.replace(own, patch=2 * own.patch)
        ),
        "chosen, twice as deep": with_network(
            dataclasses.replace(own, layers_per_block=2 * own.layers_per_block)
        ),
        "chosen, a third of the learning rate": chosen.replace(
            training={"learning_rate": chosen.training.learning_rate / 3}
        ),
        FALLING: chosen.replace(training={"schedule": "cosine", "warmup": 50, "average": 0.0}),
        "chosen, rate constant": steady(0.0),
        "chosen, rate constant, averaged over a twentieth": steady(0.05),
        AVERAGED: steady(0.1),
        CHOSEN: chosen,
    }
    return {words: recipe.exposed(times) for words, recipe in found.items()}


def block_of(recipe: abc.Recipe, members: list[int]) -> Block:
    """Some members of an ensemble before their training, on the CPU."""
    images, code = abc.training_set(recipe.data), abc.draw_codebook(recipe)
    return Block(recipe, members, [images.of_sources(code.split(m)) for m in members], "cpu")


def _measured(words: str, recipe: abc.Recipe) -> dict:
    images, code = abc.training_set(recipe.data), abc.draw_codebook(recipe)
    which = list(range(MEMBERS))
    block = block_of(recipe, which)
    start = time.process_time()
    for k in range(recipe.training.steps):
        block.step(k)
    seconds = time.process_time() - start
    stacked = block.parameters()
    members = [
        network_of(recipe, {key: value[m] for key, value in stacked.items()}).eval() for m in which
    ]
    whose = recipe, members, code.words[:, :MEMBERS], images
    own, other = abc.memory.losses(*whose)
    ratios = abc.memory.ratios(*whose)
    row = {
        "ensemble": recipe.name,
        "candidate": words,
        "parameters": num_parameters(members[0]),
        "exposure": recipe.exposure,
        "cpu_seconds": seconds / MEMBERS,
        "own_loss": float(own[:, BAND].mean()),
        "other_loss": float(other[:, BAND].mean()),
        "ratio": float(np.median(ratios)),
        "ratio_error": float(ratios.median(1).values.std() / MEMBERS**0.5),
    }
    say("  " + ", ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    return row


def compare(options: Options) -> dict:
    """All candidates on a digits and an MNIST ensemble, some in colour."""
    rows = []
    with threads_set(1):
        for name, times in ({"digits_64": 1} if options.quick else EXPOSURES).items():
            found = candidates(name, times)
            few = name in SOME
            rows += [_measured(w, r) for w, r in found.items() if not few or w in SOME[name]]
            for words in () if few else PASSED:
                rows.append(_measured(words, found[words].exposed(times / 4)))
    return {"candidates": rows}


if __name__ == "__main__":
    torch.manual_seed(0)
    main(compare, __doc__)
