"""The four perceptual metrics of B.6: LPIPS, OpenCLIP, DINOv2 and DINO Patch.

The paper names the networks and the distances. It leaves the preprocessing open; ours
is in the docstring of each metric. Every one looks at the whole image: a centre crop,
usual for classifiers, would not see a change at the border.

Weights are fetched on first use. They are looked for in the folder that the environment
variable ``ABC_WEIGHTS`` names, then in the caches of torch.hub and huggingface_hub, then
downloaded into those caches. The files, as they are called in ``ABC_WEIGHTS``:

- LPIPS: ``vgg16-397923af.pth`` (528 MB)
- OpenCLIP: ``DFN5B-CLIP-ViT-H-14-378/open_clip_pytorch_model.bin`` (3.9 GB), or
  ``open_clip_model.safetensors`` in the same folder
- DINOv2 and DINO Patch: ``vit_large_patch14_reg4_dinov2.lvd142m/model.safetensors``
  (1.2 GB), or ``dinov2_vitl14_reg4_pretrain.pth``, the authors' own file

OpenCLIP and DINOv2 want the packages ``open_clip_torch`` and ``timm``, which come with
``pip install -e '.[perceptual]'``.
"""

import contextlib
import importlib.util
import logging
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from abc_lib.ground.errors import NotAvailable
from abc_lib.metrics.base import (
    FeatureMetric,
    Preprocess,
    cosine_distance,
    largest_patch_distance,
    squared_distance,
)
from abc_lib.metrics.weights import Weights, fetch, find, misfit, read

VGG = Weights(
    title="the VGG16 weights of torchvision (528 MB)",
    files=("vgg16-397923af.pth",),
    url="https://download.pytorch.org/models/vgg16-397923af.pth",
    sha256="397923af",
)
CLIP = Weights(
    title="the OpenCLIP weights ViT-H-14-378-quickgelu, dfn5b (3.9 GB)",
    files=(
        "DFN5B-CLIP-ViT-H-14-378/open_clip_pytorch_model.bin",
        "DFN5B-CLIP-ViT-H-14-378/open_clip_model.safetensors",
    ),
    repo="apple/DFN5B-CLIP-ViT-H-14-378",
)
DINO = Weights(
    title="the DINOv2 weights ViT-L/14 with registers (1.2 GB)",
    files=(
        "vit_large_patch14_reg4_dinov2.lvd142m/model.safetensors",
        "dinov2_vitl14_reg4_pretrain.pth",
    ),
    repo="timm/vit_large_patch14_reg4_dinov2.lvd142m",
)

