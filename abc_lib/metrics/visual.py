"""How far samples are from the images of each source (3.2)."""

from math import inf

import numpy as np
import torch

from abc_lib.ground.errors import BadValue
from abc_lib.metrics.base import Metric
from abc_lib.metrics.names import get_metric

# Distances held at once while a large gallery is gone through: 256 MiB of them.
_ENTRIES = 2**25
# Images that are read from files at once.
_FILES = 512


def visual_distances(
    samples: torch.Tensor, images, metric: Metric | None = None, flips: bool = False
) -> np.ndarray:
    """How far each sample is from each source (3.2): the least distance to any image that it owns.

    ``samples`` (S, C, H, W) and ``images``, a training set of the same C, H, W, both in [0, 1];
    returns (S, N) float64. N is the largest source number in ``images`` plus one. ``metric`` has
    ``pairwise(a, b)``, images (A, C, H, W) and (B, C, H, W) to distances (A, B); by default it is
    the Euclidean one of figure 4. With ``flips`` a distance is flip-agnostic (end of C.4): the
    lesser of those from the sample and from the sample mirrored left to right.

    Raises :class:`BadValue` where there are no samples or no images, where a source of 0..N-1
    owns none, for images of another shape, and where an image or a distance is NaN or infinite.
    """
    if samples.ndim != 4 or len(samples) == 0:
        raise BadValue(
            f"samples have the shape {tuple(samples.shape)}; at least one is needed, "
            "as (S, C, H, W)"
        )
    if len(images) == 0:
        raise BadValue(
            "the training set is empty; visual attribution needs at least one image of every source"
        )
    if samples.shape[1:] != images.images.shape[1:]:
        shapes = tuple(samples.shape[1:]), tuple(images.images.shape[1:])
        raise BadValue(
            f"samples of shape {shapes[0]} and training images of shape {shapes[1]} cannot be "
            "compared; resize one first"
        )
    owned = torch.unique(images.sources)
    N = int(owned[-1]) + 1
    if int(owned[0]) < 0 or len(owned) != N:
        missing = sorted(set(range(N)) - set(owned.tolist()))
        what = (
            f"source {missing[0]} owns no image"
            if missing
            else f"source {int(owned[0])} is not a source number"
        )
        raise BadValue(f"{what} of this training set; every source of 0..{N - 1} needs one")
    # Images in files are whole numbers divided by 255, and are not all read at once.
    lazy = not isinstance(images.images, torch.Tensor)
    for name, pixels in (("sample", samples), ("training image", images.images)):
        if pixels is images.images and lazy:
            continue
        broken = torch.nonzero(~torch.isfinite(pixels).flatten(1).all(dim=1))
        if len(broken):
            raise BadValue(
                f"{name} {int(broken[0])} contains NaN or infinity; a distance to it means nothing"
            )

    metric = get_metric("euclidean") if metric is None else metric
    asked = torch.cat([samples, samples.flip(-1)]) if flips else samples
    least = torch.full((len(samples), N), inf, dtype=torch.float64)
    # Only the gallery is cut up: it is the longer side, so a metric that embeds both repeats
    # little.
    step = max(1, _ENTRIES // len(asked))
    step = min(_FILES, step) if lazy else step
    for start in range(0, len(images), step):
        part = images.images[start : start + step]
        distances = torch.as_tensor(metric.pairwise(asked, part)).to("cpu", torch.float64)
        if distances.shape != (len(asked), len(part)):
            raise BadValue(
                f"the metric gave distances of shape {tuple(distances.shape)} for {len(asked)} "
                f"and {len(part)} images"
            )
        if not torch.isfinite(distances).all():
            raise BadValue(
                "the metric gave a distance that is NaN or infinite; check its weights and the "
                "images"
            )
        if flips:
            distances = torch.minimum(*distances.chunk(2))
        owners = images.sources[start : start + step].expand(len(samples), -1)
        least.scatter_reduce_(1, owners, distances, "amin")
    return least.numpy()
