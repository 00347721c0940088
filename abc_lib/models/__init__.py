"""The networks: the U-Nets that the members are (B.2), the basic autoencoder (B.4), and the classifier's ResNet (B.5)."""

from .autoencoder import BasicAutoencoder, build_basic_autoencoder
from .classifier import ResNetShape, SmallResNet, build_classifier
from .unet import NoisePredictor, activation_bytes, build_network, num_parameters

__all__ = [
    "BasicAutoencoder",
    "NoisePredictor",
    "ResNetShape",
    "SmallResNet",
    "activation_bytes",
    "build_basic_autoencoder",
    "build_classifier",
    "build_network",
    "num_parameters",
]
