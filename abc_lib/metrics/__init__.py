"""Distances between images beyond the plain one (B.6), and between sets of them (C.1).

Networks are read from where their weights lie, or downloaded when they are first asked for.
What a metric says of samples and training images is visual attribution's business.
"""

from abc_lib.metrics.base import FeatureMetric, Metric
from abc_lib.metrics.names import get_metric, metric_names, metrics_at_hand

__all__ = ["get_metric", "metric_names", "metrics_at_hand", "Metric", "FeatureMetric"]
