"""How the basic autoencoder of each family is trained (B.1, B.4)."""

from dataclasses import dataclass

from abc_lib.ground.digests import spec_of
from abc_lib.ground.errors import BadValue
from abc_lib.images.families import FAMILIES
from abc_lib.method.recipe import SCALES

UNSEEN = {family.name: family.unseen for family in FAMILIES.values() if family.unseen}
"""the split an autoencoder is trained on: one that the ensembles in its latents do not see (B.1)"""


@dataclass(frozen=True)
class AutoencoderRecipe:
    """A basic autoencoder at one scale.

    First ``epochs`` of the squared error alone, then ``patch_epochs`` with the patch loss
    added (see :func:`abc_lib.autoencoders.basic.patch_loss`); Adam with PyTorch's defaults.
    """

    family: str
    scale: str
    split: str
    width: int = 64
    latent_channels: int = 4
    epochs: int = 10
    patch_epochs: int = 574
    batch_size: int = 64
    learning_rate: float = 1e-3
    schedule: str = "constant"
    """``constant``, or ``cosine``: a half cosine to zero over all steps"""
    patches: tuple[tuple[int, float], ...] = ((8, 4.0), (4, 8.0), (2, 16.0), (1, 32.0))
    """sides of patches in pixels, and what the largest error among patches of this side counts"""
    size: int = 0
    """only the first so many images of the split; 0 takes all"""
    seed: int = 0

    @property
    def label(self) -> str:
        """``family-basic-scale``, as in file names."""
        return f"{self.family}-basic-{self.scale}"

    @property
    def spec(self) -> dict:
        """What determines the trained autoencoder; its hash names the artefact."""
        return spec_of(self)


# Tried on one core: narrow and short, and still recognisable digits.
_LAPTOP = {
    "digits": {"width": 16, "epochs": 20, "patch_epochs": 60},
    **dict.fromkeys(
        ("mnist", "fashion"),
        {"width": 16, "epochs": 1, "patch_epochs": 3, "batch_size": 32, "size": 20_000},
    ),
}


def basic_recipe(family: str, scale: str) -> AutoencoderRecipe:
    """The recipe of a family's basic autoencoder; raises :class:`BadValue` for a family that has
    none.
    """
    if family not in UNSEEN or scale not in SCALES:
        raise BadValue(
            f"there is no basic autoencoder for '{family}' at scale '{scale}'; choose one of "
            f"{', '.join(UNSEEN)}"
        )
    if scale == "paper":
        return AutoencoderRecipe(family, scale, UNSEEN[family])
    changes = {"width": 32, "epochs": 2, "patch_epochs": 8, "schedule": "cosine"} | _LAPTOP.get(
        family, {}
    )
    return AutoencoderRecipe(family, scale, UNSEEN[family], **changes)
