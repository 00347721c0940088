"""Mosaics: many equal images in one PNG of 8 bits, row by row."""

import io
import math
import warnings

import numpy as np
import torch
from PIL import Image

from abc_lib.exchange.guards import decoding, refused
from abc_lib.ground.errors import BadValue

_MODES = {1: "L", 3: "RGB"}


def to_bytes(images: torch.Tensor) -> torch.Tensor:
    """Images in [0, 1] as the nearest of 256 grey levels, uint8; half a level goes to the even one.

    Raises :class:`BadValue` for NaN and for values outside [0, 1].
    """
    if not images.is_floating_point():
        raise BadValue(
            f"images of type {images.dtype} have no scale; give floating-point values in [0, 1]"
        )
    if not bool(((images >= 0) & (images <= 1)).all()):
        raise BadValue(
            "images to be written in 8 bits must lie in [0, 1], without NaN; clip them first"
        )
    return (images.double() * 255).round().to(torch.uint8)


def _pixel_limit() -> int:
    # Pillow warns above its limit; who has lifted it altogether still gets a bound here.
    return Image.MAX_IMAGE_PIXELS or 2**28


def grid(count: int) -> tuple[int, int]:
    """Rows and columns of a mosaic of ``count`` tiles: as square as can be, no row empty."""
    columns = math.isqrt(count - 1) + 1
    return -(-count // columns), columns


def encode_mosaic(images: torch.Tensor) -> bytes:
    """A PNG of ``images`` (K, C, H, W), uint8, C = 1 (grey) or 3 (colour); spare tiles are black.

    Raises :class:`BadValue` for other shapes and for mosaics larger than Pillow opens
    without a warning.
    """
    count, channels, height, width = images.shape
    if channels not in _MODES or images.dtype != torch.uint8 or images.numel() == 0:
        raise BadValue(
            f"a mosaic is made of uint8 images (K, 1 or 3, H, W), not of {tuple(images.shape)} "
            f"{images.dtype}"
        )
    rows, columns = grid(count)
    if rows * height * columns * width > _pixel_limit():
        raise BadValue(
            f"a mosaic of {count} images of {height}x{width} is larger than the {_pixel_limit()} "
            "pixels that are safely opened; export fewer samples at once"
        )
    canvas = np.zeros((rows * columns, height, width, channels), np.uint8)
    canvas[:count] = images.permute(0, 2, 3, 1).numpy()
    canvas = canvas.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    canvas = canvas.reshape(rows * height, columns * width, channels)
    if channels == 1:
        canvas = canvas[..., 0]
    buffer = io.BytesIO()
    Image.fromarray(canvas, _MODES[channels]).save(buffer, "PNG")
    return buffer.getvalue()


def largest_png(count: int, shape: tuple[int, int, int]) -> int:
    """No sound mosaic of ``count`` tiles (C, H, W) takes more bytes, in grey or in colour."""
    _, height, width = shape
    return 65_536 + 4 * count * height * (width * 3 + 1) * 65 // 64


def decode_mosaic(data: bytes, count: int, shape: tuple[int, int, int], name: str) -> torch.Tensor:
    """The first ``count`` tiles of ``shape`` (C, H, W) of a PNG, uint8 (count, C, H, W).

    Its size is held against the tiles before a pixel is decoded: whole tiles, at least
    ``count`` and at most four times as many (a square grid of 2 has 4). A grey mosaic
    may be stored in colour if its channels are equal. Raises :class:`ArtefactError`
    that begins with ``name``.
    """
    channels, height, width = shape
    with warnings.catch_warnings(), decoding(name, "whole PNG image"):
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                # The checksums, which decoding does not look at. Then the image is spent.
                image.verify()
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                _check_size(image, count, shape, name)
                # np.asarray is what decodes
                pixels = np.asarray(image)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            why = f"it has more pixels than the {_pixel_limit()} that are safely opened"
            raise refused(name, why) from None
        except Image.UnidentifiedImageError:
            # Pillow would tell where in memory the data lie.
            raise refused(name, "it is no PNG image; fetch the file again") from None
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] > channels:
        if not (pixels[..., :1] == pixels).all():
            why = "it is in colour, but the config says that its images are grey"
            raise refused(name, why)
        pixels = pixels[..., :1]
    rows, columns = pixels.shape[0] // height, pixels.shape[1] // width
    tiles = pixels.reshape(rows, height, columns, width, channels).transpose(0, 2, 4, 1, 3)
    return torch.from_numpy(tiles.reshape(-1, *shape)[:count].copy())


def _check_size(image: Image.Image, count: int, shape: tuple[int, int, int], name: str) -> None:
    channels, height, width = shape
    wide, high = image.size
    if high % height or wide % width or not count <= high // height * (wide // width) <= 4 * count:
        why = f"{wide}x{high} pixels are no mosaic of {count} tiles of {width}x{height}"
        raise refused(name, why)
    modes = {"L", "RGB"} if channels == 1 else {"RGB"}
    frames = getattr(image, "n_frames", 1)
    if image.mode not in modes or frames != 1:
        raise refused(
            name,
            f"its pixels are '{image.mode}' in {frames} frames; a mosaic of {channels} channels "
            f"is one 8-bit '{_MODES[channels]}' image",
        )
