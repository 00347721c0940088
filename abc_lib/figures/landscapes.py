"""Landscapes: what comes out when sources are left out, and how far it lies."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abc_lib.figures.images import show_image
from abc_lib.figures.style import ALERT, LABEL, OURS, PALETTE
from abc_lib.ground.errors import BadValue
from abc_lib.method.landscape import Landscapes


def landscape_grid(
    landscapes: Landscapes, row: int, images: torch.Tensor, sources: Sequence[int], columns: int = 8
) -> Figure:
    """A sample, framed, and its counterfactuals without each of ``sources``, each with its distance.

    ``images`` (K, C, H, W) are the counterfactuals.
    """
    if len(images) != len(sources):
        raise BadValue(
            f"{len(images)} images do not go with {len(sources)} sources; give one image for each"
        )
    total = len(sources) + 1
    rows = -(-total // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * 0.9, rows * 1.15), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    axes = axes.flat
    axes[0].set_axis_on()
    show_image(axes[0], landscapes.factual[row], "factual", ALERT)
    for ax, image, source in zip(axes[1:], images, sources):
        ax.set_axis_on()
        show_image(ax, image, f"−{source}: {landscapes.distances[row, source]:.0f}")
    return figure


def radius_gallery(landscapes: Landscapes, rows: Sequence[int]) -> Figure:
    """Samples, the counterfactual farthest from each, and the training image whose removal made it."""
    shown = landscapes.attributed_images is not None
    names = ["sample", "farthest\ncounterfactual"] + (["training image\nremoved"] if shown else [])
    figure, axes = plt.subplots(
        len(names), len(rows), figsize=(len(rows) * 1.0 + 1.0, len(names) * 1.2), squeeze=False
    )
    for column, row in enumerate(rows):
        source = landscapes.attributed_sources[row]
        show_image(
            axes[0, column],
            landscapes.factual[row],
            f"#{landscapes.indices[row]}\nr = {landscapes.radii[row]:.1f}",
        )
        show_image(axes[1, column], landscapes.farthest_images[row])
        if shown:
            show_image(axes[2, column], landscapes.attributed_images[row], frame=PALETTE[1])
        axes[-1, column].set_xlabel(f"source {source}", fontsize=LABEL)
    for ax, name in zip(axes[:, 0], names):
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=LABEL)
    return figure


def landscape_curves(landscapes: Landscapes, ax: Axes) -> Axes:
    """Distances of every sample's counterfactuals, from the farthest down, one line a sample."""
    for distances in landscapes.distances:
        ax.plot(
            np.arange(1, len(distances) + 1),
            np.sort(distances)[::-1],
            color=OURS,
            alpha=0.35,
            linewidth=1,
        )
    # Only zeros, from unattributable samples, have no place on a logarithmic axis.
    ax.set(
        xscale="log",
        yscale="log" if landscapes.distances.any() else "linear",
        xlabel="counterfactuals, farthest first (rank)",
        ylabel="distance to the sample (Euclidean)",
    )
    return ax
