"""Retraining: models trained together against one after another, in turns.

One after another is the ordinary loop: an ordinary network, the recipe's minibatches,
backward, Adam, then the next model. Together is the library's way, a network with a model
axis. A third way, ``vmap`` over ``functional_call`` with stacked parameters, is what
PyTorch has for it. All start from the same parameters and take the same steps; that losses
agree is checked.

    python benchmarks/retraining.py [--device auto] [--rounds 0] [--quick]

Measured twice. On one thread each, against a loop without a ``DataLoader`` and with the
fused Adam, so that the ratio is about training together only. And with the whole machine:
:func:`train_retrained` as it is against the loop as people run it, on PyTorch's default
threads.
"""

import copy
import tempfile

import torch
from measuring import (
    DEFAULT_THREADS,
    Options,
    Work,
    doing,
    in_turns,
    main,
    peak_memory,
    row,
    say,
    step_flops,
    warm_workers,
)
from training import TOLERANCE, OrdinaryTraining, losses_apart

import abc_lib as abc
from abc_lib.method.recipe import SHAPES
from abc_lib.training.batches import Batches
from abc_lib.training.together import FULL, TrainingTogether, train_retrained


class Vmapped(TrainingTogether):
    """The library's loop around ``vmap`` over an ordinary network's ``functional_call``."""

    def __init__(self, recipe, models, images, device):
        super().__init__(recipe, models, images, device=device)
        base = copy.deepcopy(one_after_another(recipe, [FULL], images, device)[0].net)
        n, stacked = len(models), dict(self.network.net.named_parameters())

        def one(parameters, x, t):
            return torch.func.functional_call(base, parameters, (x, t))

        each = torch.func.vmap(one, in_dims=(0, 1, None), out_dims=1)
        self.run = lambda x, t: each(stacked, x.unflatten(1, (n, -1)), t[:, 0]).flatten(1, 2)


def one_after_another(
    recipe, models, images: abc.TrainingSet, device: str, lean: bool = True
) -> list[OrdinaryTraining]:
    """Ordinary models with black images in the place of the left-out source's."""
    ordinary = []
    for model in models:
        pixels = images.images.clone()
        if model != FULL:
            pixels[images.sources == model] = 0
        ordinary.append(OrdinaryTraining(recipe, "control", pixels, device, lean))
    return ordinary


def some_models(recipe: abc.Recipe, images: abc.TrainingSet, count: int) -> list[int | str]:
    """The model on everything and some without a source of the first minibatch: they differ."""
    drawn = images.sources[Batches(recipe, "control", len(images)).indices(0)].unique().tolist()
    return [FULL, *drawn, *(s for s in range(recipe.data.num_sources) if s not in drawn)][:count]


def whole(recipe: abc.Recipe, images: abc.TrainingSet, models, options: Options) -> torch.Tensor:
    """Losses (models, steps) of a whole training by the library, into an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        here = options.here(options.jobs, folder)
        artefacts = train_retrained(recipe, models[1:], images=images, here=here)
        rows = {
            m: losses
            for a in artefacts
            for m, losses in zip(a.spec["models"], a.tensors("losses.safetensors")["losses"])
        }
        return torch.stack([rows[m] for m in models])


def ordinarily(recipe: abc.Recipe, images: abc.TrainingSet, models, device: str) -> torch.Tensor:
    """The same by the loop as people run it, one model after another."""
    steps = range(recipe.training.steps)
    ordinary = one_after_another(recipe, models, images, device, lean=False)
    return torch.stack([model.run(steps) for model in ordinary])


def _once(recipe: abc.Recipe, device: str, count: int, plain: bool) -> None:
    images = abc.training_set(recipe.data)
    models = some_models(recipe, images, count)
    if plain:
        one_after_another(recipe, models[:1], images, device)[0].run(range(3))
    else:
        together = TrainingTogether(recipe, models, images, device=device)
        for k in range(3):
            together.step(k)


def compare(options: Options) -> dict:
    """Models of digits_64: eight on one thread (64 on a GPU), and a whole training."""
    recipe, steps = abc.get_recipe("digits_64"), 2 if options.quick else 4 if options.on_cpu else 20
    images = abc.training_set(recipe.data)
    flops, batch = step_flops(recipe, SHAPES["digits"]), recipe.training.batch_size
    count, device = 2 if options.quick else 8 if options.on_cpu else 64, options.device
    models = some_models(recipe, images, count)
    few = models if options.on_cpu else models[:2]
    memory = {
        plain: peak_memory(options, _once, recipe, device, count, plain) for plain in (False, True)
    }
    work = {
        way: Work(batch, flops, memory[way == "one after another"])
        for way in ("ours", "one after another", "vmap")
    }

    # Every way goes on from where its last round left it.
    ordinary, ways = one_after_another(recipe, few, images, device), {}
    together = {
        "ours": TrainingTogether(recipe, models, images, device=device),
        "vmap": Vmapped(recipe, models, images, device),
    }
    taken = dict.fromkeys(["one after another", *together], 0)

    def next_steps(way: str) -> range:
        taken[way] += steps
        return range(taken[way] - steps, taken[way])

    def lockstep(way: str):
        return count * steps, torch.stack(
            [together[way].step(k).cpu() for k in next_steps(way)], dim=1
        )

    def apart_from_each_other():
        part = next_steps("one after another")
        return len(few) * steps, torch.stack([each.run(part) for each in ordinary])

    ways = {
        "ours": lambda: lockstep("ours"),
        "one after another": apart_from_each_other,
        "vmap": lambda: lockstep("vmap"),
    }
    for way in ways.values():  # the first steps warm up
        way()
    say(f"  digits_64, {'one thread' if options.on_cpu else device}: {count} models")
    turns = in_turns(
        ways, losses_apart, TOLERANCE, options, options.how_many(5), 1 if options.on_cpu else None
    )
    what = (
        "models that leave one source out, the same steps: {} against a network with a model axis"
    )
    title = f"retraining {count} models, digits_64" + (", one thread" if options.on_cpu else "")
    rows = [
        row(
            title,
            what.format("a lean loop, one model after another,"),
            "model and step",
            turns,
            work,
            TOLERANCE,
            "one after another",
        ),
        row(
            title,
            what.format("PyTorch's vmap over stacked parameters"),
            "model and step",
            turns,
            work | {"vmap": Work(batch, flops)},
            TOLERANCE,
            "vmap",
        ),
    ]

    # A multiple of what goes together for every process.
    count, steps = (
        (3, 3) if options.quick else (8 * options.processes, 40) if options.on_cpu else (128, 100)
    )
    models = some_models(recipe, images, min(count, 64))
    short = recipe.replace(training={"steps": steps})
    warm_workers(options)
    say(f"  digits_64, whole training: {len(models)} models, {steps} steps")
    turns = in_turns(
        {
            "ours": doing(len(models) * steps, whole, short, images, models, options),
            "straightforward": doing(2 * steps, ordinarily, short, images, models[:2], device),
        },
        losses_apart,
        TOLERANCE,
        options,
        options.how_many(3),
        DEFAULT_THREADS if options.on_cpu else None,
        options.processes,
    )
    work = {
        "ours": Work(batch, flops, memory[False], options.processes),
        "straightforward": Work(batch, flops, memory[True]),
    }
    rows.append(
        row(
            f"retraining {len(models)} models, digits_64, start to end",
            "models that leave one source out: one after another with a DataLoader against a whole "
            "training by the library",
            "model and step",
            turns,
            work,
            TOLERANCE,
        )
    )
    return {"rows": rows}


if __name__ == "__main__":
    main(compare, __doc__)
