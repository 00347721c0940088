"""What every metric shares, and metrics on the features of a network (B.6)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from abc_lib.ground.devices import resolve_device
from abc_lib.ground.errors import BadValue

# Bytes of features kept at once; the rest is streamed past them.
BUDGET = 2**30
# Columns in one block of a distance: long features are never copied whole to float64.
_COLUMNS = 2**16


def _check_batch(images: torch.Tensor) -> None:
    if not isinstance(images, torch.Tensor) or images.ndim != 4:
        shape = tuple(images.shape) if isinstance(images, torch.Tensor) else type(images).__name__
        raise BadValue(f"a batch of images has the shape (K, C, H, W), not {shape}")
    if len(images) == 0:
        raise BadValue("a batch without images has no distances; give at least one image")
    if not images.is_floating_point():
        raise BadValue(
            "images of whole numbers have no scale; give floating-point values in [0, 1]"
        )
    if images.shape[1] not in (1, 3):
        raise BadValue(
            f"images have {images.shape[1]} channels; a distance is defined for 1 (grey) or 3 "
            "(colour)"
        )
    if images.numel() == 0:
        raise BadValue(f"images of the shape {tuple(images.shape[1:])} have no pixels")
    if torch.isnan(images).any():
        raise BadValue("an image contains NaN; a distance to it means nothing")
    if torch.isinf(images).any():
        raise BadValue("an image contains infinity; a distance to it means nothing")


def _check_batches(a: torch.Tensor, b: torch.Tensor) -> None:
    _check_batch(a)
    if b is not a:
        _check_batch(b)
    if a.shape[1:] != b.shape[1:]:
        raise BadValue(
            f"images of shapes {tuple(a.shape[1:])} and {tuple(b.shape[1:])} cannot be compared; "
            "resize one first"
        )


class Metric(ABC):
    """A distance between images with values in [0, 1]; grey images count as three equal channels.

    ``name`` is what :func:`get_metric` takes, ``label`` is for axes, ``device`` is where
    the work is done. At most ``budget`` bytes of features are kept at once, and
    ``batch`` images are looked at together; neither changes a number by more than
    rounding.
    """

    name: str
    label: str
    device: torch.device
    batch: int
    budget: int

    def load(self) -> "Metric":
        """Make everything ready that would otherwise be fetched on first use; returns the metric.

        Raises :class:`NotAvailable` where a package or weights are missing, and
        :class:`DataCorrupt` for a file that does not hold what its name says.
        """
        return self

    @abstractmethod
    def _features(self, images: torch.Tensor) -> torch.Tensor:
        """Of a batch (K, C, H, W), what distances are worked out from: (K, ...), on ``device``."""

    @abstractmethod
    def _between(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Distances (..., A, B), float64, between features (..., A, *) and (..., B, *)."""

    def _corresponding(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Distances (K,), float64, between two batches of K images."""
        return self._between(self._features(a)[:, None], self._features(b)[:, None])[:, 0, 0]

    def _check(self, a: torch.Tensor, b: torch.Tensor) -> None:
        _check_batches(a, b)

    def _chunks(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """Features of all images, in order, in pieces that fit the budget."""
        start = 0
        while start < len(images):
            first = self._features(images[start : start + self.batch])
            room = max(len(first), self.budget * len(first) // first.nbytes)
            room = min(room, len(images) - start)
            kept = first.new_empty((room, *first.shape[1:]))
            kept[: len(first)] = first
            for i in range(len(first), room, self.batch):
                stop = min(i + self.batch, room)
                kept[i:stop] = self._features(images[start + i : start + stop])
            yield kept
            start += room

    @torch.no_grad()
    def pairwise(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Distances between all images of ``a`` (A, C, H, W) and all of ``b`` (B, C, H, W).

        (A, B), float64, on the CPU. The features of the shorter side are kept and the longer side
        is streamed past them, so those of an image are computed once where one side fits
        ``budget``. Values lie in [0, 1], C is 1 or 3. Raises :class:`BadValue` for NaN, whole
        numbers, empty batches and shapes that do not fit, and what :meth:`load` raises.
        """
        self._check(a, b)
        self.load()
        swap = len(a) > len(b)
        kept_side, streamed = (b, a) if swap else (a, b)
        distances = torch.empty(len(kept_side), len(streamed), dtype=torch.float64)
        row = 0
        for kept in self._chunks(kept_side):
            for i in range(0, len(streamed), self.batch):
                part = self._between(kept, self._features(streamed[i : i + self.batch]))
                distances[row : row + len(kept), i : i + self.batch] = part.cpu()
            row += len(kept)
        return distances.T.contiguous() if swap else distances

    @torch.no_grad()
    def distance(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Distances between corresponding images of ``a`` and ``b``, (K, C, H, W) each.

        (K,), float64, on the CPU. Arguments and errors as :meth:`pairwise`; :class:`BadValue` also
        when the two have different numbers of images.
        """
        self._check(a, b)
        if len(a) != len(b):
            raise BadValue(
                f"{len(a)} and {len(b)} images do not correspond one to one; pairwise compares "
                "all with all"
            )
        self.load()
        pairs = zip(a.split(self.batch), b.split(self.batch), strict=True)
        return torch.cat([self._corresponding(one, two).cpu() for one, two in pairs])


def squared_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distances (..., A, B) between features (..., A, D) and (..., B, D).

    In float64; from differences, not as a^2 + b^2 - 2ab: features that are nearly equal keep their
    distance, and equal ones have exactly none.
    """
    total = torch.zeros((), dtype=torch.float64, device=a.device)
    for i in range(0, a.shape[-1], _COLUMNS):
        one, two = (x[..., i : i + _COLUMNS].double() for x in (a, b))
        total = total + torch.cdist(one, two, compute_mode="donot_use_mm_for_euclid_dist").square()
    return total


def l2_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Euclidean distances (..., A, B), float64, between features (..., A, D) and (..., B, D)."""
    return squared_distance(a, b).sqrt()


def cosine_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cosine distances, 1 - cos, in [0, 2], of features (..., A, D) and (..., B, D): (..., A, B).

    In float64, as half the squared distance of the unit vectors, which does not cancel for features
    that point almost the same way.
    """
    one, two = (F.normalize(x.double(), dim=-1) for x in (a, b))
    return squared_distance(one, two) / 2


def largest_patch_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The largest Euclidean distance over corresponding patch tokens (B.6, DINO Patch).

    Features (..., A, T, D) and (..., B, T, D) with T tokens each; returns (..., A, B), float64.
    """
    largest = squared_distance(a[..., 0, :], b[..., 0, :])
    for token in range(1, a.shape[-2]):
        torch.maximum(largest, squared_distance(a[..., token, :], b[..., token, :]), out=largest)
    return largest.sqrt()


@dataclass(frozen=True)
class Preprocess:
    """Images (K, C, H, W) in [0, 1] to what a network takes: (K, 3, size, size), float32.

    The whole image is squeezed to a square of ``size`` pixels by ``mode`` ("bilinear" or
    "bicubic", with antialiasing as Pillow does it; None keeps the size), clipped to
    [0, 1], grey repeated to three channels, then (x - mean) / std by channel.
    """

    size: int | None
    mode: str = "bilinear"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        images = images.float()
        if self.size is not None and images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(
                images,
                size=(self.size, self.size),
                mode=self.mode,
                antialias=True,
                align_corners=False,
            )
        # A bicubic resize overshoots at edges.
        images = images.clamp(0, 1).expand(-1, 3, -1, -1)
        mean, std = (images.new_tensor(x)[:, None, None] for x in (self.mean, self.std))
        return (images - mean) / std


def _output(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    return network(images)


class FeatureMetric(Metric):
    """A distance between the features that a network finds in two images (B.6).

    ``network`` is a module, or a function of the device that makes one on first use.
    It is put in evaluation mode and moved to ``device``. Images go through
    ``preprocess``, then through ``features(network, batch)``, which returns (K, D), or
    whatever ``distance`` takes; by default it is what the network returns. ``distance``
    is :func:`cosine_distance`, :func:`l2_distance`, :func:`squared_distance`,
    :func:`largest_patch_distance` or a function like them.
    """

    def __init__(
        self,
        name: str,
        label: str,
        network: torch.nn.Module | Callable[[torch.device], torch.nn.Module],
        preprocess: Callable[[torch.Tensor], torch.Tensor],
        distance: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        features: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor] | None = None,
        device: str | torch.device = "cpu",
        batch: int = 16,
        budget: int = BUDGET,
    ):
        self.name, self.label = name, label
        self.batch, self.budget = batch, budget
        self.device = resolve_device(device)
        self.preprocess = preprocess
        self._distance = distance
        self._read = features or _output
        self._source = network
        self._network: torch.nn.Module | None = None

    def load(self) -> "FeatureMetric":
        if self._network is None:
            ready = isinstance(self._source, torch.nn.Module)
            network = self._source if ready else self._source(self.device)
            self._network = network.to(self.device).eval()
        return self

    @torch.no_grad()
    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What the distance is worked out from, of images (K, C, H, W): (K, ...), on the CPU.

        Arguments and errors as :meth:`pairwise`.
        """
        self._check(images, images)
        self.load()
        return torch.cat([self._features(part).cpu() for part in images.split(self.batch)])

    def _check(self, a, b):
        super()._check(a, b)
        low, high = min(float(a.min()), float(b.min())), max(float(a.max()), float(b.max()))
        # A little outside is rounding or a linear prediction, and is clipped; this much is another
        # scale.
        if low < -0.5 or high > 1.5:
            raise BadValue(
                f"images have values from {low:.3g} to {high:.3g}; {self.name} takes values in "
                "[0, 1]"
            )

    def _features(self, images):
        features = self._read(self._network, self.preprocess(images.to(self.device)))
        # MPS has no float64, in which distances are worked out.
        return features.cpu() if features.device.type == "mps" else features

    def _between(self, a, b):
        return self._distance(a, b)
