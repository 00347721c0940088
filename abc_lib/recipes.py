"""Recipes: everything that fixes a named ensemble, as frozen values.

The registry holds the paper's 23 ensembles (table 2), its 7 further ones (B.3), the
built-in digits family and MNIST in latents, each at two scales. ``paper`` is the paper's own setting;
``laptop`` is the same experiment with smaller networks and fewer members.
"""

import csv
import dataclasses
import hashlib
import json
from dataclasses import dataclass

from .errors import unknown
from .paths import PAPER

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
        parts = {key: spec_of(getattr(self, key)) for key in ("data", "code", "network", "training", "diffusion")}
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
        new = {key: dataclasses.replace(getattr(self, key), **value) if isinstance(value, dict) else value
               for key, value in parts.items()}
        return dataclasses.replace(self, **new)


def spec_of(part) -> dict:
    """The fields of a recipe's part that differ from their defaults, ready for JSON.

    Leaving defaults out means that a field added later does not rename what exists.
    The other side of it: a default, once published, never changes.
    """
    return {f.name: getattr(part, f.name) for f in dataclasses.fields(part) if getattr(part, f.name) != f.default}


def digest(spec: object) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# The paper's networks: four levels, attention in the second down and the third up block (B.2).
_SMALL = Network((128, 256, 512, 512), down_attention=(1,), up_attention=(2,))
_LARGE = Network((192, 384, 768, 768), down_attention=(1,), up_attention=(2,), dropout=0.1)

# B.2 prints (x - 1) * 4 for CIFAR, which would put images in [-4, 0]. It also says that data
# were normalised to mean 0 and standard deviation 1; (x - 0.5) * 4 does nearly that on [0, 1]
# and is what we take it to mean.
_NORMALISATION = {"mnist": (0.5, 2.0), "fashion": (0.5, 2.0), "digits": (0.5, 2.0), "cifar10": (0.5, 4.0), "cifar100": (0.5, 4.0)}

# How many images each of the paper's splits holds, for the ensembles that take all of one.
_FAMILIES = {
    "MNIST": "mnist", "Fashion-MNIST": "fashion", "CIFAR-10": "cifar10", "CIFAR-100": "cifar100",
    "CelebA": "celeba", "MetFaces": "metfaces", "ArtBench": "artbench",
}
_SOURCES = {"data point": "image", "image class": "class", "random group": "group", "celebrity": "celebrity", "artist": "artist"}
_SPACES = {"pixel": "pixel", "basic autoencoder": "basic", "Stable Diffusion v1-5 autoencoder": "stable-diffusion"}
_LATENT = ("celeba", "metfaces", "artbench")

# The paper does not print how long it trained, only that MNIST members took a few hours.
_PAPER_STEPS = {"mnist": 60_000, "fashion": 60_000, "cifar10": 200_000, "cifar100": 200_000,
                "celeba": 200_000, "metfaces": 100_000, "artbench": 200_000, "digits": 20_000}

DIGITS_SIZES = (64, 128, 256, 512, 1024)


def _paper_tables() -> dict[str, dict]:
    rows = {}
    for table in ("ensembles.csv", "additional_ensembles.csv"):
        with open(PAPER / table, newline="") as file:
            rows |= {row["ensemble"]: row for row in csv.DictReader(file)}
    return rows


def _paper_recipe(row: dict) -> Recipe:
    origin = row["origin"].split(",")[0]
    family = _FAMILIES[max((key for key in _FAMILIES if origin.startswith(key)), key=len)]  # CIFAR-100, not CIFAR-10
    split = "all" if family == "metfaces" else "train" if "training" in origin else "test"
    name = row["ensemble"]
    latent = family in _LATENT
    shift, factor = _NORMALISATION.get(family, (0.0, 1.0))
    data = Data(
        family=family,
        split="landscapes" if name == "landscapes" else split,
        size=int(row["training_set_size"]),
        sources=_SOURCES[row["data_source"]],
        num_sources=int(row["landscape_size"]),
        space=_SPACES[row["space"]],
        binarise="binarised" in row["origin"],
        # Flips for FASHION, CIFAR, MetFaces and ArtBench (B.2).
        flips=family in ("fashion", "cifar10", "cifar100", "metfaces", "artbench"),
        shift=shift,
        factor=factor,
    )
    large = row.get("unet") == "large"
    return Recipe(
        name, "paper", data,
        Code(int(row["members"]), int(row["weight"])),
        _LARGE if large else _SMALL,
        Training(steps=_PAPER_STEPS[family], precision="bfloat16"),
        # Clipping follows the range that the normalisation puts images in.
        sampling=Sampling(clip=None if latent else factor / 2),
    )


