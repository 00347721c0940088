"""Methods that compare images, and the control that looks at nothing."""

import numpy as np
import torch
import torch.nn.functional as F

from abc_lib.ground.seeds import derive
from abc_lib.yardstick.methods.base import Method
from abc_lib.yardstick.tasks import GRADIENT_TIMES, Task
from abc_lib.yardstick.truths import noised

__all__ = ["METHODS", "SIDES", "WIDTHS", "by_patch", "shares"]

WIDTHS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""of a softmax kernel, in units of the mean squared distance"""
SIDES = (3, 5)
"""of patches, in pixels"""


def _random(task: Task) -> np.ndarray:
    return np.random.default_rng(derive("yardstick random")).normal(size=task.shape)


def _squared(task: Task) -> np.ndarray:
    """Mean squared distances (S, N) of queries and sources in pixels."""
    queries, sources = (each.flatten(1).double() for each in (task.queries, task.sources))
    return ((queries[:, None] - sources) ** 2).mean(-1).numpy()


def shares(squared: np.ndarray, width: float) -> np.ndarray:
    """Weights (S, N, ...) that sum to one over sources, from squared distances of that shape."""
    raised = np.exp((squared.min(1, keepdims=True) - squared) / (width * squared.mean()))
    return raised / raised.sum(1, keepdims=True)


def _softmax(task: Task) -> np.ndarray:
    squared = _squared(task)
    return task.choose({width: shares(squared, width) for width in WIDTHS})


def _patches(task: Task) -> np.ndarray:
    found = {}
    for side in SIDES:
        near = torch.cat([by_patch(each, task.sources, side) for each in task.queries.split(8)])
        for width in WIDTHS:
            found[side, width] = shares(near.numpy(), width).mean(2)
    return task.choose(found)


def by_patch(queries: torch.Tensor, sources: torch.Tensor, side: int) -> torch.Tensor:
    """Mean squared distances (S, N, H W) of the patches around each pixel, float32.

    Queries (S, C, H, W) and sources (N, C, H, W) are compared at the same place; ``side`` is odd,
    and patches end where the image does.
    """
    squared = ((queries[:, None] - sources) ** 2).mean(2)
    pooled = F.avg_pool2d(squared, side, 1, side // 2, count_include_pad=False)
    return pooled.flatten(2)


@torch.inference_mode()
def _features(task: Task) -> np.ndarray:
    member, seen = task.needed().members[0], []
    hook = member.unet.mid_block.register_forward_hook(lambda *args: seen.append(args[2].cpu()))
    both = []
    try:
        for images in (task.queries, task.sources):
            for some in images.split(16):
                # All have the same noise, so that only images differ.
                states, _, t = noised(task.recipe, some, GRADIENT_TIMES, "features")
                member(states.flatten(0, 1), t.repeat(len(some)))
            found = torch.cat([each.unflatten(0, (-1, GRADIENT_TIMES)) for each in seen])
            both.append(found.flatten(1).double())
            seen.clear()
    finally:
        hook.remove()
    queries, sources = both
    squared = (torch.cdist(queries, sources) ** 2).numpy()
    return task.choose({width: shares(squared, width) for width in WIDTHS})


METHODS = (
    Method("random", "none: the control", "nothing", _random),
    Method(
        "pixel distance", "none: minus the squared distance", "images", lambda task: -_squared(task)
    ),
    Method(
        "softmax kernel", "the weights of the optimal denoiser, its width tuned", "images", _softmax
    ),
    Method(
        "patch kernel",
        "after NDA (Zhao et al., 2025): patches at the same place, side and width tuned",
        "images",
        _patches,
    ),
    Method(
        "feature kernel",
        "none: the first member's middle activations, width tuned",
        "activations",
        _features,
    ),
)
