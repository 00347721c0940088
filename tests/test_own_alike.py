"""Pictures that look alike across sources: what is planted is found, at a stated rate."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_images
from test_own import drawn

from abc_lib.images.own.duplicates import pairs_alike, signature_of


def recompressed(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def cropped(image, share, rng):
    """A crop anywhere, with ``share`` of each side."""
    width, height = (round(side * share) for side in image.size)
    x, y = rng.integers(0, image.width - width + 1), rng.integers(0, image.height - height + 1)
    return image.crop((x, y, x + width, y + height))


def hued(image, turn):
    hue, *others = image.convert("HSV").split()
    turned = hue.point(lambda value: (value + turn) % 256)
    return Image.merge("HSV", (turned, *others)).convert("RGB")


def sepia(image):
    return ImageOps.colorize(image.convert("L"), "#1a0a00", "#ffe8c0")


# What is planted, and the share of it that must be found.
PLANTED = {
    "the same": (lambda image, rng: image, 1.0),
    "mirrored": (lambda image, rng: ImageOps.mirror(image), 1.0),
    "upside down": (lambda image, rng: ImageOps.flip(image), 1.0),
    "turned": (lambda image, rng: image.rotate(90, expand=True), 1.0),
    "JPEG at 20": (lambda image, rng: recompressed(image, 20), 0.95),
    "half the size": (lambda image, rng: image.reduce(2), 0.95),
    "stretched": (lambda image, rng: image.resize((200, 120)), 0.95),
    "brighter": (lambda image, rng: ImageEnhance.Brightness(image).enhance(1.4), 0.9),
    "less contrast": (lambda image, rng: ImageEnhance.Contrast(image).enhance(0.6), 0.95),
    "in grey": (lambda image, rng: image.convert("L").convert("RGB"), 0.95),
    "another hue": (lambda image, rng: hued(image, 40), 0.95),
    "sepia, JPEG at 40": (lambda image, rng: recompressed(sepia(image), 40), 0.95),
    "nine tenths": (lambda image, rng: cropped(image, 0.9, rng), 0.95),
    "eight tenths": (lambda image, rng: cropped(image, 0.8, rng), 0.85),
    "mirrored crop": (lambda image, rng: ImageOps.mirror(cropped(image, 0.85, rng)), 0.9),
}


@pytest.fixture(scope="module")
def originals():
    """Thirty drawn pictures, and ten squares of two photographs that do not overlap."""
    photographs = [Image.fromarray(each) for each in load_sample_images().images]
    squares = [
        each.crop((x, y, x + 200, y + 200))
        for each in photographs
        for x, y in ((0, 0), (210, 0), (420, 0), (0, 210), (420, 210))
    ]
    return [drawn(seed, (180, 150)) for seed in range(30)] + squares


@pytest.fixture(scope="module")
def signatures(originals):
    return [signature_of(image) for image in originals]


@pytest.mark.parametrize("what", PLANTED)
def test_what_is_planted_is_found(what, originals, signatures):
    change, share = PLANTED[what]
    rng = np.random.default_rng(0)
    every = range(0, len(originals), 3)
    found = [
        bool(pairs_alike([signatures[k], signature_of(change(originals[k], rng))], [0, 1]))
        for k in every
    ]
    assert np.mean(found) >= share, f"{sum(found)} of {len(found)}"


def test_different_pictures_are_not_alike(signatures):
    pairs = len(signatures) * (len(signatures) - 1) // 2
    assert len(pairs_alike(signatures, range(len(signatures)))) <= 0.002 * pairs


def test_only_pictures_of_different_sources_count(signatures):
    twice = [*signatures[:3], *signatures[:3]]
    found = pairs_alike(twice, ["a", "b", "c", "a", "c", "b"])
    assert [(i, j) for i, j, _ in found] == [(1, 4), (2, 5)]
    assert all(alike == pytest.approx(1) for *_, alike in found)
