"""The network of the basic autoencoder (B.4)."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class LastReLU(nn.ReLU):
    """A ReLU that lets a tenth of what is negative through while it is trained.

    At the end of a half, a channel that is negative everywhere is lost to an ordinary one: no
    gradient brings it back, and on dark images like MNIST the first fifty steps lead there.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(x, 0.1) if self.training else F.relu(x)


class BasicAutoencoder(nn.Module):
    """Images (B, C, H, W) in [0, 1] to latents (B, 4, H / 4, W / 4), and back.

    As B.4 has it: three convolutions down (kernels 7, 7, 5; the first two halve the
    sides), two transposed convolutions (7, 7) and two convolutions (5, 3) up. A ReLU follows
    each convolution, the last ones of both halves too, and after the second ReLU of the
    encoder comes a BatchNorm2d. The paper gives the encoder's widths, C to 64 to 64 to 4; the
    decoder's are not printed and mirror them, 4 to 64 to 64 to 64 to C. Nor is the
    initialisation: it is PyTorch's, but that the biases in front of the last ReLU of each half
    start at 1/2; and while it is trained those two are leaky (:class:`LastReLU`). Otherwise a
    whole channel of images or latents can be negative everywhere, and never comes back.
    """

    def __init__(self, channels: int = 3, width: int = 64, latent_channels: int = 4):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 7, stride=2, padding=3),
            nn.ReLU(),
            nn.Conv2d(width, width, 7, stride=2, padding=3),
            nn.ReLU(),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, latent_channels, 5, padding=2),
            LastReLU(),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(latent_channels, width, 7, stride=2, padding=3, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, 7, stride=2, padding=3, output_padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, channels, 3, padding=1),
            LastReLU(),
        )
        for half in (self.encoder, self.decoder):
            nn.init.constant_(half[-2].bias, 0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The images after they have been through the autoencoder."""
        return self.decoder(self.encoder(images))


def build_basic_autoencoder(
    channels: int, width: int, latent_channels: int, seed: int
) -> BasicAutoencoder:
    """A freshly initialised network; the same seed gives the same parameters, the global generator
    is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return BasicAutoencoder(channels, width, latent_channels)
