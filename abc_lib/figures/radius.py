"""Counterfactual radii, by sample, by threshold, by training set and by number of sources removed (figures 6 and 7)."""

from collections.abc import Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abc_lib.figures.groups import strips
from abc_lib.figures.style import ALERT, LABEL, OURS, PALETTE, PAPERS, RADIUS_LABEL
from abc_lib.method.radius import Law, LogRadius


def radius_distribution(
    groups: dict[str, np.ndarray], ax: Axes, highlight: str | None = None
) -> Axes:
    """log10 radii of every sample of each ensemble as strips with boxes (figure 7, left)."""
    return strips(
        {name: np.log10(radii[radii > 0]) for name, radii in groups.items()},
        ax,
        "log10 " + RADIUS_LABEL,
        highlight,
    )


def radius_law(
    ours: Sequence[LogRadius],
    paper: Sequence[LogRadius],
    ax: Axes,
    our_law: Law | None = None,
    paper_law: Law | None = None,
) -> Axes:
    """Mean log10 radius over training set size, bars of one standard deviation, with fitted lines (figure 7, right)."""

    def points(summaries, colour, marker, label, **style):
        ax.errorbar(
            [s.size for s in summaries],
            [s.mean for s in summaries],
            yerr=[0 if np.isnan(s.sd) else s.sd for s in summaries],
            fmt=marker,
            color=colour,
            label=label,
            capsize=2,
            elinewidth=1,
            **style,
        )

    points(paper, PAPERS, "o", "the paper's 23 ensembles", markersize=4, alpha=0.8)
    families: dict[str, list[LogRadius]] = {}
    for summary in ours:
        families.setdefault(summary.name.split("_")[0], []).append(summary)
    for (family, summaries), marker, k in zip(
        families.items(), cycle("sD^vPX"), cycle((0, 3, 2, 4, 1, 5, 6, 8, 9))
    ):
        points(summaries, PALETTE[k], marker, f"ours: {family}", markersize=6)
    for law, members, colour, name in (
        (paper_law, paper, PAPERS, "paper"),
        (our_law, ours, OURS, "ours"),
    ):
        if law is not None:
            sizes = np.array(
                [min(s.size for s in members), max(s.size for s in members)], dtype=float
            )
            ax.plot(
                sizes,
                law.intercept + law.slope * np.log10(sizes),
                color=colour,
                linestyle="--",
                linewidth=1.5,
                label=f"{name}: slope {law.slope:.2f}, $R^2$ {law.r2:.2f}",
            )
    ax.set(
        xscale="log", xlabel="training set size (images)", ylabel="mean log10 counterfactual radius"
    )
    ax.legend()
    return ax


def below_threshold(groups: dict[str, np.ndarray], ax: Axes, label: str = RADIUS_LABEL) -> Axes:
    """The share of each group's samples whose radius is below tau, against tau (3.5)."""
    colours = sns.color_palette("viridis", len(groups))
    for (name, radii), colour in zip(groups.items(), colours):
        radii = np.sort(radii)
        # below tau, not at it: the curve steps up just after each radius
        ax.step(
            [0, *radii, radii[-1] * 1.05],
            [0, *np.arange(1, len(radii) + 1) / len(radii), 1],
            where="post",
            color=colour,
            label=f"{name} ({len(radii)})",
        )
    ax.set(
        xlabel=f"τ: {label}",
        ylabel="share of samples with a radius below τ",
        ylim=(0, 1.02),
        xlim=(0, None),
    )
    ax.legend(title="ensemble (samples)")
    return ax


def removal_growth(tables: dict[str, pd.DataFrame]) -> Figure:
    """How far removing k sources at once moves samples, a panel for each of ``tables``, which are those of :meth:`Removals.by_size`."""
    figure, axes = plt.subplots(len(tables), 1, figsize=(6, 3.6 * len(tables)), squeeze=False)
    for ax, (name, table) in zip(axes.flat, tables.items()):
        for column, words, marker, colour in (
            ("radius", "farthest of the sets", "o", ALERT),
            ("mean", "mean of the sets", "s", OURS),
        ):
            ax.errorbar(
                table["k"],
                table[column],
                1.96 * table[f"{column}_error"],
                marker=marker,
                markersize=5,
                color=colour,
                capsize=3,
                label=words,
            )
        ax.set(
            xlabel="sources removed at once (members left, mean)",
            ylabel="distance to the sample (Euclidean)",
            title=name,
            ylim=(0, None),
        )
        ax.set_xticks(
            table["k"],
            [f"{k}\n({left:.1f})" for k, left in zip(table["k"], table["survivors"])],
            fontsize=LABEL,
        )
    axes[0, 0].legend()
    return figure
