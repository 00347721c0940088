"""The named ensembles, each at two scales.

The paper's 23 (table 2), its 7 further ones (B.3), the digits, made pictures and MNIST in latents.
"""

import csv
import dataclasses

from abc_lib.ground.errors import BadValue, Known
from abc_lib.ground.paths import PAPER
from abc_lib.images.families import FAMILIES
from abc_lib.images.family import Family
from abc_lib.images.recipe_file import is_file, read_recipe
from abc_lib.method.recipe import (
    SCALES,
    Code,
    Data,
    Network,
    Recipe,
    Sampling,
    Training,
    image_shape,
)

# The paper's networks: four levels, attention in the second down and the third up block (B.2).
_SMALL = Network((128, 256, 512, 512), down_attention=(1,), up_attention=(2,))
_LARGE = Network((192, 384, 768, 768), down_attention=(1,), up_attention=(2,), dropout=0.1)

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
DIGITS_SIZES = (64, 128, 256, 512, 1024)


def _paper_tables() -> dict[str, dict]:
    rows = {}
    for table in ("ensembles.csv", "additional_ensembles.csv"):
        with open(PAPER / table, newline="") as file:
            rows |= {row["ensemble"]: row for row in csv.DictReader(file)}
    return rows


def _printed(origin: str) -> Family | None:
    """The family of a row of the paper's tables, which begins with its title, or nearly."""
    word = origin.split(",")[0].split(" ")[0]
    named = (f for f in FAMILIES.values() if f.title == word or f.title.startswith(word + "-"))
    return next(named, None)


def _paper_recipe(row: dict, family: Family) -> Recipe:
    name, origin = row["ensemble"], row["origin"]
    split = "train" if "training" in origin.split(",")[0] else "test"
    if len(family.splits) == 1:
        split = family.splits[0]
    elif name in family.splits:
        split = name
    space = _SPACES[row["space"]]
    pixels = space == "pixel"
    shift, factor = family.normalisation if pixels else (0.0, 1.0)
    large, size = row.get("unet") == "large", int(row["training_set_size"])
    code = Code(int(row["members"]), int(row["weight"]))
    return Recipe(
        name,
        "paper",
        Data(
            family=family.name,
            split=split,
            size=size,
            sources=_SOURCES[row["data_source"]],
            num_sources=int(row["landscape_size"]),
            space=space,
            binarise="binarised" in origin,
            flips=family.flips,
            shift=shift,
            factor=factor,
        ),
        code,
        _LARGE if large else _SMALL,
        _paper_training(family, size, code),
        # The authors' released sampler does not clip the predicted image.
        sampling=Sampling(clip=None),
    )


def _paper_training(family: Family, size: int, code: Code) -> Training:
    """As the authors' released script trains on MNIST and its like, a million over N epochs.

    Each is over a member's images in batches of at most 128, the last one dropped where it is not
    full: some 3,900 steps whatever N is. Of the other families only GPU hours are known; their
    steps are our guess.
    """
    if family.steps:
        return Training(steps=family.steps, precision="bfloat16")
    mine = size * code.weight // code.n
    batch = min(128, mine)
    steps = 1_000_000 // size * (mine // batch)
    return Training(steps=steps, batch_size=batch, precision="bfloat16")


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
        Training(steps=FAMILIES["digits"].steps),
    )


def _digits_classes() -> Recipe:
    """Not in the paper: its ensembles of ten class sources (3.2, B.3), on the digits."""
    largest = _digits_recipe(DIGITS_SIZES[-1])
    return dataclasses.replace(
        largest.replace(data={"sources": "class", "num_sources": 10}, code=Code(6, 3)),
        name="digits_classes",
    )


def _digits_binary() -> Recipe:
    """Not in the paper: its binarised ensemble (B.3) on the digits.

    Each member sees a tenth of the data. 1,000 of the 1,024 digits are left when each pixel is
    black or white and copies are taken out.
    """
    return dataclasses.replace(
        _digits_recipe(DIGITS_SIZES[-1]).replace(
            data={"size": 1000, "sources": "group", "num_sources": 190, "binarise": True},
            code=Code(20, 2),
        ),
        name="digits_binary_190",
    )


