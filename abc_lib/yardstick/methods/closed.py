"""Methods whose model of the ensemble is known in closed form, so that it can leave images out."""

import numpy as np
import torch

from abc_lib.method.diffusion import alphas_cumprod
from abc_lib.method.space import to_model
from abc_lib.yardstick.methods.base import Method
from abc_lib.yardstick.methods.kernels import by_patch
from abc_lib.yardstick.tasks import GRADIENT_TIMES, Task
from abc_lib.yardstick.truths import noised

__all__ = ["LOCAL_SIDES", "METHODS", "local_rise", "means_without", "sensitivity"]

LOCAL_SIDES = (3, 5, 7)
"""of the patches that a pixel depends on"""


def means_without(logits: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Softmax means over N values, (..., 1), and those without each of them, (..., N).

    ``values`` (..., N), N at least 2, and ``logits`` of a shape that goes with it. Exact where one
    weight is almost all: the mean without the largest is taken anew, the others by subtraction.
    """
    logits = logits.expand_as(values)
    weights = logits.softmax(-1)
    mean = (weights * values).sum(-1, keepdim=True)
    top = logits.argmax(-1, keepdim=True)
    rest = 1 - weights.scatter(-1, top, 0)
    without = (mean - weights * values) / rest
    second = logits.scatter(-1, top, -torch.inf).softmax(-1)
    return mean, without.scatter(-1, top, (second * values).sum(-1, keepdim=True))


def local_rise(
    query: torch.Tensor, states: torch.Tensor, sources: torch.Tensor, a: torch.Tensor, side: int
) -> torch.Tensor:
    """By how much the error of the local score machine on a query rises without each source, (N,).

    The machine of Kamb and Ganguli (2024) without shifts: each pixel is the mean of that pixel in
    the sources, weighted by how likely the patch around it is to have come from theirs. ``query``
    (C, H, W), ``states`` (K, C, H, W) of it at signal ``a`` (K,), ``sources`` (N, C, H, W), all in
    the members' range. The error is that of the image.
    """
    rises = []
    for state, share in zip(states, a, strict=True):
        squared = by_patch(state[None], share.sqrt() * sources, side)[0]  # (N, H W)
        logits = -(squared * _sizes(state, side) / (2 * (1 - share))).T  # (H W, N)
        means = means_without(logits, sources.flatten(2).permute(1, 2, 0))
        whole, without = (
            ((each - query.flatten(1)[..., None]) ** 2).mean((0, 1)) for each in means
        )
        rises.append(without - whole)
    return torch.stack(rises).mean(0)


def _sizes(state: torch.Tensor, side: int) -> torch.Tensor:
    """How many numbers are in the patch around each pixel, (H W,)."""
    ones = torch.ones(1, 1, *state.shape[1:], dtype=state.dtype)
    kernel = torch.ones(1, 1, side, side, dtype=state.dtype)
    counts = torch.nn.functional.conv2d(ones, kernel, padding=side // 2)
    return counts.flatten() * len(state)


def _local(task: Task) -> np.ndarray:
    states, _, t = noised(task.recipe, task.queries, GRADIENT_TIMES, "local")
    a = alphas_cumprod(task.recipe.diffusion)[t].double()
    queries, sources = (
        to_model(each, task.recipe.data).double() for each in (task.queries, task.sources)
    )
    pairs = list(zip(queries, states.double(), strict=True))
    return task.choose(
        {
            side: torch.stack([local_rise(q, x, sources, a, side) for q, x in pairs]).numpy()
            for side in LOCAL_SIDES
        }
    )


def sensitivity(
    predicted: torch.Tensor,
    states: torch.Tensor,
    noise: torch.Tensor,
    sources: torch.Tensor,
    a: torch.Tensor,
) -> torch.Tensor:
    """At which rate the error of a predicted noise rises as a source's weight falls, (N,).

    The derivative of an optimal score in the data's measure, in closed form (Scarvelis and Solomon,
    2025): what leaves the mean is in proportion to the source's density at the state, here over
    that of all sources, which are known. ``predicted`` (K, C, H, W) by a model from ``states`` at
    signal ``a`` (K,), ``noise`` what is in them, ``sources`` (N, C, H, W) in the members' range.
    """
    rates = []
    for out, state, eps, share in zip(predicted, states, noise, a, strict=True):
        apart = state - share.sqrt() * sources
        squared = apart.flatten(1).square().sum(1)
        weights = (-squared / (2 * (1 - share))).softmax(0)
        moved = out - apart / (1 - share).sqrt()
        rates.append(2 * weights * ((out - eps) * moved).flatten(1).mean(1))
    return torch.stack(rates).mean(0)


@torch.inference_mode()
def _sensitive(task: Task) -> np.ndarray:
    ensemble, data = task.needed(), task.recipe.data
    states, noise, t = noised(task.recipe, task.queries, GRADIENT_TIMES, "sensitive")
    a, sources = alphas_cumprod(task.recipe.diffusion)[t], to_model(task.sources, data)
    weights = ensemble.weights(None, len(task))
    predicted = torch.stack(
        [ensemble.predict(states[:, k], int(t[k]), weights) for k in range(len(t))], dim=1
    )
    each = zip(predicted.double(), states.double(), noise.double(), strict=True)
    found = [sensitivity(*one, sources.double(), a.double()) for one in each]
    return torch.stack(found).numpy()


METHODS = (
    Method(
        "score sensitivity",
        "closed-form sensitivity (Scarvelis and Solomon, 2025), densities of the known sources",
        "the ensemble's predictions",
        _sensitive,
    ),
    Method(
        "local score",
        "the local score machine (Kamb and Ganguli, 2024), each source left out, patch tuned",
        "images",
        _local,
    ),
)
