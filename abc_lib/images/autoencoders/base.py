"""What every autoencoder can do: ``encode``, ``decode``, and say which one it is."""

import torch

from abc_lib.ground.duals import Dual


class Autoencoder:
    """A network that maps images to latents and back.

    ``identity`` is a hash of its parameters: latents of another one are other latents.
    ``batch`` images go through it at once, which bounds memory and changes results by
    rounding at most. ``shape`` (c, h, w) is that of a latent, ``image_shape`` (C, H, W)
    of an image.
    """

    title: str
    identity: str
    shape: tuple[int, int, int]
    image_shape: tuple[int, int, int]
    batch: int

    def __init__(self, network: torch.nn.Module):
        self.network = network.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def to(self, device: torch.device | str) -> "Autoencoder":
        """Moves the network, in place, and returns itself."""
        self.network.to(device)
        return self

    def _encode(self, images: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images in about [0, 1], not clipped."""
        raise NotImplementedError

    @torch.inference_mode()
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Latents (B, c, h, w) of images (B, C, H, W) in [0, 1], on the autoencoder's device."""
        # Convolutions may leave channels last, which artefacts do not take.
        return torch.cat(
            [self._encode(part.to(self.device)) for part in images.split(self.batch)]
        ).contiguous()

    @torch.inference_mode()
    def decode(self, latents: torch.Tensor | Dual) -> torch.Tensor | Dual:
        """Images (B, C, H, W) in [0, 1] of latents (B, c, h, w), on the autoencoder's device.

        Of dual latents also the derivatives, forward through the decoder (2.4): as elsewhere
        those of a value that is clipped to [0, 1] are zero.
        """
        if isinstance(latents, Dual):
            return self._decode_dual(latents)
        return torch.cat(
            [self._decode(part.to(self.device)).clamp(0, 1) for part in latents.split(self.batch)]
        ).contiguous()

    def _decode_dual(self, latents: Dual) -> Dual:
        """One latent at a time, ``batch`` directions at a time: as much side by side as when images
        are decoded.
        """
        primals, moved = [], []
        for k in range(len(latents)):
            parts = []
            for directions in latents.tangents[:, k : k + 1].split(self.batch):
                part = self._decode(
                    Dual(latents.primal[k : k + 1].to(self.device), directions.to(self.device))
                ).clamp(0, 1)
                parts.append(part.tangents)
            primals.append(part.primal)
            moved.append(torch.cat(parts))
        return Dual(torch.cat(primals).contiguous(), torch.cat(moved, dim=1).contiguous())
