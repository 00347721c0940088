"""Which classifiers there are, as frozen values (B.5)."""

import dataclasses
from dataclasses import dataclass

from abc_lib.ground.digests import spec_of
from abc_lib.ground.errors import unknown
from abc_lib.method.recipe import SCALES
from abc_lib.training.classifier.network import ResNetShape


@dataclass(frozen=True)
class Attack:
    """PGD in the Euclidean ball around an image (torchattacks' PGDL2), on pixels in [0, 1]."""

    radius: float
    step: float
    steps: int


@dataclass(frozen=True)
class ClassifierRecipe:
    """Everything that fixes a classifier."""

    family: str
    scale: str
    attack: Attack
    """the adversary it is trained with, and that picks the best epoch"""
    judge: Attack
    """the adversary of the accuracy that is reported: the paper's"""
    network: ResNetShape = ResNetShape()
    epochs: int = 50
    """normal ones"""
    adversarial_epochs: int = 50
    batch_size: int = 128
    """the paper does not print it"""
    attacked: int = 0
    """how many validation images are attacked; 0 for all of them"""
    seed: int = 0
    stored: str = "float32"
    """the type the finished parameters are rounded to: what is stored is the classifier"""

    @property
    def label(self) -> str:
        """``family-scale``, as in file names."""
        return f"{self.family}-{self.scale}"

    @property
    def spec(self) -> dict:
        """What determines the classifier; its hash names the artefact."""
        return {
            key: spec_of(value) if dataclasses.is_dataclass(value) else value
            for key, value in spec_of(self).items()
        }


# A radius of 3 and steps of 0.2 are for 32x32 images. The same image at 8x8 is a quarter
# as long a vector, so its adversary goes a quarter as far.
_JUDGES = {
    "digits": Attack(0.75, 0.05, 50),
    "mnist": Attack(3.0, 0.2, 50),
    "fashion": Attack(1.0, 0.2, 50),
}


def _registry() -> dict[tuple[str, str], ClassifierRecipe]:
    recipes = {}
    for family, judge in _JUDGES.items():
        small = family == "digits"
        recipes[family, "paper"] = ClassifierRecipe(
            family, "paper", judge, judge, ResNetShape(stride=1) if small else ResNetShape()
        )
        # A few long steps that could cross the ball, instead of many short ones.
        short = Attack(judge.radius, 0.4 * judge.radius, 5)
        recipes[family, "laptop"] = ClassifierRecipe(
            family,
            "laptop",
            short,
            judge,
            stored="float16",
            attacked=0 if small else 1000,
            network=ResNetShape((32, 64), (1, 1), stride=1)
            if small
            else ResNetShape((16, 32, 64), (1, 1, 1), stride=4),
            epochs=30 if small else 2,
            adversarial_epochs=50 if small else 5,
            batch_size=64 if small else 128,
        )
    return recipes


_RECIPES = _registry()
CLASSIFIER_FAMILIES = tuple(_JUDGES)
"""the families that have a classifier"""


def classifier_recipe(family: str, scale: str = "laptop") -> ClassifierRecipe:
    """The recipe of a family's classifier; raises :class:`UnknownName` with the closest name."""
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    if family not in CLASSIFIER_FAMILIES:
        raise unknown("classifier", family, CLASSIFIER_FAMILIES)
    return _RECIPES[family, scale]


def recipe_of(family: str | ClassifierRecipe, scale: str) -> ClassifierRecipe:
    return family if isinstance(family, ClassifierRecipe) else classifier_recipe(family, scale)
