"""Retraining: models trained together against one after another, in one run, in turns.

One after another is the ordinary loop: an ordinary network, the recipe's minibatches,
backward, Adam, then the next model. Together is the library's way, a network with a model
axis. A third way, ``vmap`` over ``functional_call`` with stacked parameters, is what
PyTorch has for it. All start from the same parameters and take the same steps; that losses
and parameters agree at the end is checked. Prints the ratios of time per model and step,
round by round, and their spread.

    python benchmarks/retraining.py [ensemble] [--models 8] [--rounds 7] [--steps 4] [--vmap] [--whole]

All run in one process on one thread and are measured in CPU time, which on one thread is
the time on the wall less what other programs took. Ways that run side by side on cores
gain the number of cores on top; ``--whole`` measures that too, on the wall: a whole
:func:`train_retrained` on all cores against the ordinary loop, which uses one or,
in a second try, PyTorch's threads on all.
"""

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path

import torch

import abc_lib as abc
from abc_lib.datasets import to_model
from abc_lib.diffusion import add_noise, alphas_cumprod
from abc_lib.retraining import FULL, TrainingTogether, train_retrained
from abc_lib.seeds import derive
from abc_lib.tasks import available_cores
from abc_lib.training import _Batches, learning_rate


class OneAfterAnother:
    """The ordinary loop of one model, black images in the place of the left-out source's."""

    def __init__(self, recipe: abc.Recipe, model: int | str, images: abc.TrainingSet):
        self.recipe = recipe
        pixels = images.images.clone()
        if model != FULL:
            pixels[images.sources == model] = 0
        self.shape = tuple(pixels.shape[1:])
        self.images = to_model(pixels, recipe.data)
        self.net = abc.build_network(recipe.network, self.shape, derive("initial", recipe.training.seed, "control"), recipe.diffusion)
        self.net.train()
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=recipe.training.learning_rate, fused=True)
        self.alphas = alphas_cumprod(recipe.diffusion)
        self.batches = _Batches(recipe, "control", len(pixels))

    def step(self, k: int) -> float:
        """One step; its loss."""
        which = self.batches.indices(k)
        times, noise, flips, _ = self.batches.chance(k, (len(which), *self.shape))
        x = self.images[which]
        if self.recipe.data.flips:
            x = torch.where(flips[:, None, None, None], x.flip(-1), x)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.recipe, k)
        error = (self.net(add_noise(x, noise, times, self.alphas), times) - noise).square().mean(dim=(1, 2, 3))
        loss = (error / self.alphas[times] if self.recipe.training.weighting == "velocity" else error).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.item()


class Vmapped(TrainingTogether):
    """The library's loop around ``vmap`` over an ordinary network's ``functional_call``."""

    def __init__(self, recipe, models, images):
        super().__init__(recipe, models, images)
        base = copy.deepcopy(OneAfterAnother(recipe, FULL, images).net)
        n, stacked = len(models), dict(self.network.net.named_parameters())

        def one(parameters, x, t):
            return torch.func.functional_call(base, parameters, (x, t))

        each = torch.func.vmap(one, in_dims=(0, 1, None), out_dims=1)
        self.run = lambda x, t: each(stacked, x.unflatten(1, (n, -1)), t).flatten(1, 2)


def steps_of_one(recipe, models, images) -> tuple[list[OneAfterAnother], callable]:
    """Ordinary models, and a function that takes each of them through some steps, one model after the other."""
    ordinary = [OneAfterAnother(recipe, model, images) for model in models]

    def run(steps: range) -> torch.Tensor:
        return torch.tensor([[each.step(k) for k in steps] for each in ordinary])

    return ordinary, run


def in_turns(recipe: abc.Recipe, images: abc.TrainingSet, count: int, rounds: int, steps: int, vmap: bool) -> None:
    """Times the ways in turns, on the same steps, and checks that they agree."""
    torch.set_num_threads(1)
    # Sources of the first minibatches, so that the models do differ.
    drawn = images.sources[_Batches(recipe, "control", len(images)).indices(0)].unique().tolist()
    models = [FULL, *drawn][:count]
    ordinary, one_by_one = steps_of_one(recipe, models, images)
    together = {"together": TrainingTogether(recipe, models, images)}
    if vmap:
        together["vmap"] = Vmapped(recipe, models, images)
    ratios: dict[str, list[float]] = {name: [] for name in together}
    for turn in range(rounds + 1):
        part = range(turn * steps, (turn + 1) * steps)
        start = time.process_time()
        expected = one_by_one(part)
        slow = (time.process_time() - start) / (len(models) * steps)
        for name, way in together.items():
            start = time.process_time()
            losses = torch.stack([way.step(k) for k in part], dim=1)
            fast = (time.process_time() - start) / (len(models) * steps)
            difference = float(((losses - expected) / expected).abs().max())
            assert difference < 0.02, f"losses of {name} differ by {difference:.1%}"
            if turn:  # the first warms up
                ratios[name].append(slow / fast)
                print(f"{len(models):3} models: one after another {1e3 * slow:6.2f} ms, {name} {1e3 * fast:6.2f} ms a model and step, "
                      f"ratio {slow / fast:.2f}, losses differ by {difference:.1e}", flush=True)
    for name, way in together.items():
        apart = [float((value[i] - each.net.state_dict()[key]).abs().max())
                 for key, value in way.parameters().items() for i, each in enumerate(ordinary)]
        values = ratios[name]
        print(f"{recipe.label}, {len(models)} models, {name}: ratio {statistics.median(values):.2f} "
              f"(from {min(values):.2f} to {max(values):.2f}); after {(rounds + 1) * steps} steps parameters differ by {max(apart):.1e}")


def whole(recipe: abc.Recipe, images: abc.TrainingSet, count: int, steps: int) -> None:
    """A whole training on all cores against the ordinary loop, on the wall."""
    recipe = recipe.replace(training={"steps": steps})
    sources, cores = list(range(count - 1)), available_cores()
    for threads in sorted({1, cores}):
        torch.set_num_threads(threads)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            train_retrained(recipe, sources, store=abc.Store(Path(folder), None), device="cpu", images=images, progress=False)
        fast = time.perf_counter() - start
        start = time.perf_counter()
        # Two models are enough to know what one costs.
        steps_of_one(recipe, [FULL, 0], images)[1](range(steps))
        slow = (time.perf_counter() - start) / 2 * count
        print(f"{recipe.label}, {count} models of {steps} steps: one after another on {threads} of {cores} cores {slow:.0f} s, "
              f"together on all cores {fast:.0f} s, with the start of workers, ratio {slow / fast:.2f}")


def main() -> None:
    """Times the ways in turns and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ensemble", nargs="?", default="digits_64")
    parser.add_argument("--models", type=int, nargs="+", default=[8], help="how many models go together")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="steps a round")
    parser.add_argument("--vmap", action="store_true", help="measure vmap, too")
    parser.add_argument("--whole", action="store_true", help="measure a whole training of 16 models on all cores, too")
    arguments = parser.parse_args()
    recipe = abc.get_recipe(arguments.ensemble)
    images = abc.training_set(recipe.data)
    for count in arguments.models:
        in_turns(recipe, images, count, arguments.rounds, arguments.steps, arguments.vmap)
    if arguments.whole:
        whole(recipe, images, 16, 200)


if __name__ == "__main__":
    main()
