"""Counterfactual radii, by sample, by threshold, by training set and by number of sources removed
(figures 6 and 7)."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abc_lib.figures.groups import strips
from abc_lib.figures.style import ALERT, LABEL, OURS, PALETTE, PAPERS, RADIUS_LABEL, stacked
from abc_lib.method.radius import Law, LogRadius, by_kind


def radius_distribution(
    groups: dict[str, np.ndarray], ax: Axes, highlight: str | None = None
) -> Axes:
    """log10 radii of every sample of each ensemble as strips with boxes (figure 7, left)."""
    logs = {name: np.log10(radii[radii > 0]) for name, radii in groups.items()}
    return strips(logs, ax, "log10 " + RADIUS_LABEL, highlight)


def radius_law(
    ours: Sequence[LogRadius],
    paper: Sequence[LogRadius],
    ax: Axes,
    our_law: Law | None = None,
    paper_law: Law | None = None,
    placebos: Sequence[LogRadius] = (),
) -> Axes:
    """Mean log10 radius over training set size, bars of one standard deviation, with fitted lines
    (figure 7, right); open circles for placebos, where as many members go and no source."""
    label = "the paper's 23 ensembles"
    _points(ax, paper, fmt="o", color=PAPERS, label=label, markersize=4, alpha=0.8)
    styles = zip(cycle("sD^vPX"), cycle((0, 3, 2, 4, 1, 5, 6, 8, 9)))
    for (family, summaries), (marker, k) in zip(by_kind(ours).items(), styles):
        label = f"ours: {family}"
        _points(ax, summaries, fmt=marker, color=PALETTE[k], label=label, markersize=6)
    if placebos:
        circle = {"fmt": "o", "color": ALERT, "fillstyle": "none", "markersize": 10}
        _points(ax, placebos, label="ours: placebo", **circle)
    _line(ax, paper_law, paper, PAPERS, "paper")
    _line(ax, our_law, ours, OURS, "ours")
    ax.set(xscale="log", xlabel="training set size (images)")
    ax.set_ylabel("mean log10 counterfactual radius")
    ax.legend()
    return ax


def _points(ax: Axes, summaries: Sequence[LogRadius], **style) -> None:
    sizes = [s.size for s in summaries]
    means = [s.mean for s in summaries]
    bars = [0 if np.isnan(s.sd) else s.sd for s in summaries]
    ax.errorbar(sizes, means, yerr=bars, capsize=2, elinewidth=1, **style)


def _line(ax: Axes, law: Law | None, over: Sequence[LogRadius], colour, name: str) -> None:
    if law is not None:
        sizes = np.array([min(s.size for s in over), max(s.size for s in over)], dtype=float)
        means = law.intercept + law.slope * np.log10(sizes)
        label = f"{name}: slope {law.slope:.2f}, $R^2$ {law.r2:.2f}"
        ax.plot(sizes, means, color=colour, linestyle="--", linewidth=1.5, label=label)


def below_threshold(
    groups: dict[str, np.ndarray],
    ax: Axes,
    label: str = RADIUS_LABEL,
    placebos: dict[str, np.ndarray] | None = None,
) -> Axes:
    """The share of each group's samples whose radius is below tau, against tau (3.5); dotted, of
    those in ``placebos``, whose placebo radius is."""
    colours = sns.color_palette("viridis", len(groups))
    for (name, radii), colour in zip(groups.items(), colours):
        ax.step(*_shares(radii), where="post", color=colour, label=f"{name} ({len(radii)})")
        if placebos and name in placebos:
            ax.step(*_shares(placebos[name]), where="post", color=colour, linestyle=":")
    ax.set(xlabel=f"τ: {label}", ylabel="share of samples with a radius below τ")
    ax.set(ylim=(0, 1.02), xlim=(0, None))
    ax.legend(title="ensemble (samples)")
    return ax


def _shares(radii: np.ndarray) -> tuple[list, list]:
    """Thresholds and the share below each: below, not at it, so a curve steps up after a radius."""
    radii, count = np.sort(radii), len(radii)
    return [0, *radii, radii[-1] * 1.05], [0, *np.arange(1, count + 1) / count, 1]


def removal_growth(tables: dict[str, pd.DataFrame]) -> Figure:
    """How far removing k sources at once moves samples, a panel for each of ``tables``, which are
    those of :meth:`Removals.by_size`."""
    figure, axes = stacked(len(tables), 6, 3.6)
    for ax, (name, table) in zip(axes, tables.items()):
        for column, label, marker, colour in (
            ("radius", "farthest of the sets", "o", ALERT),
            ("mean", "mean of the sets", "s", OURS),
        ):
            error = 1.96 * table[f"{column}_error"]
            style = {"marker": marker, "markersize": 5, "color": colour, "capsize": 3}
            ax.errorbar(table["k"], table[column], error, label=label, **style)
        ax.set(title=name, ylim=(0, None), ylabel="distance to the sample (Euclidean)")
        ax.set_xlabel("sources removed at once (members left, mean)")
        ticks = [f"{k}\n({left:.1f})" for k, left in zip(table["k"], table["survivors"])]
        ax.set_xticks(table["k"], ticks, fontsize=LABEL)
    axes[0].legend()
    return figure