def _digits_recipe(size: int) -> Recipe:
    """Not in the paper: scikit-learn's 8x8 digits, so that everything runs anywhere.

    All sizes have the same number of members, as the paper's have: how far an
    ablation moves the mean depends on n, and would otherwise pass for an effect of
    the training set.
    """
    return Recipe(
        f"digits_{size}", "paper",
        Data("digits", "ensemble", size, num_sources=size),
        Code(22, 11),
        Network((32, 64), groups=8),
        Training(steps=_PAPER_STEPS["digits"]),
    )


def _digits_classes() -> Recipe:
    """Not in the paper: its ensembles of ten class sources (3.2, B.3), on the digits."""
    largest = _digits_recipe(DIGITS_SIZES[-1])
    return dataclasses.replace(largest.replace(data={"sources": "class", "num_sources": 10}, code=Code(6, 3)),
                               name="digits_classes")


def _digits_binary() -> Recipe:
    """Not in the paper: its binarised ensemble (B.3), whose members each see a tenth of the data, on the digits.

    1,000 of the 1,024 digits are left when each pixel is black or white and copies are taken out.
    """
    return dataclasses.replace(
        _digits_recipe(DIGITS_SIZES[-1]).replace(data={"size": 1000, "sources": "group", "num_sources": 190, "binarise": True}, code=Code(20, 2)),
        name="digits_binary_190",
    )


def _mnist_ba() -> Recipe:
    """Not in the paper: MNIST in the latents of a basic autoencoder, so that latent diffusion runs without CelebA."""
    return Recipe(
        "mnist_ba_256", "paper",
        Data("mnist", "test", 256, num_sources=256, space="basic", shift=0.0, factor=1.0),
        Code(22, 11), _SMALL, Training(steps=_PAPER_STEPS["mnist"], precision="bfloat16"), sampling=Sampling(clip=None),
    )


# Tried on two cores: networks that predict the velocity sampled cleaner digits after the same
# steps than those that predict the noise, most of all on patches, where a level of 32 channels
# has to carry 16 input channels through.
_SMALL_STEPS = Training(steps=1000, batch_size=64, learning_rate=3e-3, schedule="cosine", warmup=50,
                        stored="float16", weighting="velocity")


def _laptop(recipe: Recipe) -> Recipe:
    """The laptop scale of a recipe: smaller network, fewer members, shorter training."""
    data, code = recipe.data, recipe.code
    if data.family == "digits":
        return recipe.replace(
            scale="laptop", code=Code(14, 7) if code.n == 22 else code, training=_SMALL_STEPS,
            network=Network((16, 16), layers_per_block=1, groups=8, predicts="velocity"),
        )
    if recipe.name == "mnist_ba_256":
        # Its states are as small as the digits': ten minutes of one core for the whole ensemble, 3 MB.
        return recipe.replace(
            scale="laptop", code=Code(14, 7), training=dataclasses.replace(_SMALL_STEPS, steps=800),
            network=Network((16, 24), layers_per_block=1, groups=8, predicts="velocity"),
        )
    if code.n == 22:
        # One n for a whole family, as in the paper, and enough codewords for its largest ensemble.
        n = {"mnist": 16, "fashion": 16, "celeba": 16, "artbench": 16}.get(data.family, 20)
        code = Code(n, n // 2)
    return recipe.replace(
        scale="laptop", code=code,
        network=Network(
            (32, 32) if data.family in ("mnist", "fashion") else (48, 96), layers_per_block=1, groups=8,
            patch=4 if data.space == "pixel" else 1, dropout=recipe.network.dropout, predicts="velocity",
        ),
        training=dataclasses.replace(_SMALL_STEPS, steps=3000, learning_rate=2e-3),
    )


def _registry() -> dict[tuple[str, str], Recipe]:
    recipes = [*(_digits_recipe(size) for size in DIGITS_SIZES), _digits_classes(), _digits_binary(), _mnist_ba()]
    recipes += [_paper_recipe(row) for row in _paper_tables().values()]
    recipes += [_laptop(recipe) for recipe in recipes]
    return {(recipe.name, recipe.scale): recipe for recipe in recipes}


_RECIPES = _registry()


def recipe_names() -> list[str]:
    """Every ensemble in the registry: the digits family, MNIST in latents, table 2, B.3, in that order."""
    return list(dict.fromkeys(name for name, _ in _RECIPES))


def get_recipe(name: str, scale: str = "laptop") -> Recipe:
    """The recipe of a named ensemble; raises :class:`UnknownName` with the closest name."""
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    if name not in recipe_names():
        raise unknown("ensemble", name, recipe_names())
    return _RECIPES[name, scale]


def family_of(name: str, scale: str = "laptop") -> list[str]:
    """The ensembles of the same family, source and space as ``name``, by training set size."""
    me = get_recipe(name, scale).data
    alike = [r for (_, s), r in _RECIPES.items() if s == scale and r.data.family == me.family
             and r.data.sources == me.sources and r.data.space == me.space and r.data.binarise == me.binarise]
    return [r.name for r in sorted(alike, key=lambda r: r.data.size)]
