"""The U-Nets that the members are (B.2), through diffusers."""

from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from abc_lib.ground.errors import BadValue
from abc_lib.method.diffusion import alphas_cumprod
from abc_lib.method.recipe import Diffusion, Network, Shape

_SCHEDULE = Diffusion()


def _blocks(kind: str, levels: int, attention: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(f"Attn{kind}" if k in attention else kind for k in range(levels))


def noise_shares(predicts: str, a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How the noise in x follows from x and what a network says of it: eps = k x + l out.

    ``a`` is alpha-bar at the time of x = sqrt(a) x0 + sqrt(1 - a) eps; ``predicts`` is
    ``velocity`` or ``image``.
    """
    if predicts == "velocity":
        return (1 - a).sqrt(), a.sqrt()
    return (1 - a).rsqrt(), -(a / (1 - a)).sqrt()


class NoisePredictor(nn.Module):
    """A diffusers ``UNet2DModel``, on p x p patches when p > 1.

    ``forward(x, t)`` takes noisy images (B, C, H, W) and time steps (B,) or a scalar,
    and returns the predicted noise (B, C, H, W). With patches, pixels move into
    channels before the U-Net and back after it, which makes the same image p * p
    times cheaper for a U-Net of the same width.

    A network that predicts the velocity v = sqrt(a) eps - sqrt(1 - a) x0 (Salimans and
    Ho, 2022), or the image x0 itself, still answers with noise here: a narrow network then
    need not carry its own input through to its output.
    """

    alphas: torch.Tensor
    unet: Any

    def __init__(self, network: Network, shape: Shape, diffusion: Diffusion = _SCHEDULE):
        super().__init__()
        # diffusers takes seconds to import, and only those who build a network need it
        from diffusers import UNet2DModel

        channels, height, width = shape
        levels = len(network.channels)
        smallest = network.patch * 2 ** (levels - 1)
        if height % smallest or width % smallest:
            raise BadValue(
                f"images of {height}x{width} cannot go through {levels} levels on patches of "
                f"{network.patch}: their sides must be multiples of {smallest}"
            )
        if network.predicts not in ("noise", "velocity", "image"):
            raise BadValue(
                f"a network cannot predict '{network.predicts}'; choose noise, velocity or image"
            )
        self.patch = network.patch
        self.predicts = network.predicts
        # Part of the recipe, not of what is learned, so not of the stored parameters.
        self.register_buffer("alphas", alphas_cumprod(diffusion), persistent=False)
        self.unet = UNet2DModel(
            sample_size=height // network.patch,
            in_channels=channels * network.patch**2,
            out_channels=channels * network.patch**2,
            block_out_channels=network.channels,
            layers_per_block=network.layers_per_block,
            down_block_types=_blocks("DownBlock2D", levels, network.down_attention),
            up_block_types=_blocks("UpBlock2D", levels, network.up_attention),
            norm_num_groups=network.groups,
            attention_head_dim=network.head_dim,
            dropout=network.dropout,
        )

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if self.patch == 1:
            out = self.unet(x, t).sample
        else:
            out = F.pixel_shuffle(self.unet(F.pixel_unshuffle(x, self.patch), t).sample, self.patch)
        if self.predicts == "noise":
            return out
        of_x, of_out = noise_shares(self.predicts, self.alphas[t].reshape(-1, 1, 1, 1))
        return of_x * x + of_out * out


def build_network(
    network: Network, shape: Shape, seed: int, diffusion: Diffusion = _SCHEDULE
) -> NoisePredictor:
    """A freshly initialised network for images of ``shape`` (C, H, W).

    The same seed gives the same parameters; the global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the GPUs' generators as well
        torch.default_generator.manual_seed(seed)
        return NoisePredictor(network, shape, diffusion)
