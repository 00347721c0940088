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
    values = _without_nan(groups)
    colours = _colours(groups, highlight)
    boxes = _boxes(ax, values, 0.6, showfliers=False)
    for box, colour in zip(boxes, colours):
        box.set(facecolor=(*colour, 0.15), edgecolor=colour)
    rng = np.random.default_rng(0)  # where a dot sits across its strip carries no meaning
    for position, (x, colour) in enumerate(zip(values, colours)):
        y = position + rng.uniform(-0.18, 0.18, len(x))
        ax.scatter(x, y, s=12, color=colour, alpha=0.7, linewidths=0, zorder=3)
    _label(ax, groups, label, chance)
    ax.invert_yaxis()
    return ax


def violins(
    groups: dict[str, np.ndarray],
    ax: Axes,
    label: str,
    highlight: str | None = None,
    chance: float | None = None,
) -> Axes:
    """One horizontal violin over a box for each group of values (figures 4 and 8, bottom); NaN is
    left out."""
    values = _without_nan(groups)
    # mixed with white: seaborn drops a colour's transparency
    palette = [sns.light_palette(colour, 10)[4] for colour in _colours(groups, highlight)]
    shape = {"cut": 0, "inner": None, "linewidth": 0.8, "density_norm": "width", "width": 0.8}
    sns.violinplot(values, orient="h", ax=ax, palette=palette, saturation=1, **shape)
    outliers = {"marker": ".", "markersize": 2, "markeredgecolor": "0.4", "alpha": 0.4}
    for box in _boxes(ax, values, 0.2, flierprops=outliers):
        box.set(facecolor="white", edgecolor="0.2")
    _label(ax, groups, label, chance)
    ax.set_ylim(len(groups) - 0.4, -0.6)
    return ax


def _without_nan(groups: dict[str, np.ndarray]) -> list[np.ndarray]:
    groups = [np.asarray(values, float) for values in groups.values()]
    return [values[~np.isnan(values)] for values in groups]


def _colours(groups: dict[str, np.ndarray], highlight: str | None) -> list[tuple]:
    return [ALERT if name == highlight else OURS for name in groups]


def _boxes(ax: Axes, values: list[np.ndarray], width: float, **options) -> list:
    """A box for each group of values, with a black median."""
    options |= {"positions": range(len(values)), "widths": width, "patch_artist": True}
    boxes = ax.boxplot(values, orientation="horizontal", **options)
    for median in boxes["medians"]:
        median.set(color="black")
    return boxes["boxes"]


def _label(ax: Axes, groups: dict[str, np.ndarray], label: str, chance: float | None) -> None:
    if chance is not None:
        ax.axvline(chance, color=PAPERS, linestyle="--", linewidth=1.2, zorder=0)
    ax.set(yticks=range(len(groups)), yticklabels=list(groups), xlabel=label)
