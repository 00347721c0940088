"""One picture file as RGB pixels, whatever it is; or why it is not taken."""

import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""what is read; others, which start programmes or fetch files, are not"""
LARGEST = 2**28
"""bytes of a file that is read"""
SMALLEST = 8
"""pixels of a side below which a picture shows nothing"""
_ENOUGH = 512
# A strip cut to a square shows next to nothing of itself.
_LONGEST = 8


class NotTaken(Exception):
    """Why a file is not taken, as a clause: *is empty*."""


def open_picture(path: Path) -> tuple[Image.Image, tuple[int, int]]:
    """A file's picture, upright, in RGB and on white where it is transparent; and its true size.

    Of several frames the first. Large JPEG files are decoded at a fraction of their size, never
    below 512 pixels. Raises :class:`NotTaken` for what is no picture, broken, or larger than
    Pillow's limits allow.
    """
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise NotTaken("is a folder that is a link, or that you may not read")
        if not stat.S_ISREG(found.st_mode):
            raise NotTaken("is not a plain file")
        if found.st_size == 0:
            raise NotTaken("is empty")
        if found.st_size > LARGEST:
            raise NotTaken(f"has {found.st_size:,} bytes, more than the {LARGEST:,} that are read")
        Image.init()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # What Pillow only warns of is refused here.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                size = image.size
                if min(size) < SMALLEST:
                    raise NotTaken(f"is {size[0]}x{size[1]} pixels, too small to show anything")
                if max(size) > _LONGEST * min(size):
                    raise NotTaken(f"is {size[0]}x{size[1]} pixels, a strip and no picture")
                image.draft("RGB", (_ENOUGH, _ENOUGH))
                image.load()
                return _rgb(ImageOps.exif_transpose(image)), size
    except NotTaken:
        raise
    except FileNotFoundError:
        raise NotTaken("is missing, or a link that leads nowhere") from None
    except PermissionError:
        raise NotTaken("may not be read by you") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise NotTaken("has more pixels than Pillow decodes safely") from None
    except Image.UnidentifiedImageError:
        raise NotTaken("is no JPEG, PNG, WebP, GIF, BMP or TIFF picture") from None
    # Decoders fail in their own ways; whatever one says of a file, the others are still taken.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise NotTaken(f"is broken ({reason[:80]})") from None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise NotTaken("has floating point pixels without a known range")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise NotTaken("has pixels of more than 16 bits")
        # 65535 / 257 is 255
        image = Image.fromarray(np.round(values / 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def is_grey(image: Image.Image) -> bool:
    """Whether an RGB picture shows no colour beyond what compression leaves."""
    small = np.asarray(image.resize((32, 32), Image.Resampling.BOX)).astype(int)
    return bool((small.max(-1) - small.min(-1)).max() <= 8)


def squared(image: Image.Image, size: int) -> np.ndarray:
    """The middle square, scaled to ``size`` pixels a side: uint8 (size, size, 3)."""
    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS))
