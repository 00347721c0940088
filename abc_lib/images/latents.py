"""Members that live in the latents of an autoencoder (B.1, B.2).

They are trained on cached latents, exogenous noise and trajectories are latent, and every sample
is decoded before a distance is taken or a picture shown: distances are between images everywhere.
"""

from dataclasses import dataclass
from functools import partial

import torch

from abc_lib.ground.errors import ArtefactError, BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact, Content, Store, Workspace, stopwatch
from abc_lib.ground.tasks import run_blocks
from abc_lib.images.autoencoders.base import Autoencoder
from abc_lib.images.autoencoders.basic import find_basic, read_basic, train_basic
from abc_lib.images.autoencoders.recipes import AutoencoderRecipe, basic_recipe
from abc_lib.images.autoencoders.stable import find_stable, get_stable
from abc_lib.images.files import ImageFiles
from abc_lib.images.training_set import TrainingSet, load_split, training_set
from abc_lib.method.recipe import Data, Recipe
from abc_lib.method.space import Space, to_model

FILE = "space.safetensors"
"""in the artefact of members that live in latents: how their latents were normalised"""
_KIND = "latents"
_PIECE = 128
_A_FILE = 8192


# --- what members are trained on ---


@dataclass(frozen=True)
class Latents(TrainingSet):
    """A training set in latents: ``images`` (K, c, h, w) are its latents, with what normalises
    them.

    Where the recipe flips images (B.1), the latents of all mirrored images follow those of
    the images themselves, with the same sources. ``black`` (c, h, w) is the latent of an
    all-black image, which takes a left-out image's place in retraining (3.2).
    """

    shift: torch.Tensor
    factor: torch.Tensor
    black: torch.Tensor


def to_states(images: TrainingSet, data: Data) -> torch.Tensor:
    """A training set as members see it, (K, C, H, W) float32."""
    if isinstance(images, Latents):
        return (images.images - images.shift) * images.factor
    _require_states(images, data)
    return to_model(images.images, data)


def _require_states(images: TrainingSet, data: Data) -> None:
    if data.space != "pixel" or isinstance(images.images, ImageFiles):
        raise BadValue(
            f"members of {data.family} in the space {data.space} cannot be trained on image files "
            "or images; "
            "turn them into states with SPACES[recipe.data.space].states"
        )


def black_state(images: TrainingSet, data: Data) -> torch.Tensor:
    """An all-black image as members see it, (C, H, W)."""
    if isinstance(images, Latents):
        return (images.black - images.shift) * images.factor
    return to_model(torch.zeros(images.images.shape[1:]), data)


def space_files(images: TrainingSet) -> dict[str, Content]:
    """What an artefact of members trained on ``images`` must hold for its states to become images:
    nothing in pixels.
    """
    return (
        {FILE: {"shift": images.shift, "factor": images.factor}}
        if isinstance(images, Latents)
        else {}
    )


# --- living in latents ---


