"""Ablation beside retraining (figures 3 and 10)."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from abc_lib.figures.style import ALERT, LABEL
from abc_lib.results.class_counts import standard_errors


def class_bars(
    panels: dict[str, tuple[np.ndarray, np.ndarray, int]], names: Sequence[str]
) -> Figure:
    """How often each class is generated with (dark) and without it (red), a panel a method (figure 3).

    ``panels`` maps a title to frequencies (K,) before and after, and the number of samples
    they were counted in; bars carry 95% intervals.
    """
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(6.6, 2.3 * len(panels)), sharex=True, sharey=True, squeeze=False
    )
    x = np.arange(len(names))
    for ax, (title, (before, after, samples)) in zip(axes[:, 0], panels.items()):
        for offset, values, colour, label in (
            (-0.2, before, "0.25", "all classes"),
            (0.2, after, ALERT, "without this class"),
        ):
            errors = 1.96 * standard_errors(values, samples)
            # an interval that reaches below zero is cut there
            ax.bar(
                x + offset,
                values,
                0.38,
                yerr=[np.minimum(errors, values), errors],
                color=colour,
                label=label,
                error_kw={"elinewidth": 0.8, "capsize": 1.5},
            )
        ax.set(title=title, ylabel="frequency", xticks=x)
        ax.grid(axis="x", visible=False)
    axes[-1, 0].set_xticks(
        x,
        names,
        rotation=0 if max(map(len, names)) < 3 else 40,
        ha="center" if max(map(len, names)) < 3 else "right",
    )
    axes[-1, 0].set_xlabel("class")
    # room for the legend above the tallest bar; the panels share their scale
    axes[0, 0].set_ylim(0, 1.25 * axes[0, 0].get_ylim()[1])
    axes[0, 0].legend(ncols=2, loc="upper right")
    return figure


def class_changes(panels: dict[str, np.ndarray], names: Sequence[str]) -> Figure:
    """What removing a class (row) does to the frequency of every class (column), in points of percent, a panel a method."""
    reach = max(float(np.abs(each).max()) for each in panels.values()) * 100
    figure, axes = plt.subplots(len(panels), 1, figsize=(6, 4.8 * len(panels)), squeeze=False)
    for ax, (title, change) in zip(axes[:, 0], panels.items()):
        drawn = ax.imshow(100 * change, cmap="PuOr", vmin=-reach, vmax=reach)
        ax.set(
            title=title,
            xticks=range(len(names)),
            yticks=range(len(names)),
            xlabel="class seen in the samples",
            ylabel="class removed",
        )
        ax.set_xticklabels(names, rotation=0 if max(map(len, names)) < 3 else 60)
        ax.set_yticklabels(names)
        ax.grid(False)
    figure.colorbar(drawn, ax=axes, shrink=0.5, label="change in points of percent")
    return figure


def meeting_matrices(panels: dict[str, pd.DataFrame]) -> Figure:
    """For each pair of attributions the share of samples whose suspects meet, a panel a k (figure 10)."""
    size = max(len(each) for each in panels.values())
    # under each other: side by side the numbers would be too small to read
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(2.8 + 0.52 * size, (2.2 + 0.34 * size) * len(panels)),
        squeeze=False,
    )
    for ax, (title, shares) in zip(axes[:, 0], panels.items()):
        ax.imshow(shares.to_numpy(), cmap="cividis", vmin=0, vmax=1)
        for (y, x), value in np.ndenumerate(shares.to_numpy()):
            ax.text(
                x,
                y,
                f"{100 * value:.0f}",
                ha="center",
                va="center",
                fontsize=LABEL,
                color="white" if value < 0.6 else "black",
            )
        ax.set(title=title, xticks=range(len(shares)), yticks=range(len(shares)))
        ax.set_aspect("auto")
        ax.set_xticklabels(shares.columns, rotation=40, ha="right", fontsize=LABEL)
        ax.set_yticklabels(shares.index, fontsize=LABEL)
        ax.grid(False)
    return figure