def _made() -> Recipe:
    """Not in the paper: 24 artists that are programmes, whose styles are known.

    Ten members leave 228 codewords that no artist owns, so p-values go down to 1/229.
    """
    return Recipe(
        "made_24",
        "paper",
        Data("made", "ensemble", 192, sources="owner", num_sources=24),
        Code(10, 5),
        _SMALL,
        Training(steps=FAMILIES["made"].steps),
        sampling=Sampling(steps=25),
    )


def _mnist_ba() -> Recipe:
    """Not in the paper: MNIST in latents, so that latent diffusion runs without a large set."""
    return Recipe(
        "mnist_ba_256",
        "paper",
        Data("mnist", "test", 256, num_sources=256, space="basic", shift=0.0, factor=1.0),
        Code(22, 11),
        _SMALL,
        _paper_training(FAMILIES["mnist"], 256, Code(22, 11)),
        sampling=Sampling(clip=None),
    )


DRAWN = 64_000
"""images that a member draws, here; the authors' members draw 500,000, whatever N is"""

# Members that remember single images. Found by a search on mnist_256 and digits_256 at equal CPU
# time: see the page on memory. What mattered most is that the network predicts the image; then
# small batches, and patches so large that one wide level does.
_GREY = Network((40,), layers_per_block=1, groups=8, patch=8, predicts="image")
_COLOUR = Network((64,), layers_per_block=1, groups=8, patch=8, predicts="image")
_NETWORKS = {
    "digits": Network((24,), layers_per_block=1, groups=8, patch=2, predicts="image"),
    "mnist": _GREY,
    "fashion": _GREY,
    "cifar10": _COLOUR,
    "cifar100": _COLOUR,
    "made": Network((20,), layers_per_block=1, groups=4, patch=4, predicts="image"),
}
_REMEMBERING = Training(
    steps=DRAWN // 16,
    batch_size=16,
    learning_rate=3e-3,
    schedule="cosine",
    warmup=50,
    stored="float16",
    weighting="image",
    times="middle",
)
_FEW = 10_000
"""images that members can remember single ones of, at so many draws"""
# Members that draw many images a few times each: classes, groups of thousands, latents.
# Velocity sampled cleaner than noise after the same steps, most of all on patches, where a level
# of 32 channels has to carry 16 input channels through.
_GENERAL = Training(
    steps=3000,
    batch_size=64,
    learning_rate=2e-3,
    schedule="cosine",
    warmup=50,
    stored="float16",
    weighting="velocity",
)


