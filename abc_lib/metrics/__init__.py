"""Distances between images (B.6): Euclidean and four perceptual ones, behind one interface.

``get_metric(name)`` gives a :class:`Metric`; ``metrics_at_hand()`` says which ones need
no download. Another metric on a network's features is a :class:`FeatureMetric`. FID (C.1)
compares sets of images, in :mod:`abc_lib.metrics.fid`.
"""

from .base import (
    FeatureMetric,
    Metric,
    Preprocess,
    cosine_distance,
    l2_distance,
    largest_patch_distance,
    squared_distance,
)
from .euclid import RESOLUTION, EuclideanMetric, euclidean, resize_matrix
from .names import get_metric, metric_names, metrics_at_hand

__all__ = [
    "RESOLUTION",
    "EuclideanMetric",
    "FeatureMetric",
    "Metric",
    "Preprocess",
    "cosine_distance",
    "euclidean",
    "get_metric",
    "l2_distance",
    "largest_patch_distance",
    "metric_names",
    "metrics_at_hand",
    "resize_matrix",
    "squared_distance",
]
