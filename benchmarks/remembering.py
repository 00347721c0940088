"""Networks and trainings that memorise on two cores, side by side: what they know for their time.

    python benchmarks/remembering.py [--device auto] [--quick]

Two members of one ensemble are trained in lockstep by each candidate, on one thread, and every
candidate sees an image as often. Then: the squared error (as a velocity) on images that a member
saw and on others, in the times [200, 400), where a network that memorises differs from one that
does not, and samples of a member alone, by how much nearer they lie to an image that it saw than
to any other. One training seed each: differences of a few per cent between candidates are chance.
"""

import dataclasses
import time

import numpy as np
import torch
from measuring import Options, main, say, threads_set

import abc_lib as abc
from abc_lib.method.recipe import Network
from abc_lib.training.budget import num_parameters
from abc_lib.training.members import Block, network_of

EXPOSURE, MEMBERS = 250, 2
BAND = 1
"""of :data:`abc_lib.results.placebos.memory.BANDS`"""


def candidates(name: str, times: float) -> dict[str, abc.Recipe]:
    """What was tried, by name, each image seen so often; the last is what ``abc.get_recipe``
    gives.
    """
    chosen = abc.get_recipe(name)
    # networks and training of general members, as those of class and group ensembles are
    general = abc.get_recipe(f"{chosen.data.family}_classes")
    before = chosen.replace(
        network=general.network,
        training=dataclasses.replace(general.training, block=chosen.training.block),
    )
    target = {"network": {"predicts": "image"}, "training": {"weighting": "image"}}
    small = {"batch_size": 16}

    def with_network(network: Network) -> abc.Recipe:
        return dataclasses.replace(chosen, network=network)

    own = chosen.network
    found = {
        "as before: velocity, batches of 64": before,
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
        "chosen": chosen,
    }
    return {words: recipe.exposed(times) for words, recipe in found.items()}


def block_of(recipe: abc.Recipe, members: list[int]) -> Block:
    """Some members of an ensemble before their training, on the CPU."""
    images, code = abc.training_set(recipe.data), abc.draw_codebook(recipe)
    return Block(recipe, members, [images.of_sources(code.split(m)) for m in members], "cpu")


def _measured(name: str, words: str, recipe: abc.Recipe) -> dict:
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
        "ensemble": name,
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
    """All candidates on a digits and an MNIST ensemble."""
    times = 1 if options.quick else EXPOSURE
    rows = []
    with threads_set(1):
        for name in ("digits_64",) if options.quick else ("digits_256", "mnist_256"):
            for words, recipe in candidates(name, times).items():
                rows.append(_measured(name, words, recipe))
    return {"candidates": rows}


if __name__ == "__main__":
    torch.manual_seed(0)
    main(compare, __doc__)
