"""Ablation beside retraining (figures 3 and 10)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from abc_lib.figures.style import ALERT, CENTRED, LABEL, stacked


def class_bars(
    panels: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], names: Sequence[str]
) -> Figure:
    """How often each class is generated with (dark) and without it (red), a panel a method
    (figure 3).

    ``panels`` maps a title to frequencies (K,) before and after, and the standard errors (2, K) of
    both; bars carry 95% intervals.
    """
    figure, axes = stacked(len(panels), 6.6, 2.3, sharex=True, sharey=True)
    x = np.arange(len(names))
    for ax, (title, (before, after, errors)) in zip(axes, panels.items()):
        for offset, values, error, colour, label in (
            (-0.2, before, errors[0], "0.25", "all classes"),
            (0.2, after, errors[1], ALERT, "without this class"),
        ):
            # an interval that reaches below zero is cut there
            reach = [np.minimum(1.96 * error, values), 1.96 * error]
            cap = {"elinewidth": 0.8, "capsize": 1.5}
            ax.bar(x + offset, values, 0.38, yerr=reach, color=colour, label=label, error_kw=cap)
        ax.set(title=title, ylabel="frequency", xticks=x)
        ax.grid(axis="x", visible=False)
    if max(map(len, names)) < 3:
        axes[-1].set_xticks(x, names)
    else:
        axes[-1].set_xticks(x, names, rotation=40, ha="right")
    axes[-1].set_xlabel("class")
    # room for the legend above the tallest bar; the panels share their scale
    axes[0].set_ylim(0, 1.25 * axes[0].get_ylim()[1])
    axes[0].legend(ncols=2, loc="upper right")
    return figure


def class_changes(
    panels: dict[str, np.ndarray], names: Sequence[str], what: str = "class"
) -> Figure:
    """What removing a class (row) does to the frequency of every class (column), in points of
    percent, a panel a method. ``what`` is the word for a class."""
    reach = max(float(np.abs(change).max()) for change in panels.values()) * 100
    figure, axes = stacked(len(panels), 6, 4.8)
    for ax, (title, change) in zip(axes, panels.items()):
        drawn = ax.imshow(100 * change, cmap="PuOr", vmin=-reach, vmax=reach)
        ax.set(title=title, xlabel=f"{what} seen in the samples", ylabel=f"{what} removed")
        ax.set_xticks(range(len(names)), names, rotation=0 if max(map(len, names)) < 3 else 60)
        ax.set_yticks(range(len(names)), names)
        ax.grid(False)
    figure.colorbar(drawn, ax=axes, shrink=0.5, label="change in points of percent")
    return figure


def meeting_matrices(panels: dict[str, pd.DataFrame]) -> Figure:
    """For each pair of attributions the share of samples whose suspects meet, a panel a k
    (figure 10)."""
    size = max(len(shares) for shares in panels.values())
    figure, axes = stacked(len(panels), 2.8 + 0.52 * size, 2.2 + 0.34 * size)
    for ax, (title, shares) in zip(axes, panels.items()):
        ax.imshow(shares.to_numpy(), cmap="cividis", vmin=0, vmax=1)
        for (y, x), share in np.ndenumerate(shares.to_numpy()):
            colour = "white" if share < 0.6 else "black"
            ax.text(x, y, f"{100 * share:.0f}", color=colour, **CENTRED)
        ax.set(title=title, aspect="auto")
        ax.set_xticks(range(len(shares)), shares.columns, rotation=40, ha="right", fontsize=LABEL)
        ax.set_yticks(range(len(shares)), shares.index, fontsize=LABEL)
        ax.grid(False)
    return figure
