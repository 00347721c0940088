"""Where a recipe's members live: pixels, or the latents of an autoencoder (B.1, B.2).

This is the one place that decides the shape of a state, how images become states, and
how a state becomes an image again. In a latent space members are trained on cached
latents, exogenous noise and trajectories are latent, and every sample is decoded before
a distance is taken or a picture shown: distances are between images everywhere.

A recipe of the registry says which kind of autoencoder it lives in; :func:`bind` says
which one, by its identity, and with that the recipe's artefacts have their names.
"""

import dataclasses
from dataclasses import dataclass
from functools import partial

import torch

from abc_lib.ground.errors import ArtefactError, BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact, Content, Store, Workspace, stopwatch
from abc_lib.ground.tasks import run_blocks
from abc_lib.images.autoencoders.base import Autoencoder
from abc_lib.images.autoencoders.basic import find_basic, read_basic, train_basic
from abc_lib.images.autoencoders.recipes import basic_recipe
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


# --- which autoencoder ---


def _basic(recipe: Recipe):
    found = basic_recipe(recipe.data.family, recipe.scale)
    if found.split == recipe.data.split:
        raise BadValue(
            f"{recipe.name} trains on the {found.split} split of {found.family}, on which its "
            "autoencoder is trained; "
            "an ensemble's images must be new to its autoencoder"
        )
    return found


def find_autoencoder(recipe: Recipe, store: Store) -> Autoencoder | None:
    """The autoencoder of a recipe's space if it is published, in the cache or, with its weights, on
    this machine; else None.
    """
    if recipe.data.space == "pixel":
        return None
    found = find_basic(_basic(recipe), store) if recipe.data.space == "basic" else find_stable()
    return None if found is None else _same(recipe, found)


def get_autoencoder(recipe: Recipe, here: Here | None = None) -> Autoencoder:
    """The autoencoder of a latent recipe, on ``here.device``.

    Found, else trained (basic) or downloaded (Stable Diffusion) now.
    """
    here = here or Here()
    autoencoder = find_autoencoder(recipe, here.store)
    if autoencoder is None:
        # Nothing is begun that the recipe's own images would be missing for.
        load_split(recipe.data.family, recipe.data.split)
        if recipe.data.space == "basic":
            basic = _basic(recipe)
            autoencoder = read_basic(basic, train_basic(basic, here=here))
        else:
            autoencoder = get_stable()
    return _same(recipe, autoencoder).to(here.device)


def _same(recipe: Recipe, autoencoder: Autoencoder) -> Autoencoder:
    if recipe.data.autoencoder and recipe.data.autoencoder != autoencoder.identity:
        raise ArtefactError(
            f"{recipe.name} lives in the latents of the {autoencoder.title} "
            f"{recipe.data.autoencoder}, but that at hand is "
            f"{autoencoder.identity}; bring back the one it was trained with, or train it again "
            f"from get_recipe('{recipe.name}')"
        )
    return autoencoder


def _bound(recipe: Recipe, autoencoder: Autoencoder) -> Recipe:
    return recipe.replace(data={"autoencoder": autoencoder.identity})


def bind(recipe: Recipe, store: Store) -> Recipe:
    """The recipe with its autoencoder's identity filled in, if that is at hand; a pixel recipe as
    it is.

    A latent recipe that comes back without one has no artefacts here yet.
    """
    if recipe.data.space == "pixel" or recipe.data.autoencoder:
        return recipe
    if recipe.data.space == "basic":
        # the manifest tells; the network need not be read
        basic = _basic(recipe)
        artefact = store.find("autoencoder", basic.label, basic.spec)
        return (
            recipe
            if artefact is None
            else recipe.replace(data={"autoencoder": artefact.info["identity"]})
        )
    autoencoder = find_autoencoder(recipe, store)
    return recipe if autoencoder is None else _bound(recipe, autoencoder)


def prepare(recipe: Recipe, here: Here) -> Recipe:
    """:func:`bind`, with the autoencoder trained or downloaded where it is not at hand."""
    recipe = bind(recipe, here.store)
    if recipe.data.space == "pixel" or recipe.data.autoencoder:
        return recipe
    return _bound(recipe, get_autoencoder(recipe, here))


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
            "turn them into states with training_states"
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


def read_space(recipe: Recipe, artefact: Artefact, here: Here) -> Space:
    """The space of the members in an artefact, on the CPU."""
    if recipe.data.space == "pixel":
        return Space(recipe.data)
    normalisation = artefact.tensors(FILE)
    autoencoder = get_autoencoder(recipe, here).to("cpu")
    return Space(recipe.data, autoencoder, normalisation["shift"], normalisation["factor"])


# --- cached latents ---


def training_states(
    recipe: Recipe, images: TrainingSet | None = None, here: Here | None = None
) -> TrainingSet:
    """What members are trained on: images, by default the recipe's training set, or
    :class:`Latents`.

    Latents are computed once, in parts, from files where images are large, and kept in the
    cache under the autoencoder's identity and the images' fingerprint.
    """
    here = here or Here()
    images = training_set(recipe.data) if images is None else images
    if recipe.data.space == "pixel" or isinstance(images, Latents):
        lazy = isinstance(images.images, ImageFiles)
        return dataclasses.replace(images, images=images.images[:]) if lazy else images
    return _read_latents(_latents(recipe, get_autoencoder(recipe, here), images, here), images)


def _encode_task(
    autoencoder: Autoencoder, images, flips: bool, workspace: Workspace, name: str
) -> int:
    pixels = images[:]
    found = {"latents": autoencoder.encode(pixels).cpu()}
    if flips:
        found["flipped"] = autoencoder.encode(pixels.flip(-1)).cpu()
    workspace.save(name, found)
    return len(pixels)


def _latents(recipe: Recipe, autoencoder: Autoencoder, images: TrainingSet, here: Here) -> Artefact:
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
        normalisation = _normalisation(workspace, names, by_channel=data.space == "basic")
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
        parts = [self.workspace.load(name) for name in self.names]
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def _normalisation(
    workspace: Workspace, names: list[str], by_channel: bool
) -> dict[str, torch.Tensor]:
    """Mean and 1 / standard deviation of all latents, mirrored ones too, (c, 1, 1) each."""
    total = squares = 0
    count = 0
    for name in names:
        for each in workspace.load(name).values():
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