class InLatents:
    """Members that live in the latents of an autoencoder: which one, a subclass says.

    Latents are computed once, in parts, from files where images are large, and kept in the
    cache under the autoencoder's identity and the images' fingerprint.
    """

    by_channel: bool
    """whether each channel is normalised by itself"""

    def at_hand(self, recipe: Recipe, store: Store) -> Autoencoder | None:
        """The autoencoder that is at hand, whichever the recipe is bound to; or None."""
        raise NotImplementedError

    def make(self, recipe: Recipe, here: Here) -> Autoencoder:
        """Trains or downloads the autoencoder."""
        raise NotImplementedError

    def identity(self, recipe: Recipe, store: Store) -> str:
        """Which autoencoder is at hand; empty if none is."""
        autoencoder = self.at_hand(recipe, store)
        return "" if autoencoder is None else autoencoder.identity

    def find_autoencoder(self, recipe: Recipe, store: Store) -> Autoencoder | None:
        """At hand; raises :class:`ArtefactError` for one that the recipe is not bound to."""
        found = self.at_hand(recipe, store)
        return None if found is None else _same(recipe, found)

    def get_autoencoder(self, recipe: Recipe, here: Here) -> Autoencoder:
        """:meth:`find_autoencoder`, else trained or downloaded now; on ``here.device``."""
        autoencoder = self.at_hand(recipe, here.store)
        if autoencoder is None:
            # Nothing is begun that the recipe's own images would be missing for.
            load_split(recipe.data.family, recipe.data.split)
            autoencoder = self.make(recipe, here)
        return _same(recipe, autoencoder).to(here.device)

    def bind(self, recipe: Recipe, store: Store) -> Recipe:
        """With the identity of the autoencoder at hand, unless the recipe has one already."""
        known = recipe.data.autoencoder or self.identity(recipe, store)
        return recipe.replace(data={"autoencoder": known})

    def prepare(self, recipe: Recipe, here: Here) -> Recipe:
        """With the identity of the autoencoder, which is made where there is none."""
        recipe = self.bind(recipe, here.store)
        known = recipe.data.autoencoder or self.get_autoencoder(recipe, here).identity
        return recipe.replace(data={"autoencoder": known})

    def states(self, recipe: Recipe, images: TrainingSet | None, here: Here) -> Latents:
        """The :class:`Latents` of images, None for the recipe's; latents come back as they are."""
        images = training_set(recipe.data) if images is None else images
        if isinstance(images, Latents):
            return images
        autoencoder = self.get_autoencoder(recipe, here)
        return _read_latents(_latents(recipe, autoencoder, images, self.by_channel, here), images)

    def read(self, recipe: Recipe, artefact: Artefact, here: Here) -> Space:
        """With the autoencoder, and the normalisation that the members were trained with."""
        normalisation = artefact.tensors(FILE)
        autoencoder = self.get_autoencoder(recipe, here).to("cpu")
        return Space(recipe.data, autoencoder, normalisation["shift"], normalisation["factor"])


class InBasic(InLatents):
    """In the latents of the family's basic autoencoder, which is published with an ensemble."""

    by_channel = True

    def at_hand(self, recipe: Recipe, store: Store) -> Autoencoder | None:
        """Published or from the cache."""
        return find_basic(_basic(recipe), store)

    def make(self, recipe: Recipe, here: Here) -> Autoencoder:
        """Trained now."""
        basic = _basic(recipe)
        return read_basic(basic, train_basic(basic, here=here))

    def identity(self, recipe: Recipe, store: Store) -> str:
        """As the manifest tells it: the network need not be read."""
        basic = _basic(recipe)
        artefact = store.find("autoencoder", basic.label, basic.spec)
        return "" if artefact is None else artefact.info["identity"]

    def publish(self, recipe: Recipe, here: Here) -> list[Artefact]:
        """The autoencoder."""
        artefact = self.get_autoencoder(recipe, here).artefact
        return [here.store.copy(artefact, "autoencoder")]


class InStable(InLatents):
    """In the latents of Stable Diffusion's autoencoder, all channels normalised as one."""

    by_channel = False

    def at_hand(self, recipe: Recipe, store: Store) -> Autoencoder | None:
        """With its weights on this machine."""
        return find_stable()

    def make(self, recipe: Recipe, here: Here) -> Autoencoder:
        """Downloaded now."""
        return get_stable()


# --- which autoencoder ---


def _basic(recipe: Recipe) -> AutoencoderRecipe:
    found = basic_recipe(recipe.data.family, recipe.scale)
    if found.split == recipe.data.split:
        raise BadValue(
            f"{recipe.name} trains on the {found.split} split of {found.family}, on which its "
            "autoencoder is trained; "
            "an ensemble's images must be new to its autoencoder"
        )
    return found


def _same(recipe: Recipe, autoencoder: Autoencoder) -> Autoencoder:
    if recipe.data.autoencoder and recipe.data.autoencoder != autoencoder.identity:
        raise ArtefactError(
            f"{recipe.name} lives in the latents of the {autoencoder.title} "
            f"{recipe.data.autoencoder}, but that at hand is "
            f"{autoencoder.identity}; bring back the one it was trained with, or train it again "
            f"from get_recipe('{recipe.name}')"
        )
    return autoencoder


# --- cached latents ---


