"""Methods that look at images only, or at what a classifier sees in them."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from abc_lib.ground.seeds import derive
from abc_lib.training.classifier.values import Classifier, find_classifier
from abc_lib.yardstick.tasks import Task

WIDTHS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""of a softmax kernel, in units of the mean squared distance"""
PATCH = 3
"""pixels of a side of a patch"""


def random(task: Task) -> np.ndarray:
    """The control."""
    return np.random.default_rng(derive("yardstick random")).normal(size=task.shape)


def squared(queries: torch.Tensor, sources: torch.Tensor) -> np.ndarray:
    """Mean squared distances (S, N) of rows, such as images or features."""
    a, b = (each.flatten(1).double() for each in (queries, sources))
    return (torch.cdist(a, b) ** 2 / a.shape[1]).numpy()


def softmax(distances: np.ndarray, width: float) -> np.ndarray:
    """Weights over the last axis that fall with squared distances; they add up to one."""
    near = distances.min(-1, keepdims=True)
    raised = np.exp((near - distances) / (width * distances.mean()))
    return raised / raised.sum(-1, keepdims=True)


def _tuned(task: Task, scores: Callable[[float], np.ndarray]) -> np.ndarray:
    return task.choose({width: scores(width) for width in WIDTHS})


def kernel(task: Task) -> np.ndarray:
    """How the optimal denoiser weighs whole images."""
    found = squared(task.queries, task.sources)
    return _tuned(task, lambda width: softmax(found, width))


def _patches(images: torch.Tensor) -> torch.Tensor:
    """(K, places, C * PATCH * PATCH): a patch around each pixel, edges repeated."""
    around = F.pad(images.double(), (PATCH // 2,) * 4, mode="replicate")
    return F.unfold(around, PATCH).mT


def same_place(task: Task) -> np.ndarray:
    """Each patch of a query weighs the sources' patches in the same place; the mean over places."""
    q, s = _patches(task.queries), _patches(task.sources)
    found = torch.stack([torch.cdist(q[:, p], s[:, p]) ** 2 for p in range(q.shape[1])])
    distances = found.numpy()  # places, S, N

    return _tuned(task, lambda width: softmax(distances, width).mean(0))


def anywhere(task: Task) -> np.ndarray:
    """Each patch of a query weighs all patches of all sources, wherever they are."""
    q, s = _patches(task.queries), _patches(task.sources)
    scale = float(torch.cdist(q[:8].flatten(0, 1), s[:8].flatten(0, 1)).square().mean())

    def scores(width: float) -> np.ndarray:
        rows = []
        for one in q:
            raised = torch.cdist(one, s.flatten(0, 1)).square_().div_(-width * scale).softmax(1)
            rows.append(raised.unflatten(1, s.shape[:2]).sum(2).mean(0))
        return torch.stack(rows).numpy()

    return _tuned(task, scores)


def _classifier(task: Task) -> Classifier | None:
    found = find_classifier(task.recipe.data.family, here=task.here)
    return None if found is None else found.to("cpu")


@torch.inference_mode()
def features(task: Task) -> np.ndarray:
    """The softmax kernel on a classifier's features; NaN where the family has none."""
    if (classifier := _classifier(task)) is None:
        return np.full(task.shape, np.nan)
    net = classifier.network
    found = squared(net.features(task.queries), net.features(task.sources))
    return _tuned(task, lambda width: softmax(found, width))


@torch.inference_mode()
def same_class(task: Task) -> np.ndarray:
    """How likely a classifier thinks query and source of one class; NaN where there is none."""
    if (classifier := _classifier(task)) is None:
        return np.full(task.shape, np.nan)
    images = (task.queries, task.sources)
    q, s = (classifier.network(each).double().softmax(1) for each in images)
    return (q @ s.T).numpy()
