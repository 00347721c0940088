"""The metrics by name."""

from collections.abc import Callable
from functools import partial

import torch

from abc_lib.ground.errors import unknown
from abc_lib.metrics.base import Metric
from abc_lib.metrics.euclidean import EuclideanMetric
from abc_lib.metrics.imagenet import (
    IMAGENET,
    IMAGENET_PACKAGE,
    imagenet_metric,
    imagenet_pooled_metric,
)
from abc_lib.metrics.perceptual import (
    CLIP,
    CLIP_PACKAGE,
    DINO,
    DINO_PACKAGE,
    LPIPS_PACKAGE,
    VGG,
    at_hand,
    dino_patch_metric,
    dinov2_metric,
    lpips_metric,
    openclip_metric,
)

# How each is made on a device, and whether that needs no download. In the paper's order (B.6),
# then ours.
_METRICS: dict[str, tuple[Callable[..., Metric], Callable[[], bool]]] = {
    "euclidean": (EuclideanMetric, lambda: True),
    "lpips": (lpips_metric, partial(at_hand, LPIPS_PACKAGE[0], VGG)),
    "openclip": (openclip_metric, partial(at_hand, CLIP_PACKAGE[0], CLIP)),
    "dinov2": (dinov2_metric, partial(at_hand, DINO_PACKAGE[0], DINO)),
    "dino-patch": (dino_patch_metric, partial(at_hand, DINO_PACKAGE[0], DINO)),
    "imagenet": (imagenet_metric, partial(at_hand, IMAGENET_PACKAGE[0], IMAGENET)),
    "imagenet-pooled": (imagenet_pooled_metric, partial(at_hand, IMAGENET_PACKAGE[0], IMAGENET)),
}


def metric_names() -> list[str]:
    """The names that :func:`get_metric` takes, in the paper's order (B.6), then ours."""
    return list(_METRICS)


def get_metric(name: str, device: str | torch.device = "cpu") -> Metric:
    """The metric ``name`` of B.6 or :mod:`abc_lib.metrics.imagenet`, on ``device``.

    A network is loaded on first use, or by ``.load()``. ``device`` is "cpu", "cuda", "auto" and so
    on. Raises :class:`UnknownName` for another name. Loading raises :class:`NotAvailable` where a
    package or weights are missing and cannot be had; :mod:`abc_lib.metrics.perceptual` lists the
    files.
    """
    if name not in _METRICS:
        raise unknown("metric", name, _METRICS)
    return _METRICS[name][0](device=device)


def metrics_at_hand() -> list[str]:
    """The metrics that work on this machine as it is: package and weights are here.

    "euclidean" always is. A file of weights is not opened for this; one that turns out
    to be cut short is an error when the metric is loaded.
    """
    return [name for name, (_, ready) in _METRICS.items() if ready()]
