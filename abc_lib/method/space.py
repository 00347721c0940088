"""Where a recipe's members live: the shape of a state, and how it becomes an image (B.1, B.2)."""

from dataclasses import dataclass
from typing import Protocol

import torch

from abc_lib.ground.devices import one_thread
from abc_lib.ground.duals import Dual
from abc_lib.ground.errors import BadValue, unknown
from abc_lib.method.recipe import Data, image_shape, latent_shape

SHAPE, IMAGE_SHAPE = (4, 32, 32), (3, 256, 256)
"""of a latent of the Stable Diffusion autoencoder, and of the images it takes here"""


class Decoder(Protocol):
    """What a latent space needs of an autoencoder: latents (B, c, h, w) to images (B, C, H, W) in [0, 1], duals too."""

    @property
    def device(self) -> torch.device:
        """Where its network is."""

    def to(self, device: torch.device | str) -> "Decoder":
        """Moves its network, in place."""

    def decode(self, latents: torch.Tensor | Dual) -> torch.Tensor | Dual:
        """Images of latents."""


def to_model(images: torch.Tensor, data: Data) -> torch.Tensor:
    """Images in [0, 1] to the range the networks are trained in (B.2)."""
    return (images - data.shift) * data.factor


def to_images(x: torch.Tensor, data: Data) -> torch.Tensor:
    """The inverse of :func:`to_model`, clipped to [0, 1]."""
    return (x / data.factor + data.shift).clamp(0, 1)


SPACES = ("pixel", "basic", "stable-diffusion")
THRESHOLD = 0.5
"""above it a pixel of a binarised recipe's sample is white"""


def state_shape(data: Data) -> tuple[int, int, int]:
    """C, H, W of what a recipe's members denoise: of its images, or of their latents."""
    if data.space == "pixel":
        return image_shape(data)
    if data.space == "basic":
        return latent_shape(data.family)
    if data.space != "stable-diffusion":
        raise unknown("space", data.space, SPACES)
    if image_shape(data) != IMAGE_SHAPE:
        raise BadValue(
            f"images of {data.family} are {image_shape(data)}; the Stable Diffusion autoencoder takes {IMAGE_SHAPE} here"
        )
    return SHAPE


# --- states and images ---


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

    def __post_init__(self):
        if self.data.space != "pixel" and (
            self.autoencoder is None or self.shift is None or self.factor is None
        ):
            raise BadValue(
                "members that live in latents need their autoencoder and its normalisation; read them with find_ensemble"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of a state."""
        return state_shape(self.data)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """C, H, W of an image."""
        return image_shape(self.data)

    def to(self, device: torch.device | str) -> "Space":
        """Moves the autoencoder, in place, and returns itself."""
        if self.autoencoder is not None:
            self.autoencoder.to(device)
        return self

    def to_images(self, x: torch.Tensor | Dual) -> torch.Tensor | Dual:
        """Images (..., C, H, W) in [0, 1] of states (..., c, h, w); of dual states the images with their derivatives.

        Where a recipe binarises, an image's pixels are 0 or 1 (3.5): :meth:`decode` and a
        threshold at one half. Dual states are only decoded, as a threshold has no derivative.
        """
        images = self.decode(x)
        return (
            images
            if isinstance(images, Dual) or not self.data.binarise
            else (images > THRESHOLD).to(images.dtype)
        )

    def decode(self, x: torch.Tensor | Dual) -> torch.Tensor | Dual:
        """As :meth:`to_images`, before a threshold makes pixels black or white.

        Derivatives go through the decoder. The paper differentiates "the output of the
        diffusion process" and compares "per pixel" (2.4, C.2), which leaves open where it
        stopped; with the decoder inside, equation 1 is about the sample that is looked at, and
        everything that reads a Jacobian works as it does in pixels. What a linear prediction
        through the decoder loses can be measured: a hybrid that carries all T steps by tangents
        is the latent prediction, decoded as it is (see ``comparison``).
        """
        if self.autoencoder is None:
            return to_images(x, self.data)
        if self.autoencoder.device.type == "cpu" and torch.get_num_threads() > 1:
            with one_thread():
                return self.decode(x)
        if not isinstance(x, Dual) and x.ndim > 4:
            return self.decode(x.flatten(0, -4)).unflatten(0, x.shape[:-3])
        shift, factor = (each.to(x.device, x.dtype) for each in (self.shift, self.factor))
        return self.autoencoder.decode(x * (1 / factor) + shift)
