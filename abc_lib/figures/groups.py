"""Distributions of groups of numbers, side by side."""

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

from abc_lib.figures.style import ALERT, OURS, PAPERS


def strips(
    groups: dict[str, np.ndarray],
    ax: Axes,
    label: str,
    highlight: str | None = None,
    chance: float | None = None,
) -> Axes:
    """One horizontal strip of dots over a box for each group of values (figures 5, 7 and 8, top).

    NaN is left out. ``chance`` draws a line where values without any link would centre.
    """
    names = list(groups)
    values = [
        np.asarray(groups[name], float)[~np.isnan(np.asarray(groups[name], float))]
        for name in names
    ]
    colours = [ALERT if name == highlight else OURS for name in names]
    boxes = ax.boxplot(
        values,
        orientation="horizontal",
        widths=0.6,
        showfliers=False,
        patch_artist=True,
        positions=range(len(names)),
    )
    for box, colour in zip(boxes["boxes"], colours):
        box.set(facecolor=(*colour, 0.15), edgecolor=colour)
    for median in boxes["medians"]:
        median.set(color="black")
    rng = np.random.default_rng(0)  # where a dot sits across its strip carries no meaning
    for position, (each, colour) in enumerate(zip(values, colours)):
        ax.scatter(
            each,
            position + rng.uniform(-0.18, 0.18, len(each)),
            s=12,
            color=colour,
            alpha=0.7,
            linewidths=0,
            zorder=3,
        )
    _chance_line(ax, chance)
    ax.set(yticks=range(len(names)), yticklabels=names, xlabel=label)
    ax.invert_yaxis()
    return ax


def violins(
    groups: dict[str, np.ndarray],
    ax: Axes,
    label: str,
    highlight: str | None = None,
    chance: float | None = None,
) -> Axes:
    """One horizontal violin over a box for each group of values (figures 4 and 8, bottom); NaN is left out."""
    names = list(groups)
    values = [
        np.asarray(groups[name], float)[~np.isnan(np.asarray(groups[name], float))]
        for name in names
    ]
    # mixed with white: seaborn drops a colour's transparency
    palette = [sns.light_palette(ALERT if name == highlight else OURS, 10)[4] for name in names]
    sns.violinplot(
        values,
        orient="h",
        ax=ax,
        cut=0,
        inner=None,
        linewidth=0.8,
        density_norm="width",
        width=0.8,
        palette=palette,
        saturation=1,
    )
    boxes = ax.boxplot(
        values,
        orientation="horizontal",
        widths=0.2,
        patch_artist=True,
        positions=range(len(names)),
        flierprops={"marker": ".", "markersize": 2, "markeredgecolor": "0.4", "alpha": 0.4},
    )
    for box in boxes["boxes"]:
        box.set(facecolor="white", edgecolor="0.2")
    for median in boxes["medians"]:
        median.set(color="black")
    _chance_line(ax, chance)
    ax.set(yticks=range(len(names)), yticklabels=names, xlabel=label)
    ax.set_ylim(len(names) - 0.4, -0.6)
    return ax


def _chance_line(ax: Axes, chance: float | None) -> None:
    if chance is not None:
        ax.axvline(chance, color=PAPERS, linestyle="--", linewidth=1.2, zorder=0)
