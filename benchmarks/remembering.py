"""Networks and trainings that memorise on two cores, side by side: what they know for their time.

    python benchmarks/remembering.py [--device auto] [--quick]

    python benchmarks/run.py --only remembering --output data/published/benchmarks/networks.json

Two members of one ensemble are trained in lockstep by each candidate, on one thread, and every
candidate sees an image as often. Then: the squared error (as a velocity) on images that a member
saw and on others, in the times [200, 400), where a network that memorises differs from one that
does not, and samples of a member alone, by how much nearer they lie to an image that it saw than
to any other. One training seed each: differences of a few per cent between candidates are chance.

One more candidate keeps its learning rate, so that a longer training passes through shorter ones,
and running averages of its parameters beside it. It is looked at twice, in the end and at a
quarter: could one training leave members at several exposures?
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

NAMES = ("digits_256", "mnist_256", "cifar10_500")
EXPOSURE, MEMBERS = 250, 2
GENERAL = {"digits": "digits_classes", "mnist": "mnist_classes", "cifar10": "cifar10_50000"}
"""ensembles of a family whose networks and training are those of general members"""
POWERS = {"a tenth": 6.94, "a twentieth": 16.97}
"""of averages of such a width: their standard deviation in time, of all the steps so far"""
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
        CHOSEN: chosen,
    }
    return {words: recipe.exposed(times) for words, recipe in found.items()}


class Averaged(Block):
    """The training of a block that keeps running averages of its parameters.

    Of a width that is a share of the steps so far (power functions, Karras et al. 2024, 3.1), so
    that they are as good at every step as they will be in the end.
    """

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.averages = {words: self._copy() for words in POWERS}

    def _copy(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.parameters().items()}

    def step(self, k: int) -> torch.Tensor:
        """A step, and what it does to the averages."""
        losses, now = super().step(k), self.parameters()
        for words, power in POWERS.items():
            # The first step's share is 1: nothing of the initial parameters stays.
            share = 1 - (1 - 1 / (k + 1)) ** (power + 1)
            for name, value in self.averages[words].items():
                value.lerp_(now[name], share)
        return losses


def block_of(recipe: abc.Recipe, members: list[int], kind: type[Block] = Block) -> Block:
    """Some members of an ensemble before their training, on the CPU."""
    images, code = abc.training_set(recipe.data), abc.draw_codebook(recipe)
    return kind(recipe, members, [images.of_sources(code.split(m)) for m in members], "cpu")


def _row(recipe: abc.Recipe, words: str, stacked: dict[str, torch.Tensor], seconds: float) -> dict:
    """What the first members of an ensemble know; their parameters are stacked."""
    images, code = abc.training_set(recipe.data), abc.draw_codebook(recipe)
    members = [
        network_of(recipe, {key: value[m] for key, value in stacked.items()}).eval()
        for m in range(MEMBERS)
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


def _measured(words: str, recipe: abc.Recipe) -> list[dict]:
    block = block_of(recipe, list(range(MEMBERS)))
    start = time.process_time()
    for k in range(recipe.training.steps):
        block.step(k)
    return [_row(recipe, words, block.parameters(), time.process_time() - start)]


def _passing(recipe: abc.Recipe, exposures: list[float]) -> list[dict]:
    """One training at a constant rate, and its averages, looked at whenever it passes one of the
    exposures.
    """
    recipe = recipe.exposed(max(exposures)).replace(training={"schedule": "constant"})
    stops = {recipe.exposed(times).training.steps: times for times in exposures}
    block, rows, seconds = block_of(recipe, list(range(MEMBERS)), Averaged), [], 0.0
    for k in range(recipe.training.steps):
        start = time.process_time()
        block.step(k)
        seconds += time.process_time() - start
        if k + 1 in stops:
            here = recipe.exposed(stops[k + 1])
            rows.append(_row(here, "constant rate", block.parameters(), seconds))
            for words, values in block.averages.items():
                rows.append(_row(here, f"constant rate, averaged over {words}", values, seconds))
    return rows


def compare(options: Options) -> dict:
    """All candidates on a digits, an MNIST and a colour ensemble."""
    times = 1 if options.quick else EXPOSURE
    rows = []
    with threads_set(1):
        for name in ("digits_64",) if options.quick else NAMES:
            found = candidates(name, times)
            for words, recipe in found.items():
                rows += _measured(words, recipe)
            chosen = found[CHOSEN]
            rows += _measured(CHOSEN, chosen.exposed(times / 4))
            rows += _passing(chosen, [times / 4, times])
    return {"candidates": rows}


if __name__ == "__main__":
    torch.manual_seed(0)
    main(compare, __doc__)
