"""Landscapes: what comes out when sources are left out, and how far it lies."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abc_lib.figures.images import show_image
from abc_lib.figures.style import ALERT, BESIDE, LABEL, OURS, PALETTE
from abc_lib.ground.errors import BadValue
from abc_lib.method.landscape import Landscapes


def landscape_grid(
    landscapes: Landscapes, row: int, images: torch.Tensor, sources: Sequence[int], columns: int = 8
) -> Figure:
    """A sample, framed, and its counterfactuals without each of ``sources``, each with its
    distance.

    ``images`` (K, C, H, W) are the counterfactuals.
    """
    if len(images) != len(sources):
        raise BadValue(
            f"{len(images)} images do not go with {len(sources)} sources; give one image for each"
        )
    rows = -(-(len(sources) + 1) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * 0.9, rows * 1.15), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    first, *others = axes.flat
    first.set_axis_on()
    show_image(first, landscapes.factual[row], "factual", ALERT)
    for ax, image, source in zip(others, images, sources):
        ax.set_axis_on()
        show_image(ax, image, f"−{source}: {landscapes.distances[row, source]:.0f}")
    return figure


def radius_gallery(landscapes: Landscapes, rows: Sequence[int]) -> Figure:
    """Samples, the counterfactual farthest from each, and the training image whose removal made
    it."""
    names = ["sample", "farthest\ncounterfactual"]
    if landscapes.attributed_images is not None:
        names.append("training image\nremoved")
    size = (len(rows) * 1.0 + 1.0, len(names) * 1.2)
    figure, axes = plt.subplots(len(names), len(rows), figsize=size, squeeze=False)
    for line, row in zip(axes.T, rows):
        title = f"#{landscapes.indices[row]}\nr = {landscapes.radii[row]:.1f}"
        show_image(line[0], landscapes.factual[row], title)
        show_image(line[1], landscapes.farthest_images[row])
        if landscapes.attributed_images is not None:
            show_image(line[2], landscapes.attributed_images[row], frame=PALETTE[1])
        line[-1].set_xlabel(f"source {landscapes.attributed_sources[row]}", fontsize=LABEL)
    for ax, name in zip(axes[:, 0], names):
        ax.set_ylabel(name, **BESIDE)
    return figure


def landscape_curves(landscapes: Landscapes, ax: Axes) -> Axes:
    """Distances of every sample's counterfactuals, from the farthest down, one line a sample."""
    for distances in landscapes.distances:
        rank = np.arange(1, len(distances) + 1)
        ax.plot(rank, np.sort(distances)[::-1], color=OURS, alpha=0.35, linewidth=1)
    # Only zeros, from unattributable samples, have no place on a logarithmic axis.
    ax.set(xscale="log", yscale="log" if landscapes.distances.any() else "linear")
    ax.set_xlabel("counterfactuals, farthest first (rank)")
    ax.set_ylabel("distance to the sample (Euclidean)")
    return ax
