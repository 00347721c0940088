"""Fréchet inception distance (C.1), through torchmetrics.

The paper's features are the final layer of torchvision's Inception v3; the same distance
between the features of another network, such as the classifier of B.5, compares samples
too, but on another scale. Every number therefore names its features.

Inception's weights are looked for as ``inception_v3_google-0cc3c7bd.pth`` (104 MB) in the
folder that ``ABC_WEIGHTS`` names, then in torch.hub's cache, then downloaded into it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from abc_lib.ground.devices import resolve_device
from abc_lib.ground.errors import BadValue
from abc_lib.metrics.base import Preprocess
from abc_lib.metrics.weights import Weights, fetch, find, misfit, read

INCEPTION = Weights(
    title="the Inception v3 weights of torchvision, IMAGENET1K_V1 (104 MB)",
    files=("inception_v3_google-0cc3c7bd.pth",),
    url="https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth",
    sha256="0cc3c7bd",
)
INCEPTION_INPUT = Preprocess(299, "bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class FidFeatures(nn.Module):
    """What a FID looks at: images (K, C, H, W) in [0, 1] become features (K, ``num_features``).

    ``name`` is for readers, ``identity`` tells two networks of the same name apart.
    Images go through ``preprocess``, then through ``read(network, batch)``, ``batch`` at a
    time, on the network's device. Features come back on the CPU, float32.
    """

    def __init__(
        self,
        name: str,
        identity: str,
        num_features: int,
        network: nn.Module,
        preprocess: Callable[[torch.Tensor], torch.Tensor],
        read: Callable[[nn.Module, torch.Tensor], torch.Tensor],
        batch: int = 32,
    ):
        super().__init__()
        self.name, self.identity = name, identity
        self.num_features = num_features
        self.network = network.eval().requires_grad_(False)
        self.preprocess, self._read = preprocess, read
        self.batch = batch

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features (K, num_features) of images (K, C, H, W), K at least 1."""
        parts = []
        for x in images.split(self.batch):
            x = self.preprocess(x.to(self.device))
            parts.append(self._read(self.network, x).float().cpu())
        return torch.cat(parts)


def _output(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return network(images)


def inception_at_hand() -> bool:
    """Whether Inception's weights are on this machine."""
    return find(INCEPTION) is not None


def inception_features(device: str | torch.device = "cpu") -> FidFeatures:
    """The final layer of torchvision's Inception v3, IMAGENET1K_V1 (C.1): 2,048 numbers an image.

    Images are scaled to 3x299x299 (bilinear, grey ones repeated) and normalised with
    ImageNet's mean and standard deviation; torchvision takes it from there, as it does for
    these weights. We take the last layer before the classes, which FID is defined on.
    Raises :class:`NotAvailable` where the weights are neither here nor to be had.
    """
    from torchvision.models import inception_v3

    path = fetch(INCEPTION, "FID")
    # transform_input is what torchvision sets for these weights.
    network = inception_v3(weights=None, transform_input=True, init_weights=False)
    try:
        network.load_state_dict(read(path, INCEPTION))
    except RuntimeError as error:
        raise misfit(path, INCEPTION, error) from None
    network.fc = nn.Identity()
    return FidFeatures(
        "Inception v3",
        path.stem,
        2048,
        network.to(resolve_device(str(device))),
        INCEPTION_INPUT,
        _output,
    )


@dataclass(frozen=True)
class Gaussian:
    """The mean and covariance of the features of ``count`` images, as sums that can be added up.

    In float64: ``total`` (F,) is the sum of the features, ``products`` (F, F) that of their outer
    products. ``features`` and ``identity`` say which features they are.
    """

    count: int
    total: torch.Tensor
    products: torch.Tensor
    features: str
    identity: str = ""

    @property
    def mean(self) -> torch.Tensor:
        """(F,)"""
        return self.total / self.count

    @property
    def covariance(self) -> torch.Tensor:
        """(F, F), with ``count`` - 1 in the denominator."""
        return (self.products - self.count * torch.outer(self.mean, self.mean)) / (self.count - 1)

    @classmethod
    def of(cls, mean, covariance, count: int, features: str, identity: str = "") -> "Gaussian":
        """That of a known mean (F,) and covariance (F, F), as if of ``count`` images."""
        mean, covariance = (torch.as_tensor(x, dtype=torch.float64) for x in (mean, covariance))
        return cls(
            count,
            count * mean,
            (count - 1) * covariance + count * torch.outer(mean, mean),
            features,
            identity,
        )


class _Given(nn.Module):
    """Features that were worked out before pass through unchanged."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def _accumulator(num_features: int):
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_Given(num_features), normalize=True)
    # Nothing yet, but in float64, and so will the distance be.
    metric.update(torch.zeros(0, num_features, dtype=torch.float64), real=True)
    return metric


def feature_statistics(
    batches: Iterable[torch.Tensor], features: str, identity: str = ""
) -> Gaussian:
    """The statistics of features that come in batches (K, F).

    Raises :class:`BadValue` for fewer than two rows in all.
    """
    metric = None
    for batch in batches:
        if batch.ndim != 2 or not torch.isfinite(batch).all():
            raise BadValue(
                f"features have the shape {tuple(batch.shape)} or are not finite; they are "
                "numbers, a row an image"
            )
        metric = metric or _accumulator(batch.shape[1])
        metric.update(batch.double(), real=True)
    if metric is None or metric.real_features_num_samples < 2:
        raise BadValue("a covariance needs at least two images; give more")
    return Gaussian(
        int(metric.real_features_num_samples),
        metric.real_features_sum,
        metric.real_features_cov_sum,
        features,
        identity,
    )


def image_statistics(images: torch.Tensor, features: FidFeatures) -> Gaussian:
    """The statistics of ``features`` of images (S, C, H, W), floating point in [0, 1]."""
    if not images.is_floating_point():
        raise BadValue(
            "images of whole numbers have no scale; give floating-point values in [0, 1]"
        )
    return feature_statistics(
        (features(x) for x in images.split(features.batch)), features.name, features.identity
    )


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), in float64.

    It is the squared Fréchet distance, which is what FID is. Raises :class:`BadValue` for
    statistics of different features.
    """
    if (a.features, a.identity, len(a.total)) != (b.features, b.identity, len(b.total)):
        raise BadValue(
            f"statistics of two kinds of features ({a.features} and {b.features}) cannot be "
            "compared; use the same network for both"
        )
    metric = _accumulator(len(a.total))
    state = {}
    for side, statistics in (("real", a), ("fake", b)):
        state[f"{side}_features_sum"] = statistics.total
        state[f"{side}_features_cov_sum"] = statistics.products
        state[f"{side}_features_num_samples"] = torch.tensor(statistics.count)
    metric.merge_state(state)
    return float(metric.compute())


@dataclass(frozen=True)
class FID:
    """A Fréchet inception distance and what it was worked out from."""

    value: float
    features: str
    """the network whose features were compared: only distances of the same one compare"""
    count: int
    """images; the distance of fewer images is larger"""
    reference_count: int
    """images of the reference"""

    def __float__(self) -> float:
        return self.value


def fid(
    images: torch.Tensor | Gaussian, reference: torch.Tensor | Gaussian, features: FidFeatures
) -> FID:
    """The FID of images (S, C, H, W) in [0, 1] against a reference (C.1).

    Either may be given as its statistics.
    """
    a, b = (
        x if isinstance(x, Gaussian) else image_statistics(x, features) for x in (images, reference)
    )
    return FID(frechet_distance(a, b), features.name, a.count, b.count)
