"""Radii of the ensembles at hand, beside the paper's (3.5, 3.6)."""

import numpy as np

from abc_lib.ground import paper
from abc_lib.ground.here import Here
from abc_lib.images.registry import family_of, get_recipe, recipe_names
from abc_lib.method.radius import LogRadius, summarise
from abc_lib.method.recipe import Recipe
from abc_lib.results import landscapes

__all__ = ["of_all", "of_family", "paper_summaries", "summaries"]


def paper_summaries() -> list[LogRadius]:
    """The paper's 23 ensembles, summarised as ours are."""
    groups = paper.radii().groupby("ensemble", sort=False)
    return [
        summarise(name, group["training_set_size"].iloc[0], 10 ** group["log10_radius"])
        for name, group in groups
    ]


def _at_hand(recipes: list[Recipe], here: Here | None) -> dict[str, np.ndarray]:
    stored = {recipe.name: landscapes.stored(recipe, here) for recipe in recipes}
    return {name: each.radii for name, each in stored.items() if each is not None}


def of_family(recipe: Recipe, here: Here | None = None) -> dict[str, np.ndarray]:
    """Radii of every sample of each ensemble of a family that is at hand, by training set size."""
    names = family_of(recipe.name, recipe.scale)
    return _at_hand([get_recipe(name, recipe.scale) for name in names], here)


def of_all(scale: str = "laptop", here: Here | None = None) -> dict[str, np.ndarray]:
    """Radii of every ensemble with landscapes at hand that figure 7 would show.

    Their images are not binarised, and their sources are no groups, classes or owners.
    """
    recipes = [get_recipe(name, scale) for name in recipe_names()]
    grouped = ("class", "group", "owner")
    shown = [r for r in recipes if not r.data.binarise and r.data.sources not in grouped]
    return _at_hand(shown, here)


def summaries(radii: dict[str, np.ndarray], scale: str = "laptop") -> list[LogRadius]:
    """:func:`abc_lib.method.radius.summarise` for each named ensemble."""
    return [
        summarise(name, get_recipe(name, scale).data.size, values) for name, values in radii.items()
    ]