def _encode_task(
    autoencoder: Autoencoder, images, flips: bool, workspace: Workspace, name: str
) -> int:
    pixels = images[:]
    found = {"latents": autoencoder.encode(pixels).cpu()}
    if flips:
        found["flipped"] = autoencoder.encode(pixels.flip(-1)).cpu()
    workspace.save(name, found)
    return len(pixels)


def _latents(
    recipe: Recipe, autoencoder: Autoencoder, images: TrainingSet, by_channel: bool, here: Here
) -> Artefact:
    data = recipe.data
    label = f"{data.family}-{data.split.replace(' ', '-')}-{data.space}"
    spec = {
        "autoencoder": autoencoder.identity,
        "images": images.fingerprint,
        "count": len(images),
        "flips": data.flips,
    }

    def task(start: int) -> tuple:
        chosen, held = slice(start, start + _PIECE), images.images
        part = held.select(chosen) if isinstance(held, ImageFiles) else held[chosen]
        return autoencoder, part, data.flips

    def make(workspace: Workspace) -> Artefact:
        seconds = stopwatch()
        tasks = {
            f"piece-{_PIECE}-{start:07d}": partial(task, start)
            for start in range(0, len(images), _PIECE)
        }
        run_blocks(_encode_task, tasks, workspace, here.device, here, f"latents of {recipe.label}")
        names = list(tasks)
        normalisation = _normalisation(workspace, names, by_channel)
        black = torch.zeros(1, *autoencoder.image_shape)
        normalisation["black"] = autoencoder.encode(black)[0].cpu()
        files = {"normalisation.safetensors": normalisation}
        step = _A_FILE // _PIECE
        for k, first in enumerate(range(0, len(names), step)):
            files[f"latents-{k:03d}.safetensors"] = _Gather(workspace, names[first : first + step])
        info = {
            "seconds": round(seconds(), 1),
            "origin": images.origin,
            "shape": list(autoencoder.shape),
            "space": data.space,
        }
        return here.store.write(_KIND, label, spec, files, info, here.device)

    return here.store.once(_KIND, label, spec, make)


@dataclass
class _Gather:
    """The latents of some pieces, put together only when they are written."""

    workspace: Workspace
    names: list[str]

    def __call__(self) -> dict[str, torch.Tensor]:
        parts = [self.workspace.need(name) for name in self.names]
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def _normalisation(
    workspace: Workspace, names: list[str], by_channel: bool
) -> dict[str, torch.Tensor]:
    """Mean and 1 / standard deviation of all latents, mirrored ones too, (c, 1, 1) each."""
    total = squares = 0
    count = 0
    for name in names:
        for each in workspace.need(name).values():
            each = each.double()
            total, squares = total + each.sum((0, 2, 3)), squares + each.square().sum((0, 2, 3))
            count += each[:, 0].numel()
    mean, square = total / count, squares / count
    if not by_channel:
        mean, square = (value.mean().expand_as(value) for value in (mean, square))
    deviation = (square - mean.square()).clamp(min=0).sqrt()
    # A channel that is the same everywhere stays so; it is not divided by nothing.
    deviation = torch.where(deviation > 1e-6 * mean.abs() + 1e-12, deviation, 1.0)
    return {
        "shift": mean.float()[:, None, None].contiguous(),
        "factor": (1 / deviation).float()[:, None, None].contiguous(),
    }


def _read_latents(artefact: Artefact, images: TrainingSet) -> Latents:
    K, shape, flips = artefact.spec["count"], artefact.info["shape"], artefact.spec["flips"]
    found, start = torch.empty(2 * K if flips else K, *shape), 0
    for name in sorted(name for name in artefact.manifest["files"] if name.startswith("latents-")):
        part = artefact.tensors(name)
        stop = start + len(part["latents"])
        found[start:stop] = part["latents"]
        if flips:
            found[K + start : K + stop] = part["flipped"]
        start = stop
    repeated = {
        key: torch.cat([getattr(images, key)] * (2 if flips else 1))
        for key in ("labels", "sources", "where")
    }
    return Latents(
        images=found,
        origin=images.origin,
        **repeated,
        **artefact.tensors("normalisation.safetensors"),
    )
