"""Recipes from what a certificate spells out, whether or not the registry has them."""

import dataclasses
import types
import typing

from abc_lib.exchange.certificates.hashes import refused
from abc_lib.ground.digests import digest
from abc_lib.method.recipe import Code, Data, Diffusion, Network, Recipe, Sampling, Training

_PARTS = {
    "data": Data,
    "code": Code,
    "network": Network,
    "training": Training,
    "diffusion": Diffusion,
}


def plain(spec: object) -> object:
    """A spec as JSON gives it back: lists for tuples."""
    if isinstance(spec, dict):
        return {key: plain(value) for key, value in spec.items()}
    return [plain(value) for value in spec] if isinstance(spec, tuple | list) else spec


def _fits(value: object, kind: object) -> bool:
    """Whether a value is of an annotated type; a truth value is no number."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, one) for one in inner)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(one, inner[0]) for one in value)
    return type(value) is kind


def _part(cls: type, name: str, spec: object):
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if not isinstance(spec, dict) or set(spec) - set(fields):
        raise refused(f"recipe.spec.{name}", f"must be an object with some of {', '.join(fields)}")
    values = {
        key: tuple(value) if isinstance(value, list) else value for key, value in spec.items()
    }
    for key, field in fields.items():
        if key not in values and field.default is dataclasses.MISSING:
            raise refused(f"recipe.spec.{name}.{key}", "is missing")
        if key in values and not _fits(values[key], field.type):
            why = f"is {str(values[key])[:40]!r}, which is of the wrong type"
            raise refused(f"recipe.spec.{name}.{key}", why)
    return cls(**values)


def recipe_of(content: dict) -> Recipe:
    """The recipe of a certificate, with its sampling."""
    stated = content["recipe"]
    spec = stated["spec"]
    if set(spec) != {"name", "scale", *_PARTS}:
        raise refused("recipe.spec", f"must have name, scale, {', '.join(_PARTS)} and no more")
    for key in ("name", "scale"):
        if spec[key] != stated[key]:
            raise refused(f"recipe.{key}", f"is not that of recipe.spec, {str(spec[key])[:40]!r}")
    recipe = Recipe(
        stated["name"],
        stated["scale"],
        **{key: _part(cls, key, spec[key]) for key, cls in _PARTS.items()},
        sampling=Sampling(**content["sampling"]),
    )
    # A default that is spelled out would give the same recipe another digest.
    if plain(recipe.model_spec) != spec:
        raise refused("recipe.spec", "spells out a default, which a spec leaves out")
    if digest(spec) != stated["digest"]:
        raise refused("recipe.digest", f"is not that of recipe.spec, {digest(spec)}")
    return recipe
