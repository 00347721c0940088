"""Recipes as TOML files: read strictly, written so that they come back equal.

A file has the tables of a recipe, ``data``, ``code``, ``network``, ``training``, ``diffusion`` and
``sampling``, with the fields that :mod:`abc_lib.method.recipe` documents. For own pictures the
table ``folder`` stands in place of most of ``data``.
"""

import dataclasses
import json
import math
import re
import tomllib
import typing
from functools import lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

import torch

from abc_lib.ground.errors import AbcError, BadValue, unknown
from abc_lib.ground.files import bounded_file
from abc_lib.images.families import FAMILIES
from abc_lib.images.own.content import is_own, kept
from abc_lib.images.own.folder import DUPLICATES, SIZES, content_of, look_at
from abc_lib.method.code import draw_codebook
from abc_lib.method.network import build_network
from abc_lib.method.recipe import (
    SCALES,
    Code,
    Data,
    Diffusion,
    Network,
    Recipe,
    Sampling,
    Shape,
    Training,
)
from abc_lib.method.space import state_shape

__all__ = ["as_toml", "read_recipe", "Folder"]

LARGEST = 2**20
"""bytes of a recipe"""
PARTS = {
    "data": Data,
    "code": Code,
    "network": Network,
    "training": Training,
    "diffusion": Diffusion,
    "sampling": Sampling,
}


@dataclasses.dataclass(frozen=True)
class Folder:
    """The table ``folder``: where own pictures lie, and how they are taken."""

    path: str
    """from the recipe's own folder"""
    sources: str = "folder"
    """``folder``, ``file``, or the path of a CSV file with the columns file and source"""
    size: int = 32
    colour: bool = True
    duplicates: str = "merge"
    """what becomes of pictures of different sources that look alike: ``merge`` those sources,
    ``drop`` the pictures, or ``keep`` them with a warning"""


_CHOICES = {
    "scale": SCALES,
    "folder.size": SIZES,
    "folder.duplicates": DUPLICATES,
    "data.family": FAMILIES,
    "data.sources": ("image", "class", "group", "owner", "celebrity", "artist"),
    "data.space": ("pixel", "basic", "stable-diffusion"),
    "network.predicts": ("noise", "velocity", "image"),
    "diffusion.beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
    "training.schedule": ("constant", "cosine"),
    "training.precision": ("float32", "bfloat16"),
    "training.stored": ("float32", "float16", "bfloat16"),
    "training.weighting": ("noise", "velocity", "image"),
    "training.times": ("uniform", "middle"),
    "sampling.sampler": ("ddpm", "ddim"),
}
# Numbers that may be 0, or negative; every other is more than 0.
_FROM_ZERO = {
    "training.warmup",
    "training.block",
    "training.average",
    "network.dropout",
    "network.down_attention",
    "network.up_attention",
    "data.num_sources",
}
_ANY = {"data.subset_seed", "data.shift", "code.seed", "training.seed"}
# A folder decides these.
_FOLLOW = ("family", "split", "size", "sources", "num_sources", "subset_seed", "autoencoder")


def is_file(name: object) -> bool:
    """Whether a name of an ensemble is the path of a recipe's file."""
    return str(name).endswith(".toml")


# --- reading ---


def read_recipe(path: Path | str) -> Recipe:
    """The recipe in a TOML file; of own pictures, with the pictures that are there now.

    Raises :class:`BadValue` or another :class:`AbcError` in one line that names the file and the
    key.
    """
    with bounded_file(path, LARGEST) as file:
        return parse_recipe(file.read(), Path(path))


def parse_recipe(text: bytes, path: Path) -> Recipe:
    """The recipe in the text of a file that lies, or will lie, at ``path``: as the above."""
    try:
        tables = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise BadValue(f"{path} is not TOML ({reason}); mend that line") from None
    try:
        return _recipe(tables, path.parent)
    except AbcError as error:
        raise type(error)(f"{path}: {error}") from None


def _recipe(tables: dict, root: Path) -> Recipe:
    known = ("name", "scale", "folder", *PARTS)
    for key in tables:
        if key not in known:
            raise unknown("key", key, known)
    name, scale = _name(tables.get("name")), _value("scale", str, tables.get("scale", "laptop"))
    parts = {
        key: _part(key, PARTS[key], tables.get(key, {}))
        for key in PARTS
        if key != "data" or "folder" not in tables
    }
    if "folder" in tables:
        folder = _part("folder", Folder, tables["folder"])
        # First what costs nothing to check: then a slip is told before pictures are read.
        parts["data"] = _folder_data(folder, tables.get("data", {}), root)
    recipe = Recipe(name, scale, **parts)
    _require_possible(recipe)
    return recipe


def _name(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"\w{1,60}", name):
        raise BadValue(
            f"name is {_shown(name)}; it must be a text of letters, digits and _, at most 60"
        )
    return name


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _part(key: str, kind: type, table: Any) -> Any:
    """A part of a recipe from its table; fields that it does not have keep their defaults."""
    if not isinstance(table, dict):
        raise BadValue(f"{key} is {_shown(table)}; it must be a table, [{key}]")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    types = typing.get_type_hints(kind)
    for name in table:
        if name not in fields:
            raise unknown("key", f"{key}.{name}", [f"{key}.{each}" for each in fields])
    for name, field in fields.items():
        if name not in table and field.default is dataclasses.MISSING:
            raise BadValue(f"{key}.{name} is missing; say it in the table [{key}]")
    values = {name: _value(f"{key}.{name}", types[name], value) for name, value in table.items()}
    try:
        return kind(**values)
    except BadValue as error:
        raise BadValue(f"{key}.{error}") from None


