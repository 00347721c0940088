"""Models of one recipe trained side by side, as one network with a model axis (2.2, 2.3, 3.2).

Convolutions are grouped, linear maps are batched products, one Adam over stacked tensors is
exactly many Adams. Members of an ensemble and models that leave a source out are trained so; each
says what its minibatch is.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from abc_lib.ground.errors import BadValue, unknown
from abc_lib.ground.loop import STORED, loss_note, network_state, resume_network
from abc_lib.method.diffusion import alphas_cumprod
from abc_lib.method.network import build_network
from abc_lib.method.recipe import Recipe, Shape
from abc_lib.training.batches import learning_rate, seeded_dropout
from abc_lib.training.stacked import StackedNetwork

WEIGHTINGS = ("noise", "velocity", "image")


@dataclass(frozen=True)
class Minibatch:
    """What n models see in one step; an axis of length 1 in the models' place is shared."""

    states: torch.Tensor
    """noisy images (B, n, C, H, W)"""
    times: torch.Tensor
    """their times (B, n) or (B, 1)"""
    noise: torch.Tensor
    """what is in them, (B, n, C, H, W) or (B, 1, C, H, W)"""
    dropout_seed: int
    left_out: torch.Tensor | None = None
    """(B, n): what does not count in a model's loss; None if everything does"""


@lru_cache
def _power(width: float) -> float:
    """That of the step in weights of such a width."""
    inverse = width**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def newest_share(width: float, k: int) -> float:
    """What the parameters after step ``k`` (from 0) count in their running average.

    The average's weights are a power of the step whose standard deviation in time is ``width``
    times the steps so far, so it is as good in the middle of a training as at its end (Karras et
    al. 2024, 3.1). The first step's share is 1: nothing of the initial parameters stays.
    """
    return 1 - (1 - 1 / (k + 1)) ** (_power(width) + 1)


class Lockstep:
    """The training of n models from any step on (see :mod:`abc_lib.ground.loop`).

    ``seeds`` are those of the models' initial parameters. There is no gradient clipping to do a
    model at a time. Whoever inherits gives the :class:`Minibatch` of a step.
    """

    def __init__(
        self,
        recipe: Recipe,
        shape: Shape,
        seeds: list[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        training = recipe.training
        if training.weighting not in WEIGHTINGS:
            raise unknown("weighting of the loss", training.weighting, WEIGHTINGS)
        self.recipe, self.shape = recipe, shape
        self.device, self.dtype = torch.device(device), dtype
        nets = {s: build_network(recipe.network, shape, s, recipe.diffusion) for s in set(seeds)}
        initial = [dict(nets[s].named_parameters()) for s in seeds]
        stacked = StackedNetwork(nets[seeds[0]], len(seeds))
        stacked.load({k: torch.stack([one[k].detach() for one in initial]) for k in initial[0]})
        self.network = stacked.to(self.device, dtype).train()
        on_gpu = self.device.type == "cuda"
        self.run = torch.compile(self.network) if training.compile and on_gpu else self.network
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=training.learning_rate, fused=self.device.type != "mps"
        )
        self.autocast = torch.autocast(
            self.device.type, torch.bfloat16, enabled=on_gpu and training.precision == "bfloat16"
        )
        self.alphas = alphas_cumprod(recipe.diffusion).to(self.device, dtype)
        self.steps = training.steps
        wanted = self._now() if training.average else {}
        self.average = {name: value.clone() for name, value in wanted.items()}
        self.losses = torch.zeros(len(seeds), self.steps)

    def minibatch(self, k: int) -> Minibatch:
        """What the models see in step ``k``."""
        raise NotImplementedError

    def step(self, k: int) -> torch.Tensor:
        """One step of every model; returns their losses (n,) before it."""
        batch = self.minibatch(k)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.recipe, k)
        with seeded_dropout(self.recipe, self.device, batch.dropout_seed), self.autocast:
            predicted = self.run(batch.states.flatten(1, 2), batch.times).to(self.dtype)
        error = self.errors(predicted, batch)
        if batch.left_out is None:
            losses = error.mean(dim=0)
        else:
            counts = (~batch.left_out).sum(dim=0).clamp(min=1)
            losses = torch.where(batch.left_out, 0, error).sum(dim=0) / counts
        self.optimiser.zero_grad(set_to_none=True)
        # No model's loss depends on another's parameters, so the sum's gradient holds each
        # model's own.
        losses.sum().backward()
        self.optimiser.step()
        if self.average:
            share, now = newest_share(self.recipe.training.average, k), self._now()
            for name, value in self.average.items():
                value.lerp_(now[name], share)
        self.losses[:, k] = losses.detach().cpu()
        return losses.detach()

    def errors(self, predicted: torch.Tensor, batch: Minibatch) -> torch.Tensor:
        """Mean squared errors (B, n) of predicted noise (B, n * C, H, W), weighted as the recipe
        says.
        """
        error = (predicted.unflatten(1, (self.network.n, -1)) - batch.noise).square()
        error, a = error.mean(dim=(2, 3, 4)), self.alphas[batch.times]
        if self.recipe.training.weighting == "velocity":
            return error / a
        if self.recipe.training.weighting == "image":
            return error * (1 - a) / a
        return error

    def parameters(self) -> dict[str, torch.Tensor]:
        """Parameters by the names that an ordinary network gives them, (n, ...); their running
        average where the recipe wants it.
        """
        return self.average or self._now()

    def _now(self) -> dict[str, torch.Tensor]:
        return {name: value.detach() for name, value in self.network.net.named_parameters()}

    def finished(self, titles: list[str]) -> dict[str, torch.Tensor]:
        """:meth:`parameters` on the CPU in the recipe's stored type.

        Raises :class:`BadValue` for the first model, by its title, whose training diverged.
        """
        stored = self.recipe.training.stored
        parameters = {
            key: value.to("cpu", STORED[stored]).contiguous()
            for key, value in self.parameters().items()
        }
        for row, title in enumerate(titles):
            if not torch.isfinite(self.losses[row]).all():
                raise BadValue(
                    f"training of {title} diverged (the loss is not finite); lower the learning "
                    "rate"
                )
            if not all(torch.isfinite(value[row]).all() for value in parameters.values()):
                raise BadValue(
                    f"{title} has parameters too large for {stored}; lower the learning rate"
                )
        return parameters

    def state(self) -> dict[str, Any]:
        """The stacked network, its average and its Adam, and the losses so far."""
        average = {f"average.{name}": value for name, value in self.average.items()}
        state = network_state(self.network.net, self.optimiser)
        return state | average | {"losses": self.losses}

    def resume(self, state: dict[str, torch.Tensor], k: int) -> None:
        """Goes back to a state of before step ``k``."""
        self.losses = state["losses"]
        self.average = {
            name: state[f"average.{name}"].to(value.device) for name, value in self.average.items()
        }
        resume_network(self.network.net, self.optimiser, state)

    def note(self, k: int) -> str:
        """The mean loss of late, over all models."""
        return loss_note(self.losses, k)
