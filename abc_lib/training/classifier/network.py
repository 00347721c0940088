"""The classifier's network (B.5): torchvision's ResNet with its first layer fitted to the images,
and slimmer ones.
"""

from dataclasses import dataclass

import torch
from torch import nn

from abc_lib.ground.errors import BadValue


@dataclass(frozen=True)
class ResNetShape:
    """How wide and how deep a ResNet of basic blocks is; the defaults are ResNet-18's."""

    widths: tuple[int, ...] = (64, 128, 256, 512)
    """channels of each stage, four at most; every stage but the first halves the image"""
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    """basic blocks of each stage"""
    stride: int = 0
    """of a first layer without pooling that looks at every pixel (3x3, or 7x7 with stride 4); 0 for
    ResNet's own, 7x7 with stride 2, then pooling by 2
    """


class SmallResNet(nn.Module):
    """torchvision's ``ResNet`` for images of C channels.

    ``forward`` takes images (B, C, H, W) in [0, 1] and returns logits (B, K) of K
    classes; ``features`` returns what the last layer sees, (B, F).
    """

    def __init__(self, shape: ResNetShape, channels: int, classes: int):
        super().__init__()
        # torchvision takes a second to import, and only those who build a classifier need it
        from torchvision.models.resnet import BasicBlock, ResNet

        if not 1 <= len(shape.widths) == len(shape.blocks) <= 4:
            raise BadValue(
                f"a ResNet has 1 to 4 stages, a width and a number of blocks each, "
                f"not {len(shape.widths)} widths and {len(shape.blocks)} numbers of blocks"
            )
        standard = shape.widths == ResNetShape.widths
        net = ResNet(BasicBlock, list(shape.blocks) if standard else [1, 1, 1, 1])
        if not standard:
            _narrow(net, shape, BasicBlock)
        first = shape.widths[0]
        if shape.stride:
            size = max(3, 2 * shape.stride - 1)
            net.conv1 = nn.Conv2d(
                channels, first, size, stride=shape.stride, padding=size // 2, bias=False
            )
            net.maxpool = nn.Identity()
        else:
            net.conv1 = nn.Conv2d(channels, first, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        net.fc = nn.Identity()
        self.body, self.head = net, nn.Linear(shape.widths[-1], classes)
        self.num_features = shape.widths[-1]

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What the last layer sees of images (B, C, H, W): (B, F)."""
        return self.body(images)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))


def _narrow(net, shape: ResNetShape, block) -> None:
    """Makes the stages of a torchvision ResNet again, in other widths, and drops those that are not
    asked for.
    """
    net.inplanes = shape.widths[0]
    net.bn1 = nn.BatchNorm2d(net.inplanes)
    for i in range(4):
        stage = nn.Identity()
        if i < len(shape.widths):
            stage = net._make_layer(
                block, shape.widths[i], shape.blocks[i], stride=1 if i == 0 else 2
            )
            for module in stage.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        setattr(net, f"layer{i + 1}", stage)


def build_classifier(shape: ResNetShape, channels: int, classes: int, seed: int) -> SmallResNet:
    """A freshly initialised classifier.

    The same seed gives the same parameters; the global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the GPUs' generators as well
        torch.default_generator.manual_seed(seed)
        return SmallResNet(shape, channels, classes)
