"""Training an ensemble: the library's way against members one after another, in turns.

The straightforward way is an ordinary loop: a ``DataLoader`` over the member's own
images, float32, backward, PyTorch's default Adam, on PyTorch's default threads, then the
next member. Ours is ``abc.ensembles.train_ensemble`` as it is, start to finished artefacts.
Both take the same minibatches, noise and initial parameters, and the losses of every
step are compared. Members that remember are trained in blocks; those stand against the same
members one by one.

    python benchmarks/training.py [--device auto] [--rounds 0] [--quick]
"""

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
from torch.utils.data import DataLoader, TensorDataset

import abc_lib as abc
from abc_lib.ground.seeds import derive
from abc_lib.images.training_set import available
from abc_lib.method.diffusion import add_noise, alphas_cumprod
from abc_lib.method.recipe import SHAPES
from abc_lib.method.space import to_model
from abc_lib.training.batches import Batches, learning_rate

TOLERANCE = 0.02
"""of the losses, relative: rounding grows from step to step"""


class OrdinaryTraining:
    """The ordinary loop of one network; ``lean`` is without ``DataLoader``, with fused Adam."""

    def __init__(
        self,
        recipe: abc.Recipe,
        stream: int | str,
        images: torch.Tensor,
        device: str = "cpu",
        lean: bool = False,
    ):
        self.recipe, self.device, self.lean = recipe, torch.device(device), lean
        self.shape = tuple(images.shape[1:])
        self.images = to_model(images, recipe.data).to(self.device if lean else "cpu")
        self.net = abc.build_network(
            recipe.network,
            self.shape,
            derive("initial", recipe.training.seed, stream),
            recipe.diffusion,
        )
        self.net.to(self.device).train()
        self.optimiser = torch.optim.Adam(
            self.net.parameters(), lr=recipe.training.learning_rate, fused=lean or None
        )
        self.alphas = alphas_cumprod(recipe.diffusion).to(self.device)
        self.batches = Batches(recipe, stream, len(images))

    def run(self, steps: range) -> torch.Tensor:
        """The losses of some steps."""
        which = [self.batches.indices(k) for k in steps]
        if self.lean:
            batches = (self.images[each] for each in which)
        else:
            batches = (
                x
                for (x,) in DataLoader(
                    TensorDataset(self.images), batch_sampler=[each.tolist() for each in which]
                )
            )
        return torch.tensor([self._step(k, x) for k, x in zip(steps, batches)])

    def _step(self, k: int, x: torch.Tensor) -> float:
        times, noise, flips, _ = self.batches.chance(k, (len(x), *self.shape))
        x, times, noise, flips = (each.to(self.device) for each in (x, times, noise, flips))
        if self.recipe.data.flips:
            x = torch.where(flips[:, None, None, None], x.flip(-1), x)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.recipe, k)
        error = (
            (self.net(add_noise(x, noise, times, self.alphas), times) - noise)
            .square()
            .mean(dim=(1, 2, 3))
        )
        a = self.alphas[times]
        share = {"noise": 1, "velocity": 1 / a, "image": (1 - a) / a}
        loss = (error * share[self.recipe.training.weighting]).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.item()


def images_of(recipe: abc.Recipe) -> tuple[abc.TrainingSet, str]:
    """The recipe's images, and what to add to its name: random ones where its own are not at hand.

    A training step takes the same time whatever the pixels show.
    """
    data = recipe.data
    if available(data.family, data.split):
        return abc.training_set(data), ""
    say(
        f"  the images of {recipe.name} are not at hand (see ABC_DATA): random ones of the same "
        "shape stand in for them"
    )
    pixels = torch.rand(data.size, *SHAPES[data.family], generator=torch.Generator().manual_seed(0))
    numbers = torch.arange(data.size)
    sources = numbers % data.num_sources
    images = abc.TrainingSet(pixels, torch.zeros_like(numbers), sources, numbers, "random")
    return images, " (random images)"


def straightforward(
    recipe: abc.Recipe, images: abc.TrainingSet, options: Options, members
) -> torch.Tensor:
    """Losses (members, steps), one member after another."""
    book = abc.draw_codebook(recipe)
    splits = {member: images.of_sources(book.split(member)).images for member in members}
    steps = range(recipe.training.steps)
    return torch.stack(
        [
            OrdinaryTraining(recipe, member, split, options.device).run(steps)
            for member, split in splits.items()
        ]
    )


