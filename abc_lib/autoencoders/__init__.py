"""Autoencoders: images to latents and back (B.1, B.4)."""

from .base import Autoencoder
from .basic import Basic, find_basic, patch_loss, read_basic, train_basic
from .recipes import UNSEEN, AutoencoderRecipe, basic_recipe, latent_shape
from .stable import StableDiffusion, find_stable, get_stable

__all__ = [
    "Autoencoder",
    "AutoencoderRecipe",
    "Basic",
    "StableDiffusion",
    "UNSEEN",
    "basic_recipe",
    "find_basic",
    "find_stable",
    "get_stable",
    "latent_shape",
    "patch_loss",
    "read_basic",
    "train_basic",
]
