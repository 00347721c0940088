"""Where a recipe's members live: pixels, or the latents of an autoencoder (B.1, B.2).

``SPACES[recipe.data.space]`` decides how images become states and which artefacts a recipe has.
A recipe of the registry says which kind of autoencoder it lives in; :meth:`Home.bind` says which
one, by its identity, and with that the recipe's artefacts have their names. Whoever gets a recipe
from outside binds it first, and nobody below asks again.
"""

import dataclasses
from typing import Protocol

from abc_lib.ground.errors import Known
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact, Store
from abc_lib.images.autoencoders.base import Autoencoder
from abc_lib.images.files import ImageFiles
from abc_lib.images.latents import InBasic, InStable
from abc_lib.images.training_set import TrainingSet, training_set
from abc_lib.method.recipe import Recipe
from abc_lib.method.space import Space


class Home(Protocol):
    """What depends on the space that members live in.

    Raises :class:`BadValue` for a recipe that cannot live there, and :class:`ArtefactError`
    where the autoencoder at hand is not the one that the recipe is bound to.
    """

    def find_autoencoder(self, recipe: Recipe, store: Store) -> Autoencoder | None:
        """The autoencoder if it is published, in the cache or, with its weights, on this machine;
        else None.
        """

    def bind(self, recipe: Recipe, store: Store) -> Recipe:
        """The recipe with its autoencoder's identity filled in, if that is at hand.

        A latent recipe that comes back without one has no artefacts here yet.
        """

    def prepare(self, recipe: Recipe, here: Here) -> Recipe:
        """:meth:`bind`, with the autoencoder trained or downloaded where it is not at hand."""

    def states(self, recipe: Recipe, images: TrainingSet | None, here: Here) -> TrainingSet:
        """What members are trained on: ``images``, None for the recipe's, or their latents."""

    def read(self, recipe: Recipe, artefact: Artefact, here: Here) -> Space:
        """The space of the members in an artefact, on the CPU."""

    def publish(self, recipe: Recipe, here: Here) -> list[Artefact]:
        """Publishes what nobody could look at a sample without."""


class InPixels:
    """Images are states as they are, and there is no autoencoder."""

    def find_autoencoder(self, recipe: Recipe, store: Store) -> None:
        """There is none."""

    def bind(self, recipe: Recipe, store: Store) -> Recipe:
        """The recipe as it is."""
        return recipe

    def prepare(self, recipe: Recipe, here: Here) -> Recipe:
        """The recipe as it is."""
        return recipe

    def states(self, recipe: Recipe, images: TrainingSet | None, here: Here) -> TrainingSet:
        """The images, read into memory where they lie in files."""
        images = training_set(recipe.data) if images is None else images
        lazy = isinstance(images.images, ImageFiles)
        return dataclasses.replace(images, images=images.images[:]) if lazy else images

    def read(self, recipe: Recipe, artefact: Artefact, here: Here) -> Space:
        """Of the recipe's range."""
        return Space(recipe.data)

    def publish(self, recipe: Recipe, here: Here) -> list[Artefact]:
        """Nothing."""
        return []


SPACES: dict[str, Home] = Known(
    "space", {"pixel": InPixels(), "basic": InBasic(), "stable-diffusion": InStable()}
)
"""Where members live, by ``recipe.data.space``."""
