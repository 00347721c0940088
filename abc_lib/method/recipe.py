"""Recipes: everything that fixes an ensemble, as frozen values."""

import dataclasses
from dataclasses import dataclass

from abc_lib.ground.digests import spec_of
from abc_lib.ground.errors import unknown

SCALES = ("laptop", "paper")


@dataclass(frozen=True)
class Data:
    """Which images, and which data source owns each of them (B.1, B.3)."""

    family: str
    """``digits``, ``mnist``, ``fashion``, ``cifar10``, ``cifar100``, ``celeba``, ``metfaces`` or ``artbench``"""
    split: str
    """the part of the data set that the images come from"""
    size: int
    """number of training images; the subset is a prefix of one permutation, so smaller sets are nested in larger ones"""
    sources: str = "image"
    """what a data source is: ``image``, ``class``, ``group`` (random, equal sizes), ``celebrity`` or ``artist``"""
    num_sources: int = 0
    """N"""
    subset_seed: int = 0
    """which permutation of the split"""
    space: str = "pixel"
    """``pixel``, or the latents of the ``basic`` or ``stable-diffusion`` autoencoder"""
    binarise: bool = False
    """pixels above one half become 1, others 0, and duplicate images are dropped (B.3)"""
    flips: bool = False
    """random horizontal flips in training, in latents the latents of mirrored images; a flip belongs to the source of its image"""
    shift: float = 0.5
    """images x in [0, 1] enter the network as (x - shift) * factor (B.2)"""
    factor: float = 2.0
    """see ``shift``; latents are normalised by their own mean and deviation instead"""
    autoencoder: str = ""
    """the identity of the autoencoder whose latents these are: empty in the registry, filled in when it is at hand (``spaces.bind``)"""


@dataclass(frozen=True)
class Code:
    """The constant-weight code (2.3)."""

    n: int
    weight: int
    seed: int = 0


@dataclass(frozen=True)
class Network:
    """A diffusers ``UNet2DModel``, optionally on patches."""

    channels: tuple[int, ...]
    layers_per_block: int = 2
    down_attention: tuple[int, ...] = ()
    """indices of the down blocks with attention"""
    up_attention: tuple[int, ...] = ()
    """indices of the up blocks with attention"""
    patch: int = 1
    """pixel-unshuffle by this factor on the way in, pixel-shuffle on the way out"""
    groups: int = 32
    """groups of the group normalisation"""
    head_dim: int = 8
    """channels of an attention head"""
    dropout: float = 0.0
    predicts: str = "noise"
    """what the U-Net's output stands for: ``noise``, or ``velocity`` that is turned into noise"""


@dataclass(frozen=True)
class Diffusion:
    """The noise schedule (Ho et al.)."""

    train_steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    beta_schedule: str = "linear"


@dataclass(frozen=True)
class Training:
    """How one member is trained (B.2)."""

    steps: int
    batch_size: int = 128
    learning_rate: float = 1e-4
    schedule: str = "constant"
    """``constant``, or ``cosine``: linear warm-up, then a half cosine to zero"""
    warmup: int = 0
    """steps of warm-up of the ``cosine`` schedule"""
    seed: int = 0
    precision: str = "float32"
    """on a GPU: ``float32`` or ``bfloat16`` autocast; a CPU always trains in float32"""
    stored: str = "float32"
    """the type a finished member is rounded to: what is stored is the member, not an approximation of it"""
    weighting: str = "noise"
    """the squared error counts as it is on the ``noise``, or divided by alpha as on the ``velocity``"""
    compile: bool = False
    """``torch.compile`` the network on a GPU"""


@dataclass(frozen=True)
class Sampling:
    """The denoising process (3.1, B.2)."""

    sampler: str = "ddpm"
    """``ddpm``, the ancestral sampler of Ho et al., or ``ddim``, deterministic"""
    steps: int = 50
    clip: float | None = 1.0
    """predicted images are clipped to [-clip, clip] at every step; ``None`` for latents"""


@dataclass(frozen=True)
class Recipe:
    """A named ensemble at one scale."""

    name: str
    scale: str
    data: Data
    code: Code
    network: Network
    training: Training
    diffusion: Diffusion = Diffusion()
    sampling: Sampling = Sampling()

    @property
    def model_spec(self) -> dict:
        """What determines the trained members, and nothing else; its hash names the artefacts."""
        parts = {
            key: spec_of(getattr(self, key))
            for key in ("data", "code", "network", "training", "diffusion")
        }
        return {"name": self.name, "scale": self.scale, **parts}

    @property
    def codeless_spec(self) -> dict:
        """:attr:`model_spec` without the code: what determines models that are no members of an ensemble."""
        return {key: value for key, value in self.model_spec.items() if key != "code"}

    @property
    def label(self) -> str:
        """``name-scale``, as in file names."""
        return f"{self.name}-{self.scale}"

    def replace(self, **parts) -> "Recipe":
        """A copy with some parts changed; a dict changes fields inside a part."""
        new = {
            key: dataclasses.replace(getattr(self, key), **value)
            if isinstance(value, dict)
            else value
            for key, value in parts.items()
        }
        return dataclasses.replace(self, **new)


SHAPES = {
    "digits": (1, 8, 8),
    "mnist": (1, 32, 32),
    "fashion": (1, 32, 32),
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "celeba": (3, 128, 128),
    "metfaces": (3, 256, 256),
    "artbench": (3, 256, 256),
}
"""C, H, W of an image of each family"""


def image_shape(data: Data) -> tuple[int, int, int]:
    """C, H, W of a recipe's images: CelebA is scaled up to 256x256 for the Stable Diffusion autoencoder (B.1)."""
    if data.family not in SHAPES:
        raise unknown("data family", data.family, SHAPES)
    return (
        (3, 256, 256)
        if data.family == "celeba" and data.space == "stable-diffusion"
        else SHAPES[data.family]
    )


def latent_shape(family: str, latent_channels: int = 4) -> tuple[int, int, int]:
    """c, h, w of a basic autoencoder's latents of a family."""
    _, height, width = SHAPES[family]
    return latent_channels, height // 4, width // 4
