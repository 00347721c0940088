"""What the page shows of one ensemble, as the files that it loads.

Data come as scripts that hand one JSON value to a function of the page, because a
page opened from a disk may run scripts beside it but not read other files.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from abc_lib.exchange.mosaic import encode_mosaic, grid, to_bytes
from abc_lib.ground.errors import ArtefactError, BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact
from abc_lib.images.training_set import training_set
from abc_lib.method.attribution import top_counterfactual, top_visual
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.landscape import Landscapes, join
from abc_lib.method.recipe import Recipe
from abc_lib.metrics.visual import visual_distances
from abc_lib.results.class_counts import class_names
from abc_lib.results.landscapes import compute as compute_landscapes
from abc_lib.results.landscapes import find as find_landscapes
from abc_lib.results.landscapes import merge as merge_landscapes
from abc_lib.results.landscapes import read as read_landscapes
from abc_lib.results.landscapes import read_all_images
from abc_lib.results.placebos import landscapes as placebos
from abc_lib.results.run import Run
from abc_lib.training.ensembles import require_ensemble

DECIMALS = 4
"""of the distances that the page is given"""
AGREEMENT = 0.01
"""how far counterfactuals made again may be from stored distances, as a share of the radius"""


def script(value: object) -> bytes:
    """A value as a script that hands it to the page."""
    return f"abcExplorer({json.dumps(value, separators=(',', ':'), allow_nan=False)});\n".encode()


@dataclass(frozen=True)
class Shown:
    """One ensemble's files, named relative to the explorer's folder, and what is said of it.

    ``entry`` is the page's, ``artefacts`` the manifest's.
    """

    entry: dict
    files: dict[str, bytes]
    artefacts: list[str]


def _ensemble(recipe: Recipe, here: Here) -> Ensemble:
    if recipe.data.sources != "image":
        raise BadValue(
            f"the data sources of {recipe.name} are not single images ({recipe.data.sources}), so "
            "there is no training image to leave out; choose an ensemble such as digits_256"
        )
    return require_ensemble(recipe, here).to(here.device)


def _landscapes(
    ensemble: Ensemble, indices: list[int], seed: int, here: Here
) -> tuple[Landscapes, Artefact]:
    """Landscapes of the samples, published ones where there are any, and an artefact with images.

    It has every counterfactual, sampled by this machine; where their distances are not the
    published ones the artefact is refused.
    """
    stored = find_landscapes(ensemble, seed, 1, here=here)
    published = [artefact for artefact in stored.artefacts if artefact.published] if stored else []
    artefact = compute_landscapes(ensemble, indices, seed, 1, all_images=True, here=here)
    again = landscapes = read_landscapes(artefact)
    if published:
        theirs = merge_landscapes(published)
        # of a sample that several parts have, the last counts
        whole = set(indices) <= set(theirs.indices.tolist())
        landscapes = join([theirs] if whole else [again, theirs], indices)
    # another processor rounds otherwise, and 50 steps let that grow a little
    difference = np.abs(again.distances - landscapes.distances).max(axis=1)
    far = np.flatnonzero(difference > AGREEMENT * landscapes.radii)
    if len(far):
        raise ArtefactError(
            f"counterfactuals of sample {indices[far[0]]} of {ensemble.recipe.label}, made again, "
            f"have distances up to {difference[far[0]]:.3g} off the published ones; delete "
            f"{artefact.path} and try again on a CPU"
        )
    return landscapes, artefact


def _sprite(images) -> bytes:
    return encode_mosaic(to_bytes(images))


def _sample(distances: np.ndarray, visual: np.ndarray, chance: np.ndarray | None) -> dict:
    """Distances and the two orders of the sources, best attributed first, which are the page's
    ranks; and distances along codewords that no source owns, farthest first.
    """
    value = {
        "distances": [round(float(d), DECIMALS) for d in distances],
        "counterfactual": top_counterfactual(distances[None], len(distances))[0].tolist(),
        "visual": top_visual(visual[None], len(visual))[0].tolist(),
    }
    if chance is not None:
        value["placebos"] = [round(float(d), DECIMALS) for d in np.sort(chance)[::-1]]
    return value


def _origin(run: Run, again: Artefact) -> str:
    made = again.provenance
    return (
        f"{run.origin().replace('*', '')} Counterfactual images made again on {made['hardware']} "
        f"({made['time'][:10]}, commit {made['commit']})."
    )


def show_ensemble(recipe: Recipe, indices: Iterable[int], seed: int, here: Here) -> Shown:
    """The page's files for samples ``indices`` of one ensemble under ``seed``.

    Published distances are used as they are, missing ones computed; all counterfactual
    images are sampled again and held against the published distances.
    """
    ensemble = _ensemble(recipe, here)
    images = training_set(recipe.data)
    trained = ensemble.artefact.info["origin"]
    if images.origin != trained:
        raise BadValue(
            f"{recipe.label} was trained on other images ({trained}) than those at hand "
            f"({images.origin}); put the former into a data folder"
        )
    indices, N = list(indices), recipe.data.num_sources
    landscapes, again = _landscapes(ensemble, indices, seed, here)
    visual = visual_distances(landscapes.factual, images)
    chance = placebos.get(ensemble, indices, seed, here) if placebos.has_any(ensemble) else None

    folder = recipe.label
    files = {
        f"{folder}/training.png": _sprite(images.images),
        f"{folder}/samples.png": _sprite(landscapes.factual),
    }
    for row, index in enumerate(indices):
        files[f"{folder}/{index:04d}.png"] = _sprite(read_all_images(again, index))
        free = placebos.of_sample(chance, seed, index)
        files[f"{folder}/{index:04d}.js"] = script(
            _sample(landscapes.distances[row], visual[row], free)
        )
    names = class_names(recipe.data.family)
    entry = {
        "name": recipe.name,
        "scale": recipe.scale,
        "folder": folder,
        "sources": N,
        "side": images.images.shape[-1],
        # columns and rows of the mosaics of N sources and of the samples
        "grid": grid(N)[::-1],
        "sample_grid": grid(len(indices))[::-1],
        "samples": indices,
        "radii": [round(float(r), DECIMALS) for r in landscapes.radii],
        "labels": [names[label] for label in images.labels.tolist()],
        "origin": _origin(Run(recipe, ensemble, landscapes), again),
    }
    artefacts = [ensemble.artefact, *landscapes.artefacts, again]
    artefacts += chance.artefacts if chance else []
    places = [f"{artefact.path.parent.name}/{artefact.path.name}" for artefact in artefacts]
    return Shown(entry, files, list(dict.fromkeys(places)))
