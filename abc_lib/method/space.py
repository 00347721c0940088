"""Where a recipe's members live: the shape of a state, and how it becomes an image (B.1, B.2)."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

from abc_lib.ground.devices import one_thread
from abc_lib.ground.duals import Dual
from abc_lib.ground.errors import BadValue, Known
from abc_lib.method.recipe import Data, Shape, image_shape, latent_shape

STABLE_LATENT = (4, 32, 32)
"""the shape of a latent of the Stable Diffusion autoencoder"""
STABLE_IMAGE = (3, 256, 256)
"""the shape of the images that it takes here"""
THRESHOLD = 0.5
"""above it a pixel of a binarised recipe's sample is white"""

State = TypeVar("State", torch.Tensor, Dual)
"""states or images as plain numbers, or with their derivatives"""


class Decoder(Protocol):
    """What a latent space needs of an autoencoder."""

    @property
    def device(self) -> torch.device:
        """Where its network is."""

    def to(self, device: torch.device | str) -> "Decoder":
        """Moves its network, in place."""

    def decode(self, latents: State) -> State:
        """Images (B, C, H, W) in [0, 1] of latents (B, c, h, w), duals too."""


def to_model(images: torch.Tensor, data: Data) -> torch.Tensor:
    """Images in [0, 1] to the range the networks are trained in (B.2)."""
    return (images - data.shift) * data.factor


def to_images(x: State, data: Data) -> State:
    """The inverse of :func:`to_model`, clipped to [0, 1]."""
    return (x / data.factor + data.shift).clamp(0, 1)


def _basic(data: Data) -> Shape:
    return latent_shape(data.family)


def _stable(data: Data) -> Shape:
    if image_shape(data) != STABLE_IMAGE:
        raise BadValue(
            f"images of {data.family} are {image_shape(data)}; the Stable Diffusion autoencoder "
            f"takes {STABLE_IMAGE} here"
        )
    return STABLE_LATENT


_SHAPES = Known("space", {"pixel": image_shape, "basic": _basic, "stable-diffusion": _stable})


def state_shape(data: Data) -> Shape:
    """C, H, W of what a recipe's members denoise: of its images, or of their latents."""
    return _SHAPES[data.space](data)


def same_bits(device: torch.device) -> AbstractContextManager[None]:
    """One thread within on a CPU: the order of a sum over threads would change its bits."""
    several = device.type == "cpu" and torch.get_num_threads() > 1
    return one_thread() if several else nullcontext()


@dataclass(eq=False)
class Space:
    """How the states of a recipe's members become images.

    In latents, states are (latent - ``shift``) * ``factor``, normalised over the training set
    to mean 0 and standard deviation 1: by channel for the basic autoencoder, as one for
    Stable Diffusion's (B.2). Both are (c, 1, 1), and None for pixels. These few numbers come
    from all sources and stay when one is ablated, as in the paper.
    """

    data: Data
    autoencoder: Decoder | None = None
    shift: torch.Tensor | None = None
    factor: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if self.data.space != "pixel" and (
            self.autoencoder is None or self.shift is None or self.factor is None
        ):
            raise BadValue(
                "members that live in latents need their autoencoder and its normalisation; read "
                "them with find_ensemble"
            )

    @property
    def image_shape(self) -> Shape:
        """C, H, W of an image."""
        return image_shape(self.data)

    def to(self, device: torch.device | str) -> "Space":
        """Moves the autoencoder, in place, and returns itself."""
        if self.autoencoder is not None:
            self.autoencoder.to(device)
        return self

    def to_images(self, x: State) -> State:
        """Images (..., C, H, W) in [0, 1] of states (..., c, h, w), with derivatives if those have.

        Where a recipe binarises, an image's pixels are 0 or 1 (3.5): :meth:`decode` and a
        threshold at one half. Dual states are only decoded, as a threshold has no derivative.
        """
        images = self.decode(x)
        if isinstance(images, Dual) or not self.data.binarise:
            return images
        return (images > THRESHOLD).to(images.dtype)

    def decode(self, x: State) -> State:
        """As :meth:`to_images`, before a threshold makes pixels black or white.

        Derivatives go through the decoder. The paper differentiates "the output of the
        diffusion process" and compares "per pixel" (2.4, C.2), which leaves open where it
        stopped; with the decoder inside, equation 1 is about the sample that is looked at, and
        everything that reads a Jacobian works as it does in pixels. What a linear prediction
        through the decoder loses can be measured: a hybrid that carries all T steps by tangents
        is the latent prediction, decoded as it is (:mod:`abc_lib.results.comparisons`).
        """
        if self.autoencoder is None or self.shift is None or self.factor is None:
            return to_images(x, self.data)
        if not isinstance(x, Dual) and x.ndim > 4:
            return self.decode(x.flatten(0, -4)).unflatten(0, x.shape[:-3])
        shift = self.shift.to(x.device, x.dtype)
        factor = self.factor.to(x.device, x.dtype)
        with same_bits(self.autoencoder.device):
            return self.autoencoder.decode(x * (1 / factor) + shift)
