"""How good ensembles are as generative models (figure 2), and attribution methods."""

from collections.abc import Sequence
from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abc_lib.figures.style import LABEL, OURS, PALETTE, PAPERS, count_ticks, stacked

_MODELS = {"ensemble": "ensemble", "single": "single model", "member": "one member"}


def fid_curves(tables: dict[str, pd.DataFrame]) -> Figure:
    """FID against training set size, a panel for each of ``tables`` (figure 2, right).

    ``tables`` maps what the distances stand on to a frame with columns images, ensemble, single,
    member.
    """
    figure, axes = stacked(len(tables), 6, 3.4)
    for ax, (name, table) in zip(axes, tables.items()):
        for (column, label), marker, colour in zip(_MODELS.items(), "osD", PALETTE):
            shown = table[["images", column]].dropna().sort_values("images")
            style = {"marker": marker, "markersize": 5, "color": colour}
            ax.plot(shown["images"], shown[column], label=label, **style)
        ax.set(xscale="log", xlabel="training images", ylabel="FID", title=name)
        count_ticks(ax, sorted(table["images"].unique()), fontsize=LABEL)
        ax.set_ylim(bottom=0)
    axes[0].legend()
    return figure


def removal_curve(
    removed: Sequence[int],
    fids: Sequence[float],
    counterfactual: int,
    ax: Axes,
    others: dict[str, float],
) -> Axes:
    """FID of an ensemble without so many of its members.

    ``counterfactual`` is how many leave with one data source, ``others`` are FIDs to compare with.
    """
    ax.plot(removed, fids, marker="o", color=OURS)
    label = f"one data source removed: {counterfactual} members"
    ax.axvline(counterfactual, color=PALETTE[1], linestyle=":", linewidth=1.6, label=label)
    for (name, value), style in zip(others.items(), ("--", "-.")):
        ax.axhline(value, color=PAPERS, linestyle=style, linewidth=1.3, label=name)
    ax.set(xlabel="members removed", ylabel="FID", ylim=(0, None))
    ax.legend()
    return ax


def method_scores(tables: dict[str, pd.DataFrame], label: str) -> Figure:
    """A panel for each table: scores of methods with their intervals, as points on a line each.

    Tables have the columns method, score, low, high, chance (what controls reach) and ceiling.
    """
    names = list(dict.fromkeys(name for table in tables.values() for name in table["method"]))
    place = {name: len(names) - 1 - row for row, name in enumerate(names)}
    height = 0.3 * len(names) + 0.8
    figure, axes = stacked(len(tables), 5.6, height, sharex=True)
    for ax, (title, table) in zip(axes, tables.items()):
        rows = table["method"].map(place)
        errors = [table["score"] - table["low"], table["high"] - table["score"]]
        ax.plot(table["chance"], rows, "|", color=PAPERS, markersize=9, label="95% of controls")
        ax.errorbar(table["score"], rows, xerr=errors, fmt="o", color=OURS, markersize=4)
        ax.axvline(table["ceiling"].mean(), color=PAPERS, linestyle="--", label="ceiling")
        ax.axvline(0, color=PAPERS, linewidth=0.6)
        ax.set(title=title, yticks=list(place.values()), yticklabels=list(place))
    axes[-1].set_xlabel(label)
    axes[-1].legend(loc="upper center", bbox_to_anchor=(0.5, -0.6 / height), ncols=2)
    return figure


def score_sweeps(sweeps: pd.DataFrame, other: tuple[str, float], label: str) -> Figure:
    """Scores of methods over damping, draws and size of projection, a panel each.

    ``sweeps`` has the columns method, sweep, value, score, low and high; ``other`` is a method that
    knows none of these, and its score.
    """
    names = {"damping": "damping", "draws": "Monte Carlo draws", "projection": "projected to"}
    figure, axes = stacked(len(names), 5.6, 2.6, sharey=True)
    for ax, (sweep, title) in zip(axes, names.items()):
        mine = sweeps[(sweeps["sweep"] == sweep) & (sweeps["value"] > 0)]
        for (method, rows), marker, colour in zip(mine.groupby("method"), "os", PALETTE):
            errors = [rows["score"] - rows["low"], rows["high"] - rows["score"]]
            style = {"marker": marker, "markersize": 5, "color": colour, "capsize": 2}
            ax.errorbar(rows["value"], rows["score"], yerr=errors, label=method, **style)
        ax.axhline(other[1], color=PAPERS, linestyle="--", label=other[0])
        ax.set(xscale="log", xlabel=title, ylabel=label)
        if sweep != "damping":
            count_ticks(ax, [int(value) for value in sorted(set(mine["value"]))])
    axes[-1].legend(loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=3)
    return figure


def score_by_cost(costs: pd.DataFrame, ax: Axes) -> Axes:
    """What methods reach over what they cost, and a line through those that no cheaper one beats.

    ``costs`` has the columns method, seconds, share (of the ceiling), low, high and best (whether
    the line passes through).
    """
    errors = [costs["share"] - costs["low"], costs["high"] - costs["share"]]
    ax.errorbar(costs["seconds"], costs["share"], yerr=errors, fmt="none", color=PAPERS, alpha=0.5)
    front = costs[costs["best"]].sort_values("seconds")
    ax.plot(front["seconds"], front["share"], color=OURS, label="no cheaper method beats these")
    for (_, row), marker, k in zip(costs.iterrows(), cycle("os^vD<>pP*Xhd"), cycle(range(5))):
        style = {"marker": marker, "markersize": 6, "color": PALETTE[k % len(PALETTE)]}
        ax.plot(row["seconds"], row["share"], linestyle="", label=row["method"], **style)
    ax.set(xscale="log", xlabel="seconds", ylabel="score over ceiling")
    ax.legend(fontsize="small", loc="upper left", bbox_to_anchor=(-0.05, -0.32), ncols=2)
    return ax
