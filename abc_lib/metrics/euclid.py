"""Euclidean distances between images, without a network (B.6).

They are those of the paper's figure 7: images in [0, 1], grey ones repeated to three
channels, scaled to 3x256x256, so that data sets compare.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F

from ..ensemble import resolve_device
from ..errors import BadValue
from .base import BUDGET, Metric, l2_distance

RESOLUTION = 256


@lru_cache(maxsize=16)
def resize_matrix(side: int, resolution: int = RESOLUTION) -> torch.Tensor:
    """The linear map of a bilinear resize along one axis, (resolution, side), float64.

    It is PyTorch's ``interpolate(mode="bilinear", align_corners=False, antialias=False)``,
    read off the identity. The paper names the size but not the interpolation; bilinear
    is what it uses elsewhere (B.1, C.1).
    """
    eye = torch.eye(side, dtype=torch.float64)[:, None]
    return F.interpolate(eye, size=resolution, mode="linear", align_corners=False)[:, 0].T.contiguous()


@lru_cache(maxsize=16)
def _factor(side: int, resolution: int) -> torch.Tensor:
    """A small square root F of the resize R, (min(side, resolution), side): |F x| = |R x| for every x."""
    # From R itself and not from R'R, which would square its condition and may be singular.
    return torch.linalg.qr(resize_matrix(side, resolution), mode="r").R


def euclidean(a: torch.Tensor, b: torch.Tensor, resolution: int = RESOLUTION) -> torch.Tensor:
    """Euclidean distance between images (..., C, H, W) with values in [0, 1], scaled to 3 x resolution x resolution.

    ``a`` and ``b`` broadcast over their leading dimensions; the result is float64. A
    resize is linear, so the distance is worked out at the original size as
    sum_c tr(D_c' G D_c G) with G = R'R, and the large images are never made. C is 1 or 3;
    a grey image counts as three equal channels.
    """
    if a.shape[-3:] != b.shape[-3:]:
        raise BadValue(f"images of shapes {tuple(a.shape[-3:])} and {tuple(b.shape[-3:])} cannot be compared; resize one first")
    if a.ndim < 3:
        raise BadValue(f"an image has the shape (C, H, W), not {tuple(a.shape)}")
    if not (a.is_floating_point() and b.is_floating_point()):
        raise BadValue("images of whole numbers have no scale; give floating-point values in [0, 1]")
    channels, height, width = a.shape[-3:]
    if channels not in (1, 3):
        raise BadValue(f"images have {channels} channels; a distance is defined for 1 (grey) or 3 (colour)")
    difference = a.double() - b.double()
    if torch.isnan(difference).any():
        raise BadValue("an image contains NaN; a distance to it means nothing")
    gram_h, gram_w = (resize_matrix(s, resolution).to(difference) for s in (height, width))
    gram_h, gram_w = gram_h.T @ gram_h, gram_w.T @ gram_w
    squared = (difference * (gram_h @ difference @ gram_w)).sum(dim=(-3, -2, -1))
    return (squared.clamp(min=0) * (3 / channels)).sqrt()


class EuclideanMetric(Metric):
    """:func:`euclidean` between batches: the distance of images scaled to 3 x ``resolution`` x ``resolution``.

    No network. An image is embedded at its own size so that plain distances of the
    embeddings are those of the large images; the large images are never made.
    """

    # About one grey level in one pixel of the large image. Further apart, the rounding of
    # the embedding is below 1e-9 of a distance.
    _CLOSE = 0.01

    def __init__(self, resolution: int = RESOLUTION, device: str | torch.device = "cpu", batch: int = 256, budget: int = BUDGET):
        self.name = "euclidean"
        self.label = f"Euclidean (3×{resolution}×{resolution})"
        self.device = resolve_device(device)
        if self.device.type == "mps":
            # MPS has no float64.
            self.device = torch.device("cpu")
        self.resolution, self.batch, self.budget = resolution, batch, budget

    def _features(self, images):
        images = images.to(self.device, torch.float64)
        high, wide = (_factor(side, self.resolution).to(self.device) for side in images.shape[-2:])
        return ((3 / images.shape[1]) ** 0.5 * (high @ images @ wide.T)).flatten(1)

    def _between(self, a, b):
        return l2_distance(a, b)

    def _corresponding(self, a, b):
        return euclidean(a.to(self.device), b.to(self.device), self.resolution)

    @torch.no_grad()
    def pairwise(self, a, b):
        found = super().pairwise(a, b)
        # Matrix products round differently from one place in a batch to another, so equal
        # images would be almost, not exactly, at 0. Close pairs are worked out from their difference.
        close = (found < self._CLOSE).nonzero()
        for start in range(0, len(close), self.batch):
            i, j = close[start : start + self.batch].T
            found[i, j] = self._corresponding(a[i.to(a.device)], b[j.to(b.device)]).cpu()
        return found
