"""What a notebook asks for: a named ensemble with its landscapes, wherever they come from."""

from dataclasses import dataclass

import numpy as np

from .datasets import FOLDERS, available
from .ensemble import Ensemble
from .errors import AbcError, positive_int
from .landscape import Landscapes, find_landscapes, get_landscapes, images_to_show, merge_landscapes, with_attributed_images
from .radius import LogRadius, summarise
from .recipes import Recipe, digest, family_of, get_recipe, recipe_names, require_available, spec_of, why_unavailable
from .store import Artefact, Store
from .training import cached_members, get_ensemble

DEFAULT_SAMPLES = 12
"""How many samples are computed when nothing is published and nobody says how many."""


@dataclass(frozen=True)
class Run:
    """An ensemble, its landscapes, and how they were come by."""

    recipe: Recipe
    ensemble: Ensemble
    landscapes: Landscapes

    def origin(self) -> str:
        """One paragraph, in Markdown: scale, data, members, hardware, dates, commits."""
        recipe, made = self.recipe, self.ensemble.artefact
        code = self.ensemble.codebook
        trained = made.info.get("trained_on") or [made.provenance["hardware"]]
        commits = made.info.get("trained_from") or [made.provenance["commit"]]
        text = (
            f"**{recipe.name}**, scale *{recipe.scale}*: {recipe.data.size:,} images ({made.info['origin']}) from "
            f"{code.num_sources:,} data sources; {code.n} members of weight {code.weight}, each trained for "
            f"{recipe.training.steps:,} steps of batch {recipe.training.batch_size} on {', '.join(trained)} "
            f"({made.info.get('trained_at', made.provenance['time'])[:10]}, commit {', '.join(commits)}); "
            f"the ensemble is {'published with this repository' if made.published else 'from this machine'}. "
        )
        return text + landscapes_origin(self.landscapes)


def landscapes_origin(landscapes: Landscapes) -> str:
    """Where the landscapes' numbers come from, in a sentence."""
    parts = []
    for artefact in landscapes.artefacts:
        made = artefact.provenance
        where = "published with this repository" if artefact.published else "from this machine"
        parts.append(
            f"{len(artefact.spec['indices'])} samples with {artefact.info['num_sources']:,} counterfactuals each, {where}, computed on "
            f"{made['hardware']} ({made['time'][:10]}, commit {made['commit']}, {artefact.info['seconds']:,.0f} s)"
        )
    return "Landscapes: " + "; ".join(parts) + "."


def run(
    dataset: str,
    num_samples: int | None = None,
    seed: int = 0,
    scale: str = "laptop",
    device: str = "auto",
    recompute: bool = False,
    store: Store | None = None,
    n_jobs: int | None = None,
    progress: bool = True,
) -> Run:
    """The ensemble ``dataset`` and the landscapes of its samples 0 .. num_samples - 1.

    Published results are used if there are any, then this machine's, and what is
    missing is computed. ``num_samples=None`` takes all samples that are there, or
    computes 12. ``recompute`` passes over what is published. Raises an
    :class:`AbcError` of one line for a wrong name, scale or device, and for a recipe
    that cannot run here.
    """
    store = store or Store()
    recipe = require_available(get_recipe(dataset, scale))
    if num_samples is not None:
        positive_int("num_samples", num_samples)
    ensemble = get_ensemble(recipe, store, device, recompute, n_jobs, progress)
    landscapes = find_landscapes(ensemble, seed, store, 8, recompute) if num_samples is None else None
    if landscapes is None:
        wanted = DEFAULT_SAMPLES if num_samples is None else num_samples
        landscapes = get_landscapes(ensemble, wanted, seed, store, recompute, n_jobs=n_jobs, progress=progress)
    if landscapes.attributed_images is None:
        images = images_to_show(recipe)
        landscapes = landscapes if images is None else with_attributed_images(landscapes, images)
    return Run(recipe, ensemble, landscapes)


def stored_landscapes(dataset: str, scale: str = "laptop", store: Store | None = None) -> Landscapes | None:
    """Landscapes of an ensemble that are published or in the cache, without loading its members.

    If several ensembles of this name were trained, the published one counts, else the
    one with most samples.
    """
    store = store or Store()
    recipe = get_recipe(dataset, scale)
    packed = store.find("ensemble", recipe.label, recipe.model_spec)
    groups: dict[tuple, list[Artefact]] = {}
    model, sampling = digest(recipe.model_spec), spec_of(recipe.sampling)
    for artefact in store.find_all("landscape", recipe.label):
        # A variant of a recipe has its name but is another one; so is another way to sample.
        same = artefact.spec["ensemble"] == packed.info["identity"] if packed else artefact.info.get("model") == model
        exact = "tangent_steps" not in artefact.spec
        if same and exact and artefact.spec["sampling"] == sampling:
            groups.setdefault((artefact.spec["ensemble"], artefact.spec["seed"]), []).append(artefact)
    if not groups:
        return None
    best = max(groups.values(), key=lambda artefacts: sum(len(a.spec["indices"]) for a in artefacts))
    return merge_landscapes(best)


def family_radii(dataset: str, scale: str = "laptop", store: Store | None = None) -> dict[str, np.ndarray]:
    """Radii of every sample of each ensemble of a family that has stored landscapes, by training set size."""
    found = {name: stored_landscapes(name, scale, store) for name in family_of(dataset, scale)}
    return {name: landscapes.radii for name, landscapes in found.items() if landscapes is not None}


def summarise_all(radii: dict[str, np.ndarray], scale: str = "laptop") -> list[LogRadius]:
    """:func:`summarise` for each named ensemble."""
    return [summarise(name, get_recipe(name, scale).data.size, values) for name, values in radii.items()]


@dataclass(frozen=True)
class Status:
    """What can be done with a name in the registry on this machine."""

    name: str
    scale: str
    runs: bool
    note: str


def status(name: str, scale: str = "laptop", store: Store | None = None) -> Status:
    """Whether an ensemble is published, can be trained here, or why not, in one line."""
    store = store or Store()
    recipe = get_recipe(name, scale)
    reason = why_unavailable(recipe)
    if reason:
        return Status(name, scale, False, reason)
    try:
        published = store.find("ensemble", recipe.label, recipe.model_spec)
        landscapes = stored_landscapes(name, scale, store)
        trained = published or cached_members(recipe, store)
    except AbcError as error:
        return Status(name, scale, False, str(error))
    samples = f", {len(landscapes)} samples with landscapes" if landscapes is not None else ""
    if trained:
        return Status(name, scale, True, ("published" if published else "trained on this machine") + samples)
    if available(recipe.data.family, recipe.data.split):
        return Status(name, scale, True, "can be trained here: its images are at hand")
    return Status(name, scale, True, f"its images are not at hand: set ABC_DATA to a folder with {FOLDERS[recipe.data.family]}/, "
                                     "put that into data/raw, or let torchvision download them")


def all_statuses(scale: str = "laptop", store: Store | None = None) -> list[Status]:
    """:func:`status` of the whole registry."""
    return [status(name, scale, store) for name in recipe_names()]
