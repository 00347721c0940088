"""Every counterfactual of a sample, exactly, or carried through the first steps by tangents (2.1, 2.2, 2.4)."""

from .again import Check, counterfactuals, kept_radii, metric_radii, regenerate
from .budget import block_size, parse_bytes, samples_at_once
from .compute import KEEP, compute_landscapes, find_landscapes, get_landscapes
from .values import (
    METRIC,
    Landscapes,
    attributed_image,
    images_to_show,
    merge_landscapes,
    read_all_images,
    read_landscapes,
    with_attributed_images,
)

__all__ = [
    "KEEP",
    "Check",
    "Landscapes",
    "METRIC",
    "attributed_image",
    "block_size",
    "compute_landscapes",
    "counterfactuals",
    "find_landscapes",
    "get_landscapes",
    "images_to_show",
    "merge_landscapes",
    "kept_radii",
    "metric_radii",
    "parse_bytes",
    "read_all_images",
    "read_landscapes",
    "regenerate",
    "samples_at_once",
    "with_attributed_images",
]