LPIPS_INPUT = Preprocess(256, "bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
CLIP_INPUT = Preprocess(
    378,
    "bicubic",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
DINO_INPUT = Preprocess(224, "bicubic", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def import_package(module: str, package: str, metric: str):
    """A package that comes with ``[perceptual]``; :class:`NotAvailable` where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        reason = "" if error.name == module else f" ({' '.join(str(error).split())})"
        raise NotAvailable(
            f"{metric} needs the package {package}{reason}: "
            "pip install -c constraints.txt -e '.[perceptual]'"
        ) from None


def at_hand(module: str, weights: Weights) -> bool:
    """Whether the package and a file of weights are on this machine."""
    return importlib.util.find_spec(module) is not None and find(weights) is not None


# A network lives as long as a metric holds it; metrics of the same weights share one.
_networks: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class Shared:
    """Called with a device, gives the network of ``weights``: the same one to all who ask."""

    build: Callable[[Path], torch.nn.Module]
    package: tuple[str, str]
    weights: Weights
    metric: str

    def __call__(self, device: torch.device) -> torch.nn.Module:
        # The package first, before gigabytes are fetched that nothing could read.
        import_package(*self.package, self.metric)
        path = fetch(self.weights, self.metric)
        key = (self.build, path, str(device))
        if (network := _networks.get(key)) is None:
            network = _networks[key] = self.build(path).requires_grad_(False).eval().to(device)
        return network


class LPIPSFeatures(torch.nn.Module):
    """Images (K, 3, H, W) in [-1, 1] to (K, D), so that LPIPS is the squared distance of two rows.

    LPIPS sums, over five layers, w_c (u_c - v_c)^2 averaged over the places of the
    layer, with u and v of unit length in each place. Each layer times sqrt(w / places)
    leaves a plain squared distance.
    """

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        parts = []
        for layer, head in zip(
            self.network.net(self.network.scaling_layer(images)), self.network.lins, strict=True
        ):
            # As the package does it, with its epsilon.
            length = layer.square().sum(dim=1, keepdim=True).sqrt() + 1e-10
            scale = (head.model[-1].weight / layer[0, 0].numel()).sqrt()
            parts.append((layer / length * scale).flatten(1))
        return torch.cat(parts, dim=1)


def _build_lpips(path: Path) -> torch.nn.Module:
    import lpips

    with warnings.catch_warnings():
        # torchvision says that the way in which lpips asks for VGG is old.
        warnings.simplefilter("ignore")
        # The linear weights come with the package; VGG's are read from the file.
        network = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    state = read(path, VGG)
    try:
        # lpips cuts VGG into slices but keeps the numbers of its layers.
        vgg = {
            name: state["features." + name.split(".", 1)[1]] for name in network.net.state_dict()
        }
        network.net.load_state_dict(vgg)
    except (KeyError, RuntimeError) as error:
        raise misfit(path, VGG, error) from None
    return LPIPSFeatures(network)


@contextlib.contextmanager
def log_without(text: str) -> Iterator[None]:
    """Keeps a warning out of the log that is true only until the next line."""

    def keep(record: logging.LogRecord) -> bool:
        return text not in record.getMessage()

    logging.getLogger().addFilter(keep)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(keep)


def _build_clip(path: Path) -> torch.nn.Module:
    open_clip = importlib.import_module("open_clip")
    # Only the image half is wanted, so the text half is made as small as it can be.
    text = {"context_length": 77, "vocab_size": 2, "width": 64, "heads": 1, "layers": 1}
    with log_without("No pretrained weights loaded"):
        network = open_clip.create_model("ViT-H-14-378-quickgelu", text_cfg=text).visual
    state = read(path, CLIP)
    try:
        # Strict, also about the size: open_clip would stretch the 224-pixel version to fit.
        network.load_state_dict(
            {
                name.removeprefix("visual."): x
                for name, x in state.items()
                if name.startswith("visual.")
            }
        )
    except RuntimeError as error:
        raise misfit(path, CLIP, error) from None
    return network


def _build_dino(path: Path) -> torch.nn.Module:
    timm = importlib.import_module("timm")
    from timm.models.vision_transformer import checkpoint_filter_fn

    network = timm.create_model(
        "vit_large_patch14_reg4_dinov2", img_size=DINO_INPUT.size, num_classes=0
    )
    state = read(path, DINO)
    try:
        # It scales the position embedding from 37x37 to 16x16 patches, and reads the authors' names
        # too.
        network.load_state_dict(checkpoint_filter_fn(state, network))
    except (AttributeError, KeyError, RuntimeError) as error:
        raise misfit(path, DINO, error) from None
    return network


LPIPS_PACKAGE = ("lpips", "lpips")
CLIP_PACKAGE = ("open_clip", "open_clip_torch")
DINO_PACKAGE = ("timm", "timm")


def lpips_metric(device: str | torch.device = "cpu") -> FeatureMetric:
    """LPIPS in VGG mode (B.6), version 0.1, through the package ``lpips``.

    Input: 256x256, bilinear, values from -1 to 1, then the package's own scaling. The
    paper does not say at which size LPIPS was run; ours is that of the Euclidean
    distance (figure 7), so that data sets compare.
    """
    network = Shared(_build_lpips, LPIPS_PACKAGE, VGG, "lpips")
    # The maps of one image take 32 MB.
    return FeatureMetric(
        "lpips", "LPIPS (VGG)", network, LPIPS_INPUT, squared_distance, device=device, batch=4
    )


def openclip_metric(device: str | torch.device = "cpu") -> FeatureMetric:
    """Cosine distance of the image embeddings of OpenCLIP (B.6).

    The network is "ViT-H-14-378-quickgelu", pretrained on "dfn5b". Input: 378x378, bicubic, the
    whole image squeezed to a square, OpenAI's mean and standard deviation: what ``open_clip`` sets
    down for these weights. The paper names no preprocessing. In float32.
    """
    network = Shared(_build_clip, CLIP_PACKAGE, CLIP, "openclip")
    return FeatureMetric(
        "openclip", "OpenCLIP", network, CLIP_INPUT, cosine_distance, device=device, batch=8
    )


def dinov2_metric(device: str | torch.device = "cpu") -> FeatureMetric:
    """Cosine distance of the class token of DINOv2 ViT-L/14 with registers (B.6).

    The token is that after the last layer norm. Input: 224x224, bicubic, the whole image, ImageNet
    mean and standard deviation. The paper leaves the size open, but its 256 patch tokens are those
    of 224 pixels; and whether the tokens are taken after the last norm, as the authors of DINOv2
    return them.
    """
    network = Shared(_build_dino, DINO_PACKAGE, DINO, "dinov2")
    return FeatureMetric(
        "dinov2", "DINOv2", network, DINO_INPUT, cosine_distance, _class_token, device
    )


def dino_patch_metric(device: str | torch.device = "cpu") -> FeatureMetric:
    """The largest Euclidean distance over the 256 corresponding patch tokens of DINOv2 (B.6).

    Network, input and norm as :func:`dinov2_metric`, and the same network in memory.
    """
    network = Shared(_build_dino, DINO_PACKAGE, DINO, "dino-patch")
    return FeatureMetric(
        "dino-patch",
        "DINO Patch",
        network,
        DINO_INPUT,
        largest_patch_distance,
        _patch_tokens,
        device,
    )


def _class_token(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    return network.forward_features(images)[:, 0]


def _patch_tokens(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    # The class token and the registers come first.
    return network.forward_features(images)[:, network.num_prefix_tokens :]
