"""Pictures by artists that are programmes: styles that are known, and no download.

Each of 24 artists has a motif, a palette of four colours on a ground, a stroke, a tilt and a
density of their own. A picture by one of them is drawn anew from chance: where the shapes lie, how
large they are, and a little of their colour. Shapes are tests on coordinates, four by four to a
pixel, so a picture is the same to the bit wherever it is drawn.
"""

import colorsys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from abc_lib.ground.seeds import derive
from abc_lib.images.family import Family

ARTISTS = 24
PICTURES = {"ensemble": 8, "held out": 12}
"""of each artist, in each split"""
SIDE, FINE = 32, 4
"""pixels of a side, and points that each is the mean of, along a side"""


def _disc(x, y):
    return np.hypot(x, y) - 1


def _square(x, y):
    return np.maximum(abs(x), abs(y)) - 0.85


def _triangle(x, y):
    return np.maximum(-y - 0.55, 0.5 * y + 0.87 * abs(x) - 0.6)


def _cross(x, y):
    return np.minimum(np.maximum(abs(x) - 0.3, abs(y) - 1), np.maximum(abs(x) - 1, abs(y) - 0.3))


def _bar(x, y):
    return np.maximum(abs(x) - 0.22, abs(y) - 2)


def _wave(x, y):
    # a parabola to each side: an S without a sine
    return abs(y - 0.9 * x * (1.4 - abs(x))) - 0.22 + np.maximum(abs(x) - 1.4, 0)


def _crescent(x, y):
    return np.maximum(np.hypot(x, y) - 1, 0.85 - np.hypot(x - 0.45, y))


def _diamond(x, y):
    return 0.7 * (abs(x) + 0.6 * abs(y)) - 0.6


MOTIFS = (_disc, _square, _triangle, _cross, _bar, _wave, _crescent, _diamond)
"""below 0 inside, in units of the shape's size"""
STROKES = (None, 0.22, 0.4)
"""filled, or an outline of such a width in the same units"""


@dataclass(frozen=True)
class Artist:
    """A style: shapes (``motif``) in ``colours`` (4, 3) on ``ground`` (3,), all in [0, 1].

    ``stroke`` is the width of outlines, ``tilt`` the angle that shapes keep to, give or take
    ``sway``, in radians; ``shapes`` and ``size`` say how many there are and how large, in pictures.
    """

    motif: int
    ground: np.ndarray
    colours: np.ndarray
    stroke: float | None
    tilt: float
    sway: float
    shapes: int
    size: float


@lru_cache(maxsize=ARTISTS)
def artist(number: int) -> Artist:
    """One of the artists, 0..23: each motif is three artists', with other strokes and palettes."""
    rng = np.random.default_rng(derive("made artist", number))
    motif, kind = number % len(MOTIFS), number // len(MOTIFS)
    hue, spread = (number * 5 % ARTISTS) / ARTISTS, (0.04, 0.09, 0.5)[(number + kind) % 3]
    dark = number % 2
    colours = [
        colorsys.hsv_to_rgb(
            (hue + spread * k / 3) % 1, rng.uniform(0.55, 1), (1 if dark else 0.65) - 0.1 * k
        )
        for k in range(4)
    ]
    ground = colorsys.hsv_to_rgb((hue + 0.5) % 1, rng.uniform(0.1, 0.5), 0.2 if dark else 0.95)
    few = bool(rng.integers(2))
    return Artist(
        motif,
        np.array(ground),
        np.array(colours),
        STROKES[(kind + motif) % 3],
        float(rng.uniform(0, np.pi)),
        float(rng.choice([0.1, 0.5])),
        5 if few else 12,
        0.3 if few else 0.17,
    )


def picture(number: int, split: str, index: int) -> np.ndarray:
    """Picture ``index`` of an artist in a split, (3, 32, 32) uint8."""
    style = artist(number)
    rng = np.random.default_rng(derive("made picture", number, split, index))
    points = (np.arange(SIDE * FINE) + 0.5) / (SIDE * FINE)
    across, down = np.meshgrid(points, points)
    canvas = np.broadcast_to(style.ground, (*across.shape, 3)).copy()
    for _ in range(style.shapes):
        size = style.size * rng.uniform(0.7, 1.3)
        angle = style.tilt + style.sway * rng.uniform(-1, 1)
        x, y = across - rng.uniform(0, 1), down - rng.uniform(0, 1)
        turned = (np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x)
        depth = MOTIFS[style.motif](turned[0] / size, turned[1] / size)
        inside = depth < 0
        if style.stroke is not None:
            inside &= depth > -style.stroke
        colour = style.colours[rng.integers(4)] + rng.uniform(-0.06, 0.06, 3)
        canvas[inside] = colour.clip(0, 1)
    pixels = canvas.reshape(SIDE, FINE, SIDE, FINE, 3).mean(axis=(1, 3))
    return (pixels * 255).round().astype(np.uint8).transpose(2, 0, 1)


@lru_cache(maxsize=2)
def _drawn(split: str) -> tuple[np.ndarray, np.ndarray]:
    owners = np.repeat(np.arange(ARTISTS), PICTURES[split])
    each = [picture(a, split, k) for a in range(ARTISTS) for k in range(PICTURES[split])]
    return np.ascontiguousarray(np.stack(each)), owners


def _load(root: Path, split: str) -> tuple[torch.Tensor, torch.Tensor, str]:
    """A split; the labels are the artists."""
    pictures, owners = _drawn(split)
    images, labels = torch.from_numpy(pictures), torch.from_numpy(owners)
    return images, labels, f"made pictures, {split} half"


FAMILY = Family(
    name="made",
    title="made pictures",
    shape=(3, SIDE, SIDE),
    splits=tuple(PICTURES),
    reference={"ensemble": "held out"},
    present=lambda root, split: True,
    read=_load,
    unseen="held out",
    steps=20_000,
    laptop_members=10,
)
