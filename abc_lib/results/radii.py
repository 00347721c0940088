"""Radii of the ensembles at hand, beside the paper's (3.5, 3.6)."""

import numpy as np

from abc_lib.ground.paper import paper_radii
from abc_lib.ground.store import Store
from abc_lib.images.registry import family_of, get_recipe, recipe_names
from abc_lib.method.radius import LogRadius, summarise
from abc_lib.results.run import stored_landscapes


def paper_summaries() -> list[LogRadius]:
    """The paper's 23 ensembles, summarised as ours are."""
    groups = paper_radii().groupby("ensemble", sort=False)
    return [
        summarise(name, group["training_set_size"].iloc[0], 10 ** group["log10_radius"])
        for name, group in groups
    ]


def family_radii(
    dataset: str, scale: str = "laptop", store: Store | None = None
) -> dict[str, np.ndarray]:
    """Radii of every sample of each ensemble of a family that has stored landscapes, by training set size."""
    found = {name: stored_landscapes(name, scale, store) for name in family_of(dataset, scale)}
    return {name: landscapes.radii for name, landscapes in found.items() if landscapes is not None}


def all_radii(scale: str = "laptop", store: Store | None = None) -> dict[str, np.ndarray]:
    """Radii of every ensemble with stored landscapes whose images are not binarised and whose sources are no groups or classes, as in figure 7."""
    found = {}
    for name in recipe_names():
        data = get_recipe(name, scale).data
        if not data.binarise and data.sources not in ("class", "group"):
            landscapes = stored_landscapes(name, scale, store)
            if landscapes is not None:
                found[name] = landscapes.radii
    return found


def summarise_all(radii: dict[str, np.ndarray], scale: str = "laptop") -> list[LogRadius]:
    """:func:`summarise` for each named ensemble."""
    return [
        summarise(name, get_recipe(name, scale).data.size, values) for name, values in radii.items()
    ]
