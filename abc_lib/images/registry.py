"""The named ensembles: the paper's 23 (table 2), its 7 further ones (B.3), the digits and MNIST in latents, each at two scales."""

import csv
import dataclasses

from abc_lib.ground.errors import unknown
from abc_lib.ground.paths import PAPER
from abc_lib.method.recipe import SCALES, Code, Data, Network, Recipe, Sampling, Training

# The paper's networks: four levels, attention in the second down and the third up block (B.2).
_SMALL = Network((128, 256, 512, 512), down_attention=(1,), up_attention=(2,))
_LARGE = Network((192, 384, 768, 768), down_attention=(1,), up_attention=(2,), dropout=0.1)

# B.2 prints (x - 1) * 4 for CIFAR, which would put images in [-4, 0]. It also says that data
# were normalised to mean 0 and standard deviation 1; (x - 0.5) * 4 does nearly that on [0, 1]
# and is what we take it to mean.
_NORMALISATION = {
    "mnist": (0.5, 2.0),
    "fashion": (0.5, 2.0),
    "digits": (0.5, 2.0),
    "cifar10": (0.5, 4.0),
    "cifar100": (0.5, 4.0),
}

# How many images each of the paper's splits holds, for the ensembles that take all of one.
_FAMILIES = {
    "MNIST": "mnist",
    "Fashion-MNIST": "fashion",
    "CIFAR-10": "cifar10",
    "CIFAR-100": "cifar100",
    "CelebA": "celeba",
    "MetFaces": "metfaces",
    "ArtBench": "artbench",
}
_SOURCES = {
    "data point": "image",
    "image class": "class",
    "random group": "group",
    "celebrity": "celebrity",
    "artist": "artist",
}
_SPACES = {
    "pixel": "pixel",
    "basic autoencoder": "basic",
    "Stable Diffusion v1-5 autoencoder": "stable-diffusion",
}
_LATENT = ("celeba", "metfaces", "artbench")

# The paper does not print how long it trained, only that MNIST members took a few hours.
_PAPER_STEPS = {
    "mnist": 60_000,
    "fashion": 60_000,
    "cifar10": 200_000,
    "cifar100": 200_000,
    "celeba": 200_000,
    "metfaces": 100_000,
    "artbench": 200_000,
    "digits": 20_000,
}

DIGITS_SIZES = (64, 128, 256, 512, 1024)


def _paper_tables() -> dict[str, dict]:
    rows = {}
    for table in ("ensembles.csv", "additional_ensembles.csv"):
        with open(PAPER / table, newline="") as file:
            rows |= {row["ensemble"]: row for row in csv.DictReader(file)}
    return rows


def _paper_recipe(row: dict) -> Recipe:
    origin = row["origin"].split(",")[0]
    family = _FAMILIES[
        max((key for key in _FAMILIES if origin.startswith(key)), key=len)
    ]  # CIFAR-100, not CIFAR-10
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
        name,
        "paper",
        data,
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
        f"digits_{size}",
        "paper",
        Data("digits", "ensemble", size, num_sources=size),
        Code(22, 11),
        Network((32, 64), groups=8),
        Training(steps=_PAPER_STEPS["digits"]),
    )


def _digits_classes() -> Recipe:
    """Not in the paper: its ensembles of ten class sources (3.2, B.3), on the digits."""
    largest = _digits_recipe(DIGITS_SIZES[-1])
    return dataclasses.replace(
        largest.replace(data={"sources": "class", "num_sources": 10}, code=Code(6, 3)),
        name="digits_classes",
    )


def _digits_binary() -> Recipe:
    """Not in the paper: its binarised ensemble (B.3), whose members each see a tenth of the data, on the digits.

    1,000 of the 1,024 digits are left when each pixel is black or white and copies are taken out.
    """
    return dataclasses.replace(
        _digits_recipe(DIGITS_SIZES[-1]).replace(
            data={"size": 1000, "sources": "group", "num_sources": 190, "binarise": True},
            code=Code(20, 2),
        ),
        name="digits_binary_190",
    )


def _mnist_ba() -> Recipe:
    """Not in the paper: MNIST in the latents of a basic autoencoder, so that latent diffusion runs without CelebA."""
    return Recipe(
        "mnist_ba_256",
        "paper",
        Data("mnist", "test", 256, num_sources=256, space="basic", shift=0.0, factor=1.0),
        Code(22, 11),
        _SMALL,
        Training(steps=_PAPER_STEPS["mnist"], precision="bfloat16"),
        sampling=Sampling(clip=None),
    )


# Tried on two cores: networks that predict the velocity sampled cleaner digits after the same
# steps than those that predict the noise, most of all on patches, where a level of 32 channels
# has to carry 16 input channels through.
_SMALL_STEPS = Training(
    steps=1000,
    batch_size=64,
    learning_rate=3e-3,
    schedule="cosine",
    warmup=50,
    stored="float16",
    weighting="velocity",
)


def _laptop(recipe: Recipe) -> Recipe:
    """The laptop scale of a recipe: smaller network, fewer members, shorter training."""
    data, code = recipe.data, recipe.code
    if data.family == "digits":
        return recipe.replace(
            scale="laptop",
            code=Code(14, 7) if code.n == 22 else code,
            training=_SMALL_STEPS,
            network=Network((16, 16), layers_per_block=1, groups=8, predicts="velocity"),
        )
    if recipe.name == "mnist_ba_256":
        # Its states are as small as the digits': ten minutes of one core for the whole ensemble, 3 MB.
        return recipe.replace(
            scale="laptop",
            code=Code(14, 7),
            training=dataclasses.replace(_SMALL_STEPS, steps=800),
            network=Network((16, 24), layers_per_block=1, groups=8, predicts="velocity"),
        )
    if code.n == 22:
        # One n for a whole family, as in the paper, and enough codewords for its largest ensemble.
        n = {"mnist": 16, "fashion": 16, "celeba": 16, "artbench": 16}.get(data.family, 20)
        code = Code(n, n // 2)
    return recipe.replace(
        scale="laptop",
        code=code,
        network=Network(
            (32, 32) if data.family in ("mnist", "fashion") else (48, 96),
            layers_per_block=1,
            groups=8,
            patch=4 if data.space == "pixel" else 1,
            dropout=recipe.network.dropout,
            predicts="velocity",
        ),
        training=dataclasses.replace(_SMALL_STEPS, steps=3000, learning_rate=2e-3),
    )


def _registry() -> dict[tuple[str, str], Recipe]:
    recipes = [
        *(_digits_recipe(size) for size in DIGITS_SIZES),
        _digits_classes(),
        _digits_binary(),
        _mnist_ba(),
    ]
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
    alike = [
        r
        for (_, s), r in _RECIPES.items()
        if s == scale
        and r.data.family == me.family
        and r.data.sources == me.sources
        and r.data.space == me.space
        and r.data.binarise == me.binarise
    ]
    return [r.name for r in sorted(alike, key=lambda r: r.data.size)]
