"""Pictures that look alike though they lie in different sources: leaving one source out would not
take its picture away.

Perceptual hashes (``imagehash.phash``: signs of the lowest frequencies) of a picture, of windows
of it, and of its turns and mirror images propose pairs in which one picture may be a crop of the
other; the correlation of their pixels decides. Grey is blind to most changes of colour, and the
largest channel to the hue.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
from PIL import Image, ImageChops
from scipy.ndimage import uniform_filter

NEAR = 12
"""bits, of 64, by which two hashes may differ for a pair to be looked at"""
ALIKE = 0.8
"""correlation from which on two pictures are alike; tests/test_own_alike.py plants what it finds"""
_SIDE = 96
_WINDOWS = (0.925, 0.85, 0.775, 0.7)
"""sides of the windows; four by four of each, so that a crop lies near one"""
_SMOOTH, _SURE = 15, 0.95
_TURNS = (None, *Image.Transpose)


@dataclass(frozen=True, eq=False)
class Signature:
    """What is compared of a picture: by grey and by its largest channel, row 0 and 1.

    ``small`` (2, 96, 96) uint8 is the picture; ``turns`` (2, 8) uint64 hashes of its turns and
    mirror images; ``windows`` those of itself and, by grey, of windows of it.
    """

    small: np.ndarray
    turns: np.ndarray
    windows: tuple[np.ndarray, np.ndarray]


def _hash(image: Image.Image) -> np.uint64:
    return np.packbits(imagehash.phash(image).hash.ravel()).view(np.uint64)[0]


def _turned(image: Image.Image) -> list[Image.Image]:
    return [image if turn is None else image.transpose(turn) for turn in _TURNS]


def _boxes() -> list[tuple[float, float, float]]:
    """Left, top and side of the whole and of its windows."""
    boxes = [(0.0, 0.0, float(_SIDE))]
    for side in (_SIDE * share for share in _WINDOWS):
        places = np.linspace(0, _SIDE - side, 4)
        boxes += [(x, y, side) for x in places for y in places]
    return boxes


def _cut(image: Image.Image, box: tuple[float, float, float], size: int = 32) -> Image.Image:
    left, top, side = box
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BOX, box=box, reducing_gap=None)


def signature_of(image: Image.Image) -> Signature:
    """Of an RGB picture, squeezed to a square: a copy may be stretched."""
    small = image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    red, green, blue = small.split()
    layers = [small.convert("L"), ImageChops.lighter(ImageChops.lighter(red, green), blue)]
    return Signature(
        np.stack([np.asarray(layer) for layer in layers]),
        np.array([[_hash(turn) for turn in _turned(layer)] for layer in layers]),
        tuple(
            np.array([_hash(_cut(layer, box)) for box in boxes])
            for layer, boxes in zip(layers, (_boxes(), _boxes()[:1]))
        ),
    )


def pairs_alike(signatures: Sequence[Signature], owners: Sequence) -> list[tuple[int, int, float]]:
    """Pairs of pictures of different owners that look alike: positions i < j, and how much.

    Hashes propose them; the best correlation of pixels, at most 1, decides.
    """
    turns = np.stack([each.turns for each in signatures])
    numbers = np.unique(np.asarray(owners), return_inverse=True)[1]
    found: dict[tuple[int, int], float] = {}
    for i, each in enumerate(signatures):
        for layer in (0, 1):
            apart = np.bitwise_count(each.windows[layer][:, None, None] ^ turns[:, layer])
            near = (apart.min((0, 2)) <= NEAR) & (numbers != numbers[i])
            for j in np.flatnonzero(near).tolist():
                key = min(i, j), max(i, j)
                if found.get(key, 0.0) >= ALIKE:
                    continue
                window, turn = np.unravel_index(apart[:, j].argmin(), apart[:, j].shape)
                alike = _alike(each.small[layer], window, signatures[j].small[layer], turn)
                found[key] = max(alike, found.get(key, 0.0))
    return [(i, j, alike) for (i, j), alike in sorted(found.items()) if alike >= ALIKE]


def _alike(one: np.ndarray, window: int, other: np.ndarray, turn: int) -> float:
    """The highest correlation of a turned picture with windows of another near the given one."""
    aim = _flat(_turned(Image.fromarray(other))[turn].resize((32, 32), Image.Resampling.BOX))
    left, top, side = _boxes()[window]
    image, best = Image.fromarray(one), 0.0
    for shorter in (0, 3, -3):
        for x in (0, 3, -3, 6, -6):
            for y in (0, 3, -3, 6, -6):
                size = min(_SIDE, side + shorter)
                a, b = (float(np.clip(v, 0, _SIDE - size)) for v in (left + x, top + y))
                best = max(best, float(_flat(_cut(image, (a, b, size))) @ aim))
                if best >= _SURE:
                    return best
    return best


def _flat(image: Image.Image) -> np.ndarray:
    """Pixels of mean 0 and length 1, without slow shading: two skies are not alike for it."""
    values = np.asarray(image, dtype=np.float64)
    values = values - uniform_filter(values, _SMOOTH, mode="nearest")
    values -= values.mean()
    return (values / (np.linalg.norm(values) + 1e-9)).ravel()