def ours(
    recipe: abc.Recipe, images: abc.TrainingSet, options: Options, members, jobs: int | None = None
) -> torch.Tensor:
    """The same by the library, into an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        here = options.here(jobs, folder)
        artefacts = abc.ensembles.train_ensemble(recipe, images, list(members), here)
        return torch.stack([a.tensors("losses.safetensors")["losses"] for a in artefacts])


def losses_apart(mine: torch.Tensor, others: torch.Tensor) -> float:
    """The largest relative difference of losses."""
    others = others[: len(mine)]
    return float(((mine[: len(others)] - others) / others).abs().max())


def _once(recipe: abc.Recipe, options: Options, members: int, plain: bool) -> None:
    images, _ = images_of(recipe)
    if plain:
        straightforward(recipe, images, options, range(members))
    else:
        ours(recipe, images, options, range(members), 1)


def compare(options: Options) -> dict:
    """A digits and an MNIST ensemble on a CPU; on a GPU an MNIST one with the paper's members."""
    rows = []
    warm_workers(options)
    if options.quick:
        cases = [("digits_64", 3)]
    else:
        cases = (
            [("digits_256", 30), ("mnist_1024", 15)] if options.on_cpu else [("mnist_1024", 100)]
        )
    for name, steps in cases:
        recipe = abc.get_recipe(name).replace(training={"steps": steps})
        if not options.on_cpu:
            recipe = recipe.replace(code={"n": 22, "weight": 11})
        images, note = images_of(recipe)
        case, n = (recipe, images, options), recipe.code.n
        # One after another costs the same for every member, so few of them tell; all of ours, for
        # they may share work.
        members = range(2 if options.quick else n)
        few = range(min(n, 2 if options.quick or not options.on_cpu else 4))
        say(f"  {name}, {options.device}: {len(members)} members, {steps} steps")
        if not options.quick:  # the first call of a kind sets things up
            ours(*case, members, options.jobs)
            straightforward(*case, range(1))
        turns = in_turns(
            {
                "ours": doing(len(members) * steps, ours, *case, members, options.jobs),
                "straightforward": doing(len(few) * steps, straightforward, *case, few),
            },
            losses_apart,
            TOLERANCE,
            options,
            options.how_many(3),
            DEFAULT_THREADS if options.on_cpu else None,
            options.processes,
        )
        flops, batch = step_flops(recipe, SHAPES[recipe.data.family]), recipe.training.batch_size
        work = {
            way: Work(
                batch,
                flops,
                peak_memory(
                    options,
                    _once,
                    recipe.replace(training={"steps": 3}),
                    options,
                    1 if options.on_cpu or plain else n,
                    plain,
                    threads=DEFAULT_THREADS if plain else 1,
                ),
                1 if plain else options.processes,
            )
            for way, plain in (("ours", False), ("straightforward", True))
        }
        rows.append(
            row(
                f"training {n} members, {name}{note}",
                "all members: one after another with a DataLoader against one on each core"
                if options.on_cpu
                else "all members: one after another with a DataLoader against the library's way",
                "member and step",
                turns,
                work,
                TOLERANCE,
            )
        )
    return {"rows": [*rows, *in_lockstep(options)]}


def in_lockstep(options: Options) -> list[dict]:
    """Members in blocks against the same members one by one, both by the library."""
    cases = [("digits_64", 3)] if options.quick else [("digits_256", 200), ("mnist_256", 60)]
    rows = []
    for name, steps in cases:
        recipe = abc.get_recipe(name).replace(training={"steps": steps})
        images, note = images_of(recipe)
        n = recipe.code.n
        members = range(n)
        alone = recipe.replace(training={"block": 1})
        say(f"  {name}, {options.device}: {n} members in blocks of {recipe.training.block}")
        turns = in_turns(
            {
                way: doing(n * steps, ours, one, images, options, members, options.jobs)
                for way, one in (("ours", recipe), ("one by one", alone))
            },
            losses_apart,
            TOLERANCE,
            options,
            options.how_many(3),
            DEFAULT_THREADS if options.on_cpu else None,
            options.processes,
        )
        flops, batch = step_flops(recipe, SHAPES[recipe.data.family]), recipe.training.batch_size
        work = {}
        for way, one in (("ours", recipe), ("one by one", alone)):
            short = one.replace(training={"steps": 3})
            memory = peak_memory(options, _once, short, options, 1, False, threads=1)
            work[way] = Work(batch, flops, memory, options.processes)
        rows.append(
            row(
                f"training {n} members that remember, {name}{note}",
                f"blocks of {recipe.training.block} as one network each against one by one",
                "member and step",
                turns,
                work,
                TOLERANCE,
                "one by one",
            )
            | {"ensemble": name}
        )
    return rows


if __name__ == "__main__":
    main(compare, __doc__)