def _laptop(recipe: Recipe) -> Recipe:
    """The laptop scale of a recipe: smaller network, fewer members, shorter training.

    Where a source is one image of some thousands, members remember as the authors' do: each draws
    a fixed number of images, so that an image is the less seen the more there are, and nothing is
    clipped in sampling. Elsewhere members see an image a few times and have to draw well all the
    same.
    """
    data, code = recipe.data, recipe.code
    remembers = data.family in _NETWORKS and data.sources in ("image", "owner")
    remembers &= data.space == "pixel" and data.size < _FEW
    if code.n == 22:
        # One n for a whole family, as in the paper, and enough codewords for its largest ensemble.
        n = FAMILIES[data.family].laptop_members
        n = min(n, 16) if remembers else n
        code = Code(n, n // 2)
    recipe = recipe.replace(scale="laptop", code=code)
    if remembers:
        # Made pictures are fewer; blocks of half an ensemble leave one for each of two cores.
        steps = 3500 if data.family == "made" else DRAWN // 16
        training = dataclasses.replace(_REMEMBERING, steps=steps, block=code.n // 2)
        if image_shape(data)[0] == 3 and data.family != "made":
            # Found later, and as good: one training passes through all exposures.
            training = dataclasses.replace(training, schedule="constant", warmup=0, average=0.1)
        return recipe.replace(
            network=_NETWORKS[data.family], training=training, sampling={"clip": None}
        )
    if data.family == "digits":
        return recipe.replace(
            network=Network((16, 16), layers_per_block=1, groups=8, predicts="velocity"),
            training=dataclasses.replace(_GENERAL, steps=1000, learning_rate=3e-3),
        )
    if recipe.name == "mnist_ba_256":
        # Its states are as small as the digits': ten minutes of one core for all, 3 MB.
        return recipe.replace(
            code=Code(14, 7),
            training=dataclasses.replace(_GENERAL, steps=800, learning_rate=3e-3),
            network=Network((16, 24), layers_per_block=1, groups=8, predicts="velocity"),
        )
    return recipe.replace(
        # Small networks that predict the velocity err off the range of images; clipping, which
        # follows the range that the normalisation puts images in, holds them there.
        sampling={"clip": data.factor / 2 if data.space == "pixel" else None},
        network=Network(
            (32, 32) if image_shape(data)[0] == 1 else (48, 96),
            layers_per_block=1,
            groups=8,
            patch=4 if data.space == "pixel" else 1,
            dropout=recipe.network.dropout,
            predicts="velocity",
        ),
        training=_GENERAL,
    )


def _registry() -> dict[tuple[str, str], Recipe]:
    recipes = []
    if "digits" in FAMILIES:
        recipes += [_digits_recipe(size) for size in DIGITS_SIZES]
        recipes += [_digits_classes(), _digits_binary()]
    if "made" in FAMILIES:
        recipes += [_made()]
    if "mnist" in FAMILIES:
        recipes += [_mnist_ba()]
    recipes += [
        _paper_recipe(row, family)
        for row in _paper_tables().values()
        if (family := _printed(row["origin"])) is not None
    ]
    recipes += [_laptop(recipe) for recipe in recipes]
    return {(recipe.name, recipe.scale): recipe for recipe in recipes}


_RECIPES = _registry()
_BY_SCALE = Known(
    "scale",
    {
        scale: Known("ensemble", {name: r for (name, s), r in _RECIPES.items() if s == scale})
        for scale in SCALES
    },
)


def recipe_names() -> list[str]:
    """Every ensemble in the registry: digits, made pictures, MNIST in latents, table 2, B.3.

    After them the files that recipes were read from in this process.
    """
    return list(dict.fromkeys([name for name, _ in _RECIPES] + list(filter(is_file, _OWN))))


_OWN: dict[str, Recipe] = {}
"""recipes that this process read from files, by the files' paths and by their names"""


def get_recipe(name: str, scale: str = "laptop") -> Recipe:
    """The recipe of a named ensemble, or of a TOML file by its path, which says its own scale.

    From then on its name stands for it, too, in this process. Raises :class:`UnknownName` with the
    closest name, and :class:`BadValue` for a file that is no recipe.
    """
    if is_file(name):
        recipe = read_recipe(name)
        taken = {each for each, _ in _RECIPES}
        if recipe.name in taken and recipe != _RECIPES.get((recipe.name, recipe.scale)):
            raise BadValue(f"{name}: name '{recipe.name}' is another ensemble's; choose another")
        _OWN[str(name)] = _OWN[recipe.name] = recipe
        return recipe
    return _OWN[name] if name in _OWN else _BY_SCALE[scale][name]


def what_names(recipe: Recipe) -> str:
    """What a reader gives to run a recipe: its name, or the path of the file it was read from."""
    paths = (path for path, own in _OWN.items() if own == recipe and is_file(path))
    return next(paths, recipe.name)


def family_of(name: str, scale: str = "laptop") -> list[str]:
    """The ensembles of the same family, source and space as ``name``, by training set size."""
    if str(name) in _OWN or is_file(name):
        return [name]
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
