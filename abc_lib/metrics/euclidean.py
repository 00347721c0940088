"""The Euclidean metric between batches of images, without a network (B.6)."""

from functools import lru_cache

import torch

from abc_lib.ground.devices import resolve_device
from abc_lib.method.distance import RESOLUTION, distance, resize_matrix
from abc_lib.metrics.base import BUDGET, Metric, l2_distance


@lru_cache(maxsize=16)
def _factor(side: int, resolution: int) -> torch.Tensor:
    """A small square root F of the resize R, (min(side, resolution), side): |F x| = |R x|."""
    # From R itself and not from R'R, which would square its condition and may be singular.
    return torch.linalg.qr(resize_matrix(side, resolution), mode="r").R


class EuclideanMetric(Metric):
    """:func:`distance` between batches, of images scaled to 3 x ``resolution`` x ``resolution``.

    No network. An image is embedded at its own size so that plain distances of the
    embeddings are those of the large images; the large images are never made.
    """

    # About one grey level in one pixel of the large image. Further apart, the rounding of
    # the embedding is below 1e-9 of a distance.
    _CLOSE = 0.01

    def __init__(
        self,
        resolution: int = RESOLUTION,
        device: str | torch.device = "cpu",
        batch: int = 256,
        budget: int = BUDGET,
    ):
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
        return distance(a.to(self.device), b.to(self.device), self.resolution)

    @torch.no_grad()
    def pairwise(self, a, b):
        distances = super().pairwise(a, b)
        # Matrix products round differently from one place in a batch to another, so equal
        # images would be almost, not exactly, at 0. Close pairs are worked out from their
        # difference.
        close = (distances < self._CLOSE).nonzero()
        for start in range(0, len(close), self.batch):
            i, j = close[start : start + self.batch].T
            distances[i, j] = self._corresponding(a[i.to(a.device)], b[j.to(b.device)]).cpu()
        return distances
