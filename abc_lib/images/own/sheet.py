"""A sheet to look at: what was taken, source by source, and which pictures look alike."""

import io
from collections import defaultdict
from itertools import islice

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from abc_lib.images.own.folder import Look

_SIDE, _GAP, _LINE = 64, 4, 20
_COLUMNS, _SOURCES, _PAIRS = 14, 60, 60
"""at most so many pictures of a source, sources, and pairs are shown"""


def plain(text: str, most: int = 60) -> str:
    """A name that can be printed on one line, whatever is in it."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= most else shown[: most - 3] + "..."


def contact_sheet(look: Look, size: int) -> bytes:
    """A PNG of the pictures as members see them, ``size`` pixels a side, each source a row."""
    by_owner = defaultdict(list)
    for k, picture in enumerate(look.pictures):
        for owner in picture.owners:
            by_owner[owner].append(k)
    rows = [
        (f"{owner} ({len(own)} picture{'s' * (len(own) > 1)})", own[:_COLUMNS])
        for owner, own in islice(sorted(by_owner.items()), _SOURCES)
    ]
    if len(by_owner) > _SOURCES:
        rows.append((f"and {len(by_owner) - _SOURCES} more sources", []))
    for i, j, alike in look.pairs[:_PAIRS]:
        names = " and ".join(look.pictures[k].name for k in (i, j))
        rows.append((f"look alike ({alike:.2f}): {names}", [i, j]))
    if len(look.pairs) > _PAIRS:
        rows.append((f"and {len(look.pairs) - _PAIRS} more pairs that look alike", []))
    font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 13)
    height = sum(_LINE + (_SIDE + _GAP) * bool(own) for _, own in rows) + _GAP
    sheet = Image.new("RGB", (_COLUMNS * (_SIDE + _GAP) + _GAP, height), "white")
    draw, y = ImageDraw.Draw(sheet), _GAP
    for title, own in rows:
        draw.text((_GAP, y), plain(title, 120), fill="black", font=font)
        y += _LINE
        for column, k in enumerate(own):
            small = Image.fromarray(look.pictures[k].squares[size]).resize((_SIDE, _SIDE))
            sheet.paste(small, (_GAP + column * (_SIDE + _GAP), y))
        y += (_SIDE + _GAP) * bool(own)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
