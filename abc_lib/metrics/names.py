"""The metrics by name."""

from collections.abc import Callable
from functools import partial

import torch

from abc_lib.ground.errors import unknown
from abc_lib.metrics import perceptual
from abc_lib.metrics.base import Metric
from abc_lib.metrics.euclidean import EuclideanMetric

# How each is made on a device, and whether that needs no download. In the paper's order (B.6).
_METRICS: dict[str, tuple[Callable[..., Metric], Callable[[], bool]]] = {
    "euclidean": (EuclideanMetric, lambda: True),
    "lpips": (
        perceptual.lpips_metric,
        partial(perceptual.at_hand, perceptual.LPIPS_PACKAGE[0], perceptual.VGG),
    ),
    "openclip": (
        perceptual.openclip_metric,
        partial(perceptual.at_hand, perceptual.CLIP_PACKAGE[0], perceptual.CLIP),
    ),
    "dinov2": (
        perceptual.dinov2_metric,
        partial(perceptual.at_hand, perceptual.DINO_PACKAGE[0], perceptual.DINO),
    ),
    "dino-patch": (
        perceptual.dino_patch_metric,
        partial(perceptual.at_hand, perceptual.DINO_PACKAGE[0], perceptual.DINO),
    ),
}


def metric_names() -> list[str]:
    """The names that :func:`get_metric` takes, in the paper's order (B.6)."""
    return list(_METRICS)


def get_metric(name: str, device: str | torch.device = "cpu") -> Metric:
    """The metric ``name`` of B.6, on ``device``; a network is loaded on first use, or by ``.load()``.

    ``device`` is "cpu", "cuda", "auto" and so on. Raises :class:`UnknownName` for
    another name. Loading raises :class:`NotAvailable` where a package or weights are
    missing and cannot be had; :mod:`abc_lib.metrics.perceptual` lists the files.
    """
    if name not in _METRICS:
        raise unknown("metric", name, _METRICS)
    return _METRICS[name][0](device=device)


def metrics_at_hand() -> list[str]:
    """The metrics that work on this machine as it is, without a download: package and weights are here.

    "euclidean" always is. A file of weights is not opened for this; one that turns out
    to be cut short is an error when the metric is loaded.
    """
    return [name for name, (_, ready) in _METRICS.items() if ready()]
