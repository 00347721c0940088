"""What a page opens with: an ensemble with its landscapes, and what is at hand of all names."""

import json
from dataclasses import dataclass

import numpy as np

from abc_lib.ground.errors import AbcError, BadValue, positive_int
from abc_lib.ground.here import Here
from abc_lib.images.autoencoders import stable
from abc_lib.images.registry import get_recipe, recipe_names
from abc_lib.images.spaces import SPACES
from abc_lib.images.training_set import available, how_to_get
from abc_lib.method.code import Codebook, draw_codebook
from abc_lib.method.differential import Jacobians
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.landscape import Landscapes
from abc_lib.method.recipe import Recipe
from abc_lib.results import jacobians, landscapes
from abc_lib.training.ensembles import cached_members, get_ensemble

__all__ = [
    "Predictions",
    "Run",
    "Status",
    "all_statuses",
    "ensemble_origin",
    "predictions",
    "published_origin",
    "run",
    "status",
    "stored_predictions",
]


@dataclass(frozen=True)
class Run:
    """An ensemble, its landscapes, and how they were come by."""

    recipe: Recipe
    ensemble: Ensemble
    landscapes: Landscapes

    def origin(self) -> str:
        """One paragraph, in Markdown: scale, data, members, hardware, dates, commits."""
        return f"{ensemble_origin(self.ensemble)} {landscapes.origin(self.landscapes)}"


def run(
    dataset: str,
    num_samples: int | None = None,
    seed: int = 0,
    scale: str = "laptop",
    here: Here | None = None,
) -> Run:
    """The ensemble ``dataset`` and the landscapes of its samples 0 .. num_samples - 1.

    ``dataset`` is a name of the registry or the path of a recipe's TOML file.
    Published results are used if there are any, then this machine's, and what is
    missing is computed. ``num_samples=None`` takes all samples that are there, or
    computes 12. Raises an :class:`AbcError` of one line for a wrong name, scale or device, and
    for a recipe that cannot run here.
    """
    here = here or Here()
    recipe = get_recipe(dataset, scale)
    if num_samples is not None:
        # before anything is trained
        positive_int("num_samples", num_samples)
    ensemble = get_ensemble(recipe, here)
    return Run(recipe, ensemble, landscapes.get(ensemble, num_samples, seed, here=here))


def ensemble_origin(ensemble: Ensemble) -> str:
    """Where an ensemble comes from, in a sentence."""
    recipe, artefact, code = ensemble.recipe, ensemble.artefact, ensemble.codebook
    info, provenance = artefact.info, artefact.provenance
    hardware = info.get("trained_on") or [provenance["hardware"]]
    commits = info.get("trained_from") or [provenance["commit"]]
    day = info.get("trained_at", provenance["time"])[:10]
    place = "published with this repository" if artefact.published else "from this machine"
    return (
        f"**{recipe.name}**, scale *{recipe.scale}*: {recipe.data.size:,} images "
        f"({info['origin']}) from {code.num_sources:,} data sources; {code.n} members of weight "
        f"{code.weight}, each trained for {recipe.training.steps:,} steps of batch "
        f"{recipe.training.batch_size} on {', '.join(hardware)} ({day}, commit "
        f"{', '.join(commits)}); the ensemble is {place}."
    )


def published_origin(here: Here | None = None) -> str:
    """Where all that is published comes from, in a sentence."""
    manifests = sorted((here or Here()).store.published.glob("*/*/manifest.json"))
    made = [json.loads(path.read_text(encoding="utf-8"))["provenance"] for path in manifests]
    if not made:
        return "Nothing is published here."
    days = sorted({each["time"][:10] for each in made})
    commits = {each["commit"] for each in made}
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    hardware = ", ".join(sorted({each["hardware"] for each in made}))
    return (
        f"{len(made)} published result{'s' * (len(made) > 1)}, computed on {hardware} ({when}), "
        f"from {len(commits)} commit{'s' * (len(commits) > 1)}; the `manifest.json` beside each "
        "result under `data/published` names its own."
    )


@dataclass(frozen=True)
class Predictions:
    """Differential predictions beside exact distances, (S, N) each, of samples that have both."""

    name: str
    indices: np.ndarray
    predicted: np.ndarray
    exact: np.ndarray


def predictions(exact: Landscapes, moved: Jacobians, codebook: Codebook) -> Predictions:
    """Matches landscapes and Jacobians of one ensemble by sample.

    Raises :class:`BadValue` where no sample has both.
    """
    both = [int(i) for i in exact.indices if i in set(moved.indices.tolist())]
    if exact.seed != moved.seed or not both:
        raise BadValue(
            f"no sample of {exact.name} has both a landscape and a Jacobian; compute them for the "
            "same samples and seed"
        )
    rows = [int(np.flatnonzero(exact.indices == i)[0]) for i in both]
    predicted = moved.only(both).landscape(codebook)
    return Predictions(exact.name, np.array(both), predicted, exact.distances[rows])


def stored_predictions(scale: str = "laptop", here: Here | None = None) -> dict[str, Predictions]:
    """:func:`predictions` of every named ensemble that has both at hand, without its members."""
    known = {}
    for name in recipe_names():
        recipe = get_recipe(name, scale)
        exact, moved = landscapes.stored(recipe, here), jacobians.stored(recipe, here)
        if exact is None or moved is None or exact.seed != moved.seed:
            continue
        if set(exact.indices.tolist()) & set(moved.indices.tolist()):
            known[name] = predictions(exact, moved, draw_codebook(recipe))
    return known


@dataclass(frozen=True)
class Status:
    """What can be done with a name in the registry on this machine."""

    name: str
    scale: str
    runs: bool
    note: str


def status(name: str, scale: str = "laptop", here: Here | None = None) -> Status:
    """Whether an ensemble is published, can be trained here, or which images or weights it lacks,
    in one line."""
    here = here or Here()
    recipe = get_recipe(name, scale)
    try:
        recipe = SPACES[recipe.data.space].bind(recipe, here.store)
        published = here.store.find("ensemble", recipe.label, recipe.model_spec)
        known = landscapes.stored(recipe, here)
        trained = published or cached_members(recipe, here)
    except AbcError as error:
        return Status(name, scale, False, str(error))
    if trained:
        samples = "" if known is None else f", {len(known)} samples with landscapes"
        place = "published" if published else "trained on this machine"
        return Status(name, scale, True, place + samples)
    shown = "" if known is None else f"{len(known)} samples with landscapes are at hand; "
    lacks = []
    if not available(recipe.data.family, recipe.data.split):
        lacks.append(f"its images are not at hand: {how_to_get(recipe.data.family)}")
    needs_weights = recipe.data.space == "stable-diffusion" and not recipe.data.autoencoder
    if needs_weights and not stable.at_hand():
        lacks.append(f"{stable.TITLE} is not at hand: {stable.REMEDY}, or let it be downloaded")
    if lacks:
        # What is published is shown without images; nothing is trained before they are here.
        return Status(name, scale, known is not None, shown + "; ".join(lacks))
    ready = recipe.data.space == "pixel" or recipe.data.autoencoder
    first = "" if ready else ", its autoencoder is trained or read first"
    return Status(name, scale, True, f"{shown}can be trained here: its images are at hand{first}")


def all_statuses(scale: str = "laptop", here: Here | None = None) -> list[Status]:
    """:func:`status` of the whole registry."""
    return [status(name, scale, here) for name in recipe_names()]
