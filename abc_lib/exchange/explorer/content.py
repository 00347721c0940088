"""What the page shows of one ensemble, as the files that it loads.

Data come as scripts that hand one JSON value to a function of the page, because a
page opened from a disk may run scripts beside it but not read other files.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from abc_lib.exchange.mosaic import encode_mosaic, grid, to_bytes
from abc_lib.ground.devices import resolve_device
from abc_lib.ground.errors import ArtefactError, BadValue
from abc_lib.ground.store import Artefact, Store
from abc_lib.images.training_set import training_set
from abc_lib.method.attribution import top_counterfactual, top_visual
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.landscape import Landscapes, join
from abc_lib.method.recipe import Recipe
from abc_lib.metrics.visual import visual_distances
from abc_lib.results.class_counts import class_names
from abc_lib.results.landscapes import (
    compute_landscapes,
    find_landscapes,
    merge_landscapes,
    read_all_images,
    read_landscapes,
)
from abc_lib.results.run import Run
from abc_lib.training.members import require_ensemble

DECIMALS = 4
"""of the distances that the page is given"""
AGREEMENT = 0.01
"""how far counterfactuals made again may be from stored distances, as a share of the sample's radius"""


def script(value: object) -> bytes:
    """A value as a script that hands it to the page."""
    return f"abcExplorer({json.dumps(value, separators=(',', ':'), allow_nan=False)});\n".encode()


@dataclass(frozen=True)
class Shown:
    """One ensemble's files (names relative to the explorer's folder) and what the page and the manifest say of it."""

    entry: dict
    files: dict[str, bytes]
    artefacts: list[str]


def _require_shown(recipe: Recipe) -> Recipe:
    if recipe.data.sources != "image":
        raise BadValue(
            f"the data sources of {recipe.name} are not single images ({recipe.data.sources}), so there is no training image "
            "to leave out; choose an ensemble such as digits_256"
        )
    return recipe


def _ensemble(recipe: Recipe, store: Store, device: str) -> Ensemble:
    return require_ensemble(recipe, store).to(resolve_device(device))


def _landscapes(
    ensemble: Ensemble, indices: list[int], seed: int, store: Store, **options
) -> tuple[Landscapes, Artefact]:
    """Landscapes of the samples, the published ones where there are any, and an artefact with every counterfactual image.

    The images are sampled by this machine; where their distances are not the published
    ones the artefact is refused.
    """
    found = find_landscapes(ensemble, seed, store, keep=1)
    published = (
        merge_landscapes([artefact for artefact in found.artefacts if artefact.published])
        if found
        else None
    )
    artefact = compute_landscapes(ensemble, indices, seed, store, 1, all_images=True, **options)
    parts = [read_landscapes(artefact)]
    if published is not None:
        # of a sample that several parts have, the last counts
        whole = set(indices) <= set(published.indices.tolist())
        landscapes = join([published] if whole else [*parts, published], indices)
    else:
        landscapes = parts[0]
    # another processor rounds otherwise, and 50 steps let that grow a little
    difference = np.abs(parts[0].distances - landscapes.distances).max(axis=1)
    far = np.flatnonzero(difference > AGREEMENT * landscapes.radii)
    if len(far):
        raise ArtefactError(
            f"counterfactuals of sample {indices[far[0]]} of {ensemble.recipe.label}, made again, have distances up to "
            f"{difference[far[0]]:.3g} off the published ones; delete {artefact.path} and try again on a CPU"
        )
    return landscapes, artefact


def _sprite(images) -> bytes:
    return encode_mosaic(to_bytes(images))


def _sample(distances: np.ndarray, visual: np.ndarray) -> dict:
    """Distances and the two orders of the sources, best attributed first; all that the page knows of ranks."""
    return {
        "distances": [round(float(d), DECIMALS) for d in distances],
        "counterfactual": top_counterfactual(distances[None], len(distances))[0].tolist(),
        "visual": top_visual(visual[None], len(visual))[0].tolist(),
    }


def _plain(markdown: str) -> str:
    return markdown.replace("*", "")


def _made_again(artefact: Artefact) -> str:
    made = artefact.provenance
    return f" Counterfactual images made again on {made['hardware']} ({made['time'][:10]}, commit {made['commit']})."


def show_ensemble(
    recipe: Recipe, indices: Iterable[int], seed: int, store: Store, device: str, **options
) -> Shown:
    """The page's files for samples ``indices`` of one ensemble under ``seed``.

    Published distances are used as they are, missing ones computed; all counterfactual
    images are sampled again and held against the published distances. ``options`` go to
    :func:`compute_landscapes`.
    """
    ensemble = _ensemble(_require_shown(recipe), store, device)
    images = training_set(recipe.data)
    trained = ensemble.artefact.info["origin"]
    if images.origin != trained:
        raise BadValue(
            f"{recipe.label} was trained on other images ({trained}) than those at hand ({images.origin}); put the former into a data folder"
        )
    indices, N = list(indices), recipe.data.num_sources
    landscapes, again = _landscapes(ensemble, indices, seed, store, **options)
    visual = visual_distances(landscapes.factual, images)

    folder = recipe.label
    files = {
        f"{folder}/training.png": _sprite(images.images),
        f"{folder}/samples.png": _sprite(landscapes.factual),
    }
    for row, index in enumerate(indices):
        files[f"{folder}/{index:04d}.png"] = _sprite(read_all_images(again, index))
        files[f"{folder}/{index:04d}.js"] = script(_sample(landscapes.distances[row], visual[row]))
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
        "origin": _plain(Run(recipe, ensemble, landscapes).origin()) + _made_again(again),
    }
    artefacts = [ensemble.artefact, *landscapes.artefacts, again]
    return Shown(
        entry,
        files,
        list(dict.fromkeys(f"{each.path.parent.name}/{each.path.name}" for each in artefacts)),
    )
