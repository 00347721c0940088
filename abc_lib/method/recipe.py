"""Recipes: everything that fixes an ensemble, as frozen values (table 2, B.1 to B.3)."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from abc_lib.ground.digests import spec_of
from abc_lib.ground.errors import BadValue, Known, positive_int

SCALES = ("laptop", "paper")

Shape = tuple[int, int, int]
"""channels, height, width"""


@dataclass(frozen=True)
class Data:
    """Which images, and which data source owns each of them (B.1, B.3)."""

    family: str
    """``digits``, ``mnist``, ... : a file in ``abc_lib/images/families``"""
    split: str
    """the part of the data set that the images come from"""
    size: int
    """number of training images, a prefix of one permutation: smaller sets are nested in larger"""
    sources: str = "image"
    """what a data source is: ``image``, ``class``, ``group`` (random, equal sizes), or an owner:
    ``celebrity``, ``artist``, ``owner``"""
    num_sources: int = 0
    """N; 0 until it is said"""
    subset_seed: int = 0
    """which permutation of the split"""
    space: str = "pixel"
    """``pixel``, or the latents of the ``basic`` or ``stable-diffusion`` autoencoder"""
    binarise: bool = False
    """pixels above one half become 1, others 0, and duplicate images are dropped (B.3)"""
    flips: bool = False
    """random horizontal flips in training, in latents the latents of mirrored images; a flip
    belongs to the source of its image"""
    shift: float = 0.5
    """images x in [0, 1] enter the network as (x - shift) * factor (B.2)"""
    factor: float = 2.0
    """see ``shift``; latents are normalised by their own mean and deviation instead"""
    autoencoder: str = ""
    """the identity of the autoencoder whose latents these are; empty until it is at hand"""

    def __post_init__(self) -> None:
        positive_int("size", self.size)
        positive_int("num_sources", self.num_sources or 1)


@dataclass(frozen=True)
class Code:
    """The constant-weight code (2.3)."""

    n: int
    weight: int
    seed: int = 0

    def __post_init__(self) -> None:
        if positive_int("weight", self.weight) >= positive_int("n", self.n):
            raise BadValue(
                f"weight {self.weight} of {self.n} members leaves none when a source is removed; "
                "choose a smaller weight"
            )


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
    """what the U-Net's output stands for: ``noise``, or ``velocity`` or ``image``, which are
    turned into noise"""


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
    """the type a finished member is rounded to: what is stored is the member, not an
    approximation of it"""
    weighting: str = "noise"
    """what the squared error is one of: the ``noise``, the ``velocity`` or the ``image``"""
    average: float = 0.0
    """stored is a running average of the parameters: its width, a share of the steps so far; 0
    stores the parameters"""
    times: str = "uniform"
    """the time steps that minibatches are noised to: ``uniform``, or ``middle``, where four in
    five are of [100, 750)"""
    block: int = 1
    """how many members are trained as one stacked network; it changes results by rounding"""
    compile: bool = False
    """``torch.compile`` the network on a GPU"""

    def __post_init__(self) -> None:
        if not 0 <= self.average <= 0.25:
            raise BadValue(
                f"an average of the parameters over {self.average:g} of the steps is not one; "
                "choose a share from 0 to 0.25"
            )


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
    def model_spec(self) -> dict[str, Any]:
        """What determines the trained members, and nothing else; its hash names the artefacts."""
        parts = ("data", "code", "network", "training", "diffusion")
        specs = {part: spec_of(getattr(self, part)) for part in parts}
        return {"name": self.name, "scale": self.scale, **specs}

    @property
    def codeless_spec(self) -> dict[str, Any]:
        """:attr:`model_spec` without the code: what determines models that are no members."""
        return {key: value for key, value in self.model_spec.items() if key != "code"}

    @property
    def exposure(self) -> float:
        """How often a member sees each of its images in training, on average."""
        drawn = self.training.steps * self.training.batch_size
        return drawn * self.code.n / (self.data.size * self.code.weight)

    def exposed(self, times: float) -> "Recipe":
        """The recipe whose members see each of their images so often; the steps follow."""
        steps = round(self.training.steps * times / self.exposure)
        return self.replace(training={"steps": max(1, steps)})

    @property
    def label(self) -> str:
        """``name-scale``, as in file names."""
        return f"{self.name}-{self.scale}"

    def replace(self, **parts: Any) -> "Recipe":
        """A copy with some parts changed; a dict changes fields inside a part."""
        for name, part in parts.items():
            if isinstance(part, dict):
                parts[name] = dataclasses.replace(getattr(self, name), **part)
        return dataclasses.replace(self, **parts)


# --- shapes of images (B.1) ---

SHAPES: dict[str, Shape] = Known("data family")
"""of an image of each family; ``abc_lib.images.families`` fills it, one file a family"""
SCALED: dict[tuple[str, str], Shape] = {}
"""of the families whose images are scaled for a space, by family and space; filled likewise"""


def image_shape(data: Data) -> Shape:
    """C, H, W of a recipe's images."""
    return SCALED.get((data.family, data.space), SHAPES[data.family])


def latent_shape(family: str, latent_channels: int = 4) -> Shape:
    """c, h, w of a basic autoencoder's latents of a family."""
    _, height, width = SHAPES[family]
    return latent_channels, height // 4, width // 4
