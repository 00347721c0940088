"""A recipe for a folder, chosen from what is in it, with the reason beside each value."""

import json
import os
import re
from math import comb
from pathlib import Path

import numpy as np

from abc_lib.images.own.folder import BY_FILE, Look, content_of
from abc_lib.images.own.sheet import plain
from abc_lib.method.code import Codebook

EXPOSURE = 500
"""how often a member sees each of its pictures: from there on members remember (page *memory*)"""
BATCH = 16
MOST_STEPS = 20_000
_SEEDS = 2000
_FREE = 20
"""codewords there should be for each source"""


def members_for(num_sources: int) -> int:
    """The least even n, from 8 on, with twenty codewords of weight n / 2 for each source."""
    n = 8
    while comb(n, n // 2) < _FREE * num_sources:
        n += 2
    return n


def _words(n: int, num_sources: int, seed: int) -> np.ndarray:
    return Codebook.draw(n, n // 2, num_sources, seed).words


def text_literal(text: str) -> str:
    """A text as TOML writes it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def propose(look: Look, sources: str, recipe_path: Path) -> str:
    """The text of a recipe for a folder. Raises :class:`BadValue` for fewer than two sources.

    ``sources`` is as for :func:`look_at`; paths in the recipe are from where it will lie.
    """
    sides = np.array([min(picture.size) for picture in look.pictures] or [0])
    size = 64 if np.quantile(sides, 0.1) >= 64 and len(sides) <= 200 else 32
    colour = not all(picture.grey for picture in look.pictures)
    content = content_of(look, size, colour, "merge")
    N, K = len(content.people), len(content.images)
    n = members_for(N)
    seed = next((k for k in range(_SEEDS) if content.seen_by_members(_words(n, N, k)).all()), 0)
    seen = float(content.seen_by_members(_words(n, N, seed)).mean())
    steps = max(100, min(MOST_STEPS, round(EXPOSURE * seen / BATCH)))
    root = recipe_path.resolve().parent
    where = {
        "path": Path(os.path.relpath(look.path.resolve(), root)).as_posix(),
        "sources": sources,
    }
    if sources not in ("folder", BY_FILE):
        where["sources"] = Path(os.path.relpath(Path(sources).resolve(), root)).as_posix()
    owned = {
        "folder": "a subfolder is a source",
        BY_FILE: "each file is a source: no two subfolders have pictures",
    }.get(sources, "the CSV file says whose each picture is")
    if size == 64:
        why = f"nine of ten pictures have 64 pixels a side or more, and {K} train in minutes"
    elif len(sides) > 200:
        why = f"64 would take four times as long, and there are {K} pictures"
    else:
        why = f"one picture in ten has fewer than 64 pixels a side; the smallest has {sides.min()}"
    alike = "pictures of different sources that look alike: there are none"
    if look.pairs:
        alike = f'{len(look.pairs)} across sources look alike; or "drop" them, or "keep" them'
    width, patch = (40, 8) if size == 32 else (64, 8)
    exposure = steps * BATCH / max(1, seen)
    comment = "\n".join(
        f"#   {k:3} {plain(who)}: {sum(k in owners for owners in content.owners)}"
        for k, who in enumerate(content.people[:100])
    )
    more = f"\n#   and {N - 100} more" if N > 100 else ""
    return f"""\
# {K} pictures of {N} sources. Written by python -m abc_lib new; change what you like.
# Sources by number, and how many pictures each has:
{comment}{more}
name = {text_literal(_name(recipe_path.stem))}
scale = "laptop"

[folder]
path = {text_literal(where["path"])}  # from here
sources = {text_literal(where["sources"])}  # {owned}
size = {size}  # {why}
colour = {str(colour).lower()}  # {"some pictures have colours" if colour else "all are grey"}
duplicates = "merge"  # {alike}

[data]
flips = false  # true mirrors pictures at random: more variety, less memory

[code]
n = {n}  # members; {comb(n, n // 2):,} codewords, at least {_FREE} a source: the rest are placebos
seed = {seed}  # the first that gives every member pictures to see
weight = {n // 2}  # members that see a source: half of them gives the most codewords

[network]  # the one that remembers most for its time: the book's page on memory
channels = [{width}]
layers_per_block = 1
groups = 8
patch = {patch}
predicts = "image"

[training]
steps = {steps}  # so that a member sees each of its {seen:.0f} pictures about {exposure:.0f} times
batch_size = {BATCH}
learning_rate = 0.003
schedule = "cosine"
warmup = 50
stored = "float16"
weighting = "image"
times = "middle"
block = 1  # each member alone: a changed picture trains only those again that saw it

[sampling]
clip = "none"
"""


def _name(stem: str) -> str:
    return re.sub(r"\W+", "_", stem)[:60].strip("_") or "my_pictures"