def _value(key: str, kind: Any, value: Any) -> Any:
    """A value of the type that a field has."""
    if isinstance(kind, UnionType):
        if value == "none":
            return None
        (kind,) = (each for each in typing.get_args(kind) if each is not NoneType)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list) or not 0 <= len(value) <= 16:
            raise BadValue(f"{key} is {_shown(value)}; it must be a list of whole numbers")
        return tuple(_value(key, int, each) for each in value)
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole if kind is int else isinstance(value, kind) or (kind is float and whole)):
        raise BadValue(f"{key} is {_shown(value)}; it must be {words[kind]}")
    if key in _CHOICES and value not in _CHOICES[key]:
        choices = ", ".join(str(each) for each in _CHOICES[key])
        raise BadValue(f"{key} is {_shown(value)}; choose one of {choices}")
    if kind in (int, float) and not _in_range(key, value):
        least = "" if key in _ANY else " from 0 on" if key in _FROM_ZERO else " above 0"
        raise BadValue(f"{key} is {_shown(value)}; it must be a number{least} within reason")
    return kind(value)


def _in_range(key: str, value: float) -> bool:
    if key in _ANY:
        return abs(value) < 2**63
    return (
        math.isfinite(value) and value < 1e9 and (value > 0 or (value == 0 and key in _FROM_ZERO))
    )


def _folder_data(folder: Folder, table: Any, root: Path) -> Data:
    for key in _FOLLOW:
        if isinstance(table, dict) and key in table:
            raise BadValue(f"data.{key} follows from the folder; remove it")
    stand_in = {"family": f"folder_colour_{folder.size}", "split": "", "size": 1}
    data = _part("data", Data, table if not isinstance(table, dict) else stand_in | table)
    if data.space != "pixel" or data.binarise:
        raise BadValue(
            "data.space of a folder is pixel and data.binarise false: it has no pictures that no "
            "member sees, to train an autoencoder on; remove them"
        )
    table_of_sources = folder.sources not in ("folder", "file")
    sources = str(root / folder.sources) if table_of_sources else folder.sources
    look = look_at(root / folder.path, sources)
    content = content_of(look, folder.size, folder.colour, folder.duplicates)
    return dataclasses.replace(
        data,
        family=f"folder_{'colour' if folder.colour else 'grey'}_{folder.size}",
        split=content.keep(),
        size=len(content.images),
        sources="owner",
        num_sources=len(content.people),
    )


def _require_possible(recipe: Recipe) -> None:
    """Raises where a recipe cannot be: its code, its network, its split."""
    splits = FAMILIES[recipe.data.family].splits
    if splits and recipe.data.split not in splits:
        raise BadValue(
            f"data.split is {_shown(recipe.data.split)}; choose one of {', '.join(splits)}"
        )
    if not recipe.data.num_sources:
        raise BadValue("data.num_sources is missing; say how many own the images")
    if recipe.data.num_sources > recipe.data.size:
        raise BadValue(
            f"data.num_sources is {recipe.data.num_sources}, more than data.size, which is "
            f"{recipe.data.size}"
        )
    try:
        words = draw_codebook(recipe).words
    except BadValue as error:
        raise BadValue(f"code: {error}") from None
    if is_own(recipe.data.family) and not kept(recipe.data.split).seen_by_members(words).all():
        raise BadValue("code.seed gives a member no picture to see; take another, or more weight")
    if recipe.training.warmup > recipe.training.steps:
        raise BadValue("training.warmup is longer than training.steps; shorten it")
    if recipe.sampling.steps > recipe.diffusion.train_steps:
        raise BadValue("sampling.steps are more than diffusion.train_steps; take fewer")
    _require_network(recipe.network, state_shape(recipe.data), recipe.diffusion)


@lru_cache(maxsize=64)
def _require_network(network: Network, shape: Shape, diffusion: Diffusion) -> None:
    try:
        # On no device: nothing is computed and no memory is taken.
        with torch.device("meta"):
            build_network(network, shape, 0, diffusion)
    except AbcError as error:
        raise BadValue(f"network: {error}") from None
    except (ValueError, IndexError, ZeroDivisionError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise BadValue(f"network cannot be built ({reason[:120]}); mend its table") from None


# --- writing ---


def as_toml(recipe: Recipe) -> str:
    """A recipe as the text of a TOML file, every field written out; it comes back equal."""
    lines = [f"name = {literal(recipe.name)}", f"scale = {literal(recipe.scale)}"]
    for part in PARTS:
        lines += ["", f"[{part}]"]
        value = getattr(recipe, part)
        for field in dataclasses.fields(value):
            lines.append(f"{field.name} = {literal(getattr(value, field.name))}")
    return "\n".join(lines) + "\n"


def literal(value: Any) -> str:
    """A value as TOML writes it; its texts are JSON's, and so are its lists of numbers."""
    if value is None:
        return '"none"'
    if isinstance(value, float):
        return repr(value)
    text = json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")
