"""The networks: the U-Nets that the members are (B.2), and the classifier's ResNet (B.5)."""

from .classifier import ResNetShape, SmallResNet, build_classifier
from .unet import NoisePredictor, activation_bytes, build_network, num_parameters

__all__ = [
    "NoisePredictor",
    "ResNetShape",
    "SmallResNet",
    "activation_bytes",
    "build_classifier",
    "build_network",
    "num_parameters",
]
