"""Images side by side."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abc_lib.figures.style import ALERT, BESIDE, LABEL, PALETTE
from abc_lib.ground.errors import BadValue


def show_image(
    ax: Axes, image: torch.Tensor, title: str | None = None, frame: object = None
) -> None:
    """One image without axes; ``frame`` is the colour of a border."""
    array = image.detach().cpu().float().permute(1, 2, 0).numpy()
    array = array.squeeze(-1) if array.shape[-1] == 1 else array
    ax.imshow(array, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set(visible=frame is not None, color=frame, linewidth=2.5)
    if title:
        ax.set_title(title, fontsize=LABEL, pad=3)


def image_rows(
    rows: dict[str, torch.Tensor],
    titles: Sequence[str],
    notes: Sequence[str] | dict[str, Sequence[str]] = (),
    framed: Sequence[str] = (),
) -> Figure:
    """Rows of images under each other, a column a sample: ``rows`` maps a row's name to images
    (K, C, H, W).

    ``titles`` stand above the columns, ``notes`` below them, or below the rows that they are given
    for by name; rows in ``framed`` are training images and get a border.
    """
    columns = len(titles)
    wrong = [name for name, images in rows.items() if len(images) != columns]
    if wrong or columns == 0:
        first = (wrong or list(rows))[0]
        raise BadValue(
            f"{columns} titles do not go with the images of '{first}'; "
            "give one image for each, and at least one"
        )
    under = notes if isinstance(notes, dict) else {list(rows)[-1]: notes}
    size = (columns * 0.95 + 1.2, len(rows) * 1.1 + 0.22 * len(under) + 0.15)
    figure, axes = plt.subplots(len(rows), columns, figsize=size, squeeze=False)
    for ax, title in zip(axes[0], titles):
        ax.set_title(title, fontsize=LABEL, pad=3)
    for line, (name, images) in zip(axes, rows.items()):
        for ax, image in zip(line, images):
            show_image(ax, image, frame=PALETTE[1] if name in framed else None)
        line[0].set_ylabel(name, **BESIDE)
        for ax, note in zip(line, under.get(name, ())):
            ax.set_xlabel(note, fontsize=LABEL)
    return figure


def image_grid(images: torch.Tensor, titles: Sequence[str] = (), columns: int = 8) -> Figure:
    """Images (K, C, H, W) in rows of ``columns``, each under its title if there are any (figure 6,
    top left)."""
    if len(images) == 0:
        raise BadValue("there is no image to show; give at least one")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    size = (columns * 0.85, rows * (1.05 if titles else 0.87))
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, image, title in zip(axes.flat, images, titles or [None] * len(images)):
        ax.set_axis_on()
        show_image(ax, image, title)
    return figure


def mosaic(first: torch.Tensor, images: torch.Tensor, columns: int | None = None) -> Figure:
    """Many images (K, C, H, W) as one picture, row by row, after a framed ``first`` (C, H, W);
    about square by default (appendix D.3)."""
    tiles = torch.cat([first[None], images]).float()
    columns = columns or int(np.ceil(np.sqrt(len(tiles))))
    lines = -(-len(tiles) // columns)
    gap = max(1, tiles.shape[-1] // 8)
    height = tiles.shape[-2] + gap
    width = tiles.shape[-1] + gap
    canvas = torch.ones(tiles.shape[1], lines * height + gap, columns * width + gap)
    for k, tile in enumerate(tiles):
        y = gap + k // columns * height
        x = gap + k % columns * width
        canvas[:, y : y + tile.shape[-2], x : x + tile.shape[-1]] = tile
    side = min(7.0, 0.55 * columns + 0.4)
    figure, ax = plt.subplots(figsize=(side, side * lines / columns))
    show_image(ax, canvas)
    frame = plt.Rectangle((gap - 1, gap - 1), width - gap + 1, height - gap + 1, fill=False)
    frame.set(edgecolor=ALERT, linewidth=2.5)
    ax.add_patch(frame)
    return figure
