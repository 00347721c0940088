"""What chance gives a step of training, as a function of the step (B.2)."""

import contextlib
import math
from collections.abc import Iterator

import torch

from abc_lib.ground.errors import BadValue, unknown
from abc_lib.ground.seeds import derive, generator
from abc_lib.method.recipe import Recipe


def learning_rate(recipe: Recipe, step: int) -> float:
    """The learning rate at a step, counted from 0."""
    training = recipe.training
    if training.schedule == "constant":
        return training.learning_rate
    if training.schedule != "cosine":
        raise BadValue(
            f"learning rate schedule '{training.schedule}' is unknown; choose constant or cosine"
        )
    ramp = min(1.0, (step + 1) / max(1, training.warmup))
    return training.learning_rate * ramp * 0.5 * (1 + math.cos(math.pi * step / training.steps))


MIDDLE = (100, 750)
"""the times that ``Training.times = "middle"`` prefers, of a thousand"""


class Batches:
    """Minibatches as a function of the step: shuffled epochs, end to end."""

    def __init__(self, recipe: Recipe, member: int | str, size: int):
        if recipe.training.times not in ("uniform", "middle"):
            raise unknown("distribution of times", recipe.training.times, ("uniform", "middle"))
        self.recipe, self.member, self.size = recipe, member, size
        self.orders: dict[int, torch.Tensor] = {}

    def _order(self, epoch: int) -> torch.Tensor:
        if epoch not in self.orders:
            names = ("order", self.recipe.training.seed, self.member, epoch)
            self.orders = {k: v for k, v in self.orders.items() if k == epoch - 1}
            self.orders[epoch] = torch.randperm(self.size, generator=generator(*names))
        return self.orders[epoch]

    def indices(self, step: int) -> torch.Tensor:
        """Which images are in the batch of a step."""
        batch = self.recipe.training.batch_size
        position, picked = step * batch, []
        while batch > 0:
            epoch, start = divmod(position, self.size)
            part = self._order(epoch)[start : start + batch]
            picked.append(part)
            position, batch = position + len(part), batch - len(part)
        return torch.cat(picked)

    def chance(
        self, step: int, shape: tuple
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
        """Time steps, noise, which images to flip, and a seed for dropout."""
        rng = generator("step", self.recipe.training.seed, self.member, step)
        times = torch.randint(0, self.recipe.diffusion.train_steps, shape[:1], generator=rng)
        noise = torch.randn(shape, generator=rng)
        flips = torch.rand(shape[0], generator=rng) < 0.5
        if self.recipe.training.times == "middle":
            # Where noisy images no longer tell which they were made from, and not yet nothing.
            middle = torch.randint(*MIDDLE, shape[:1], generator=rng)
            times = torch.where(torch.rand(shape[0], generator=rng) < 0.8, middle, times)
        return times, noise, flips, derive("dropout", self.recipe.training.seed, self.member, step)


def mirrored(recipe: Recipe, x: torch.Tensor, flips: torch.Tensor) -> torch.Tensor:
    """Images x (B, C, H, W) with those flipped that chance has picked, where the recipe says so.

    Mirrored images have latents of their own, which are in the set already.
    """
    if not recipe.data.flips or recipe.data.space != "pixel":
        return x
    return torch.where(flips.to(x.device)[:, None, None, None], x.flip(-1), x)


@contextlib.contextmanager
def seeded_dropout(recipe: Recipe, device: torch.device, seed: int) -> Iterator[None]:
    """Dropout alone draws from a global generator; it is seeded within and left as it was."""
    if not recipe.network.dropout:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
