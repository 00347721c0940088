"""What members remember, against how often they saw an image, and effects beside placebos."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from abc_lib.figures.style import ALERT, LABEL, OURS, PAPERS, count_ticks
from abc_lib.results.placebos.memory import Memory


def _by_name(measured: Sequence[Memory]) -> dict[str, list[Memory]]:
    names: dict[str, list[Memory]] = {}
    for value in measured:
        names.setdefault(value.name, []).append(value)
    return names


def radii_by_exposure(
    measured: Sequence[Memory], ax: Axes, theirs: pd.DataFrame | None = None
) -> Axes:
    """Mean log10 radius over exposure, a colour an ensemble; placebo radii dotted beside it.

    ``theirs`` are the authors' ensembles at their exposures, each with its size written by it.
    """
    names = _by_name(measured)
    if theirs is not None:
        style = {"color": PAPERS, "marker": "s", "markersize": 5, "label": "authors, by size"}
        ax.errorbar(theirs["exposure"], theirs["mean"], theirs["error"], capsize=2, **style)
        for size, time, mean in zip(theirs["size"], theirs["exposure"], theirs["mean"]):
            place = {"xytext": (5, 4), "textcoords": "offset points", "color": "0.4"}
            ax.annotate(f"{size:,}", (time, mean), fontsize=LABEL, **place)
    colours = sns.color_palette("viridis", len(names))
    for (name, values), colour in zip(names.items(), colours):
        times = [value.exposure for value in values]
        for which, dashes, label in (("radii", "-", name), ("placebo_radii", ":", None)):
            logs = [np.log10(getattr(value, which)) for value in values]
            means = [one.mean() for one in logs]
            errors = [one.std(ddof=1) / np.sqrt(len(one)) for one in logs]
            style = {"color": colour, "linestyle": dashes, "marker": "o", "markersize": 4}
            ax.errorbar(times, means, errors, capsize=2, label=label, **style)
    _times(ax, measured if theirs is None else [*measured, *theirs["exposure"]])
    ax.set(ylabel="mean log10 counterfactual radius")
    ax.plot([], [], color="0.3", linestyle=":", label="placebo codewords")
    ax.legend()
    return ax


def radii_by_memory(measured: Sequence[Memory], ax: Axes) -> Axes:
    """Mean log10 radius against what members remember, a colour a size, larger at more exposure."""
    names = _by_name(measured)
    colours = sns.color_palette("viridis", len(names))
    for (name, values), colour in zip(names.items(), colours):
        shares = [float(np.median(value.ratios)) for value in values]
        logs = [np.log10(value.radii) for value in values]
        errors = [one.std(ddof=1) / np.sqrt(len(one)) for one in logs]
        style = {"color": colour, "marker": "o", "markersize": 5, "capsize": 2, "linewidth": 1}
        ax.errorbar(shares, [one.mean() for one in logs], errors, label=name, **style)
    ax.invert_xaxis()
    ax.set(xlabel="own over others: 1 remembers nothing, 0 repeats")
    ax.set(ylabel="mean log10 counterfactual radius")
    ax.legend()
    return ax


def attribution_by_exposure(
    measured: Sequence[Memory], ax: Axes, theirs: pd.DataFrame | None = None
) -> Axes:
    """How often a sample keeps its nearest image when that is left out, and when another one is.

    ``theirs`` are the authors' ensembles at their exposures, from
    :func:`abc_lib.study.exposures.authors_points`.
    """
    if theirs is not None:
        style = {"color": PAPERS, "markersize": 5}
        times = theirs["exposure"]
        ax.plot(times, theirs["without random"], "s:", label="authors, another", **style)
        ax.plot(times, theirs["without nearest"], "o-", label="authors, nearest", **style)
    for k, (name, values) in enumerate(_by_name(measured).items()):
        times = [value.exposure for value in values]
        marker = "oDv^P"[k % 5]
        for which, dashes, colour, words in (
            ("instead", ":", OURS, "another"),
            ("again", "-", ALERT, "nearest"),
        ):
            shares = np.array([getattr(value.attribution, which) for value in values])
            counts = np.array([value.attribution.samples for value in values])
            errors = 1.96 * np.sqrt(shares * (1 - shares) / counts)
            style = {"color": colour, "marker": marker, "linestyle": dashes, "capsize": 2}
            ax.errorbar(times, shares, errors, label=f"{name}, {words}", **style)
    _times(ax, measured if theirs is None else [*measured, *theirs["exposure"]])
    ax.set(ylabel="share of samples that keep it", ylim=(-0.02, 1.02))
    ax.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return ax


def _times(ax: Axes, shown: Sequence[Memory | float]) -> None:
    times = sorted({round(float(getattr(one, "exposure", one))) for one in shown})
    kept: list[int] = []
    for time in times:
        # Numbers that would stand on each other are left out.
        if not kept or time > 1.6 * kept[-1]:
            kept.append(time)
    ax.set(xscale="log", xlabel="times that a member sees each of its images")
    count_ticks(ax, kept)


def p_value_shares(values: dict[str, np.ndarray], ax: Axes) -> Axes:
    """Distribution functions of p-values by group; uniform ones lie on the diagonal."""
    for name, ps in values.items():
        ps = np.sort(ps.ravel())
        ax.step([0, *ps, 1], [0, *np.arange(1, len(ps) + 1) / len(ps), 1], where="post", label=name)
    ax.plot([0, 1], [0, 1], color="0.5", linewidth=1, label="no source matters")
    ax.set(xlabel="p-value", ylabel="share of sources with at most this p-value")
    ax.legend()
    return ax


def placebo_radii(real: np.ndarray, chance: np.ndarray, ax: Axes) -> Axes:
    """Radius of each sample against its placebo radius, a dot a sample and code, both log10."""
    both = np.concatenate([real.ravel(), chance.ravel()])
    ends = [both.min() - 0.02, both.max() + 0.02]
    ax.plot(ends, ends, color="0.5", linewidth=1, label="equal")
    ax.plot(chance.ravel(), real.ravel(), "o", color=OURS, markersize=4, alpha=0.6)
    ax.set(xlabel="log10 placebo radius", ylabel="log10 counterfactual radius")
    ax.set_aspect("equal")
    ax.legend()
    return ax


def reliability_curves(
    curves: dict[str, tuple[Sequence[int], np.ndarray, np.ndarray, np.ndarray]], ax: Axes
) -> Axes:
    """Agreement of two halves against codes a half; the shaded band is what chance gives.

    Each curve is counts, means, and the lower and upper end of its band.
    """
    for name, (counts, means, low, high) in curves.items():
        (line,) = ax.plot(counts, means, "o-", markersize=4, label=name)
        ax.fill_between(counts, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    counts = max((curve[0] for curve in curves.values()), key=len)
    ax.axhline(0, color="0.5", linewidth=1)
    ax.set(xscale="log", xlabel="codes in each half", ylabel="correlation of the two halves")
    count_ticks(ax, counts)
    ax.legend()
    return ax


def power_curves(
    strengths: Sequence[float], shares: dict[str, np.ndarray], samples: int, ax: Axes
) -> Axes:
    """Share of planted sources with p < 0.05 against the strength of the effect; bars are 95%."""
    for name, found in shares.items():
        errors = 1.96 * np.sqrt(found * (1 - found) / samples)
        ax.errorbar(strengths, found, errors, marker="o", markersize=4, capsize=2, label=name)
    ax.axhline(0.8, color="0.5", linewidth=1, linestyle=":")
    ax.axhline(0.05, color="0.5", linewidth=1)
    ax.set(xscale="log", ylim=(-0.02, 1.02))
    ax.set(xlabel="share of the planted image in what a member predicts", ylabel="share found")
    ax.set_xticks(strengths, [f"{strength:g}" for strength in strengths])
    ax.set_xticks([], minor=True)
    ax.legend()
    return ax


def named_shares(
    taken: np.ndarray, placebo: np.ndarray, ablated: np.ndarray, names: Sequence[str], ax: Axes
) -> Axes:
    """How often each source is named: with all in, along placebos, and without it; (N,) each."""
    rows = np.arange(len(names))
    ax.hlines(rows, ablated, placebo, color="0.7", linewidth=2)
    ax.plot(taken, rows, "|", color="0.3", markersize=9, label="all sources in")
    ax.plot(placebo, rows, "o", color=OURS, markersize=5, label="placebo: members gone")
    ax.plot(ablated, rows, "o", color=ALERT, markersize=5, label="source gone")
    ax.set_yticks(rows, names)
    ax.set(xlabel="share of samples named so", ylabel="source", ylim=(len(names) - 0.4, -0.6))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    return ax
