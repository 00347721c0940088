"""What ensembles that were trained for longer or shorter remember, by exposure and by size."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from scipy.stats import sem

from abc_lib.figures.images import image_rows
from abc_lib.figures.style import ALERT, LABEL, OURS, PAPERS, count_ticks
from abc_lib.ground.errors import BadValue
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

    ``theirs`` are the authors' ensembles at their exposures, each with its size written by it;
    where those are not known, the same ensembles as ours as dashed lines.
    """
    names = _by_name(measured)
    theirs, unknown = _known(theirs, names)
    for one in unknown.itertuples():
        ax.axhline(one.mean, color=PAPERS, linestyle="--", label=f"authors, {one.ensemble}")
    if theirs is not None:
        style = {"color": PAPERS, "marker": "s", "markersize": 5, "label": "authors, by size"}
        ax.errorbar(theirs["exposure"], theirs["mean"], theirs["error"], capsize=2, **style)
        for size, time, mean in zip(theirs["size"], theirs["exposure"], theirs["mean"]):
            place = {"xytext": (5, 4), "textcoords": "offset points", "color": "0.4"}
            ax.annotate(f"{size:,}", (time, mean), fontsize=LABEL, **place)
    colours = sns.color_palette("viridis", len(names))
    for (name, values), colour in zip(names.items(), colours):
        times = [value.exposure for value in values]
        _radii_beside_placebos(ax, times, values, name, colour)
    _times(ax, measured if theirs is None else [*measured, *theirs["exposure"]])
    _radius_axis(ax)
    ax.legend()
    return ax


def _known(
    theirs: pd.DataFrame | None, names: Collection[str]
) -> tuple[pd.DataFrame | None, pd.DataFrame]:
    """The authors' ensembles whose exposures are known, None if none is; and of the others those
    of these names.
    """
    if theirs is None:
        return None, pd.DataFrame()
    known = theirs["exposure"].notna()
    others = theirs[~known & theirs["ensemble"].isin(names)]
    return (theirs[known] if known.any() else None), others


def radii_by_size(
    designs: dict[str, list[Memory]], ax: Axes, theirs: pd.DataFrame | None = None
) -> Axes:
    """Mean log10 radius over training set size, a colour a design; placebo radii dotted beside it.

    ``designs`` from :func:`abc_lib.study.exposures.designs`, ``theirs`` as in
    :func:`radii_by_exposure`.
    """
    if theirs is not None:
        style = {"color": PAPERS, "marker": "s", "markersize": 5, "label": "authors"}
        ax.errorbar(theirs["size"], theirs["mean"], theirs["error"], capsize=2, **style)
    for (name, values), colour in zip(designs.items(), _colours(designs)):
        _radii_beside_placebos(ax, [v.size for v in values], values, name, colour)
    _sizes(ax, designs, theirs)
    _radius_axis(ax)
    ax.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return ax


def attribution_by_size(
    designs: dict[str, list[Memory]], ax: Axes, theirs: pd.DataFrame | None = None
) -> Axes:
    """How often a sample keeps its nearest image without it (lines) and without another (dotted),
    over training set size, a colour a design; arguments as :func:`radii_by_size`.
    """
    if theirs is not None:
        style = {"color": PAPERS, "marker": "s", "markersize": 5}
        ax.plot(theirs["size"], theirs["without nearest"], label="authors", **style)
        ax.plot(theirs["size"], theirs["without random"], linestyle=":", **style)
    for (name, values), colour in zip(designs.items(), _colours(designs)):
        for which, dashes, label in (("again", "-", name), ("instead", ":", None)):
            shares, errors = _shares(values, which)
            style = {"color": colour, "marker": "o", "markersize": 4, "linestyle": dashes}
            ax.errorbar([v.size for v in values], shares, errors, capsize=2, label=label, **style)
    _sizes(ax, designs, theirs)
    ax.set(ylabel="share of samples that keep it", ylim=(-0.02, 1.02))
    ax.plot([], [], color="0.3", label="without the nearest")
    ax.plot([], [], color="0.3", linestyle=":", label="without another")
    ax.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return ax


def _radii_beside_placebos(
    ax: Axes, places: Sequence[float], values: Sequence[Memory], name: str, colour: tuple
) -> None:
    for which, dashes, label in (("radii", "-", name), ("placebo_radii", ":", None)):
        style = {"color": colour, "linestyle": dashes, "marker": "o", "markersize": 4}
        ax.errorbar(places, *_logs(values, which), capsize=2, label=label, **style)


def _logs(values: Sequence[Memory], which: str = "radii") -> np.ndarray:
    """Mean log10 radii of ensembles, and their standard errors, (2, K)."""
    logs = [np.log10(getattr(value, which)) for value in values]
    return np.array([(one.mean(), sem(one)) for one in logs]).T


def _radius_axis(ax: Axes) -> None:
    ax.set(ylabel="mean log10 counterfactual radius")
    ax.plot([], [], color="0.3", linestyle=":", label="placebo codewords")


def _shares(values: Sequence[Memory], which: str) -> tuple[np.ndarray, np.ndarray]:
    """Shares of samples, and how far 95% intervals reach."""
    shares = np.array([getattr(value.attribution, which) for value in values])
    counts = np.array([value.attribution.samples for value in values])
    return shares, 1.96 * np.sqrt(shares * (1 - shares) / counts)


def _colours(designs: dict[str, list[Memory]]) -> list:
    """Ours for the first, the authors' design; shades for exposures from short to long."""
    shades = iter(sns.color_palette("flare", len(designs)))
    return [OURS if name.startswith("a fixed") else next(shades) for name in designs]


def _sizes(ax: Axes, designs: dict[str, list[Memory]], theirs: pd.DataFrame | None) -> None:
    sizes = {value.size for values in designs.values() for value in values}
    ax.set(xscale="log", xlabel="images in the training set")
    count_ticks(ax, sorted(sizes | (set() if theirs is None else set(theirs["size"]))))


def radii_by_memory(measured: Sequence[Memory], ax: Axes) -> Axes:
    """Mean log10 radius against what members remember, a colour a size, larger at more exposure."""
    names = _by_name(measured)
    colours = sns.color_palette("viridis", len(names))
    for (name, values), colour in zip(names.items(), colours):
        shares = [float(np.median(value.ratios)) for value in values]
        style = {"color": colour, "marker": "o", "markersize": 5, "capsize": 2, "linewidth": 1}
        ax.errorbar(shares, *_logs(values), label=name, **style)
    _memory_axis(ax)
    ax.set(ylabel="mean log10 counterfactual radius")
    ax.legend()
    return ax


def _memory_axis(ax: Axes) -> None:
    ax.invert_xaxis()
    ax.set(xlabel="own over others: 1 remembers nothing, 0 repeats")


def one_curve(points: pd.DataFrame, curve: np.ndarray | None, ax: Axes) -> Axes:
    """Mean radii of all families over what members remember, each family in a unit of its own, with
    the curve that was fitted to them; open marks were measured after the fit.

    Arguments from :func:`abc_lib.study.exposures.one_variable.curve_points`.
    """
    if curve is not None:
        shares = np.linspace(points["ratio"].min(), points["ratio"].max(), 100)
        ax.plot(shares, np.polynomial.Polynomial(curve)(shares), color="0.5", linewidth=1)
    families = list(dict.fromkeys(points["family"]))
    for family, colour, marker in zip(families, sns.color_palette("colorblind"), "osD^v"):
        for later, group in points[points["family"] == family].groupby("later"):
            style = {"color": colour, "marker": marker, "markersize": 5, "linestyle": ""}
            style |= {"markerfacecolor": "white" if later else colour, "elinewidth": 0.8}
            label = f"{family}, measured later" if later else family
            ax.errorbar(group["ratio"], group["mean"], group["error"], label=label, **style)
    _memory_axis(ax)
    ax.set(ylabel="mean log10 of the radius over\nthe distance of two samples")
    ax.legend()
    return ax


def frontier(
    measured: Sequence[Memory],
    hours: Sequence[float],
    axes: Sequence[Axes],
    theirs: pd.DataFrame,
    tried: pd.DataFrame | None = None,
) -> Sequence[Axes]:
    """Two axes over core-hours of training: mean log10 radius, and the share of samples that keep
    their nearest image without it. A colour an ensemble; the authors' same set as a dashed line;
    networks that were tried as marks without a line.

    ``hours`` go with ``measured``; ``theirs`` from
    :func:`abc_lib.study.exposures.authors_points`, ``tried`` from
    :func:`abc_lib.study.exposures.remembering.candidate_points`.
    """
    over = {id(value): time for value, time in zip(measured, hours, strict=True)}
    names, marks = _by_name(measured), theirs.set_index("ensemble")
    for (name, values), colour in zip(names.items(), sns.color_palette("viridis", len(names))):
        times = [over[id(value)] for value in values]
        style = {"color": colour, "marker": "o", "markersize": 4, "capsize": 2}
        axes[0].errorbar(times, *_logs(values), label=name, **style)
        axes[1].errorbar(times, *_shares(values, "again"), **style)
        if name in marks.index:
            dashes = {"color": colour, "linestyle": "--", "linewidth": 1}
            axes[0].axhline(marks.loc[name, "mean"], **dashes)
            axes[1].axhline(marks.loc[name, "without nearest"], **dashes)
    rows = [] if tried is None else list(tried.itertuples())
    for one, marker, colour in zip(rows, "sDv^P*X<>", sns.color_palette("colorblind", 9)):
        style = {"color": colour, "marker": marker, "markersize": 6, "linestyle": ""}
        style |= {"elinewidth": 0.8, "label": one.words}
        axes[0].errorbar(one.hours, one.mean, one.error, **style)
        axes[1].errorbar(one.hours, one.kept, 1.96 * one.kept_error, **style)
    if set(names) & set(marks.index):
        axes[0].plot([], [], color="0.3", linestyle="--", linewidth=1, label="authors, same set")
    axes[0].set(ylabel="mean log10 radius")
    most = max([0.7, *(one.kept + 2 * one.kept_error for one in rows)])
    axes[1].set(ylabel="share that keeps it", ylim=(-0.03, most + 0.05))
    for ax in axes:
        ax.set(xscale="log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter("")
    axes[1].set(xlabel="core-hours of training, all members")
    axes[1].legend(*axes[0].get_legend_handles_labels(), ncols=2, loc="upper center",
                   bbox_to_anchor=(0.5, -0.24))  # fmt: skip
    return axes


def samples_and_nearest(value: Memory) -> Figure:
    """Samples of an ensemble and of its first member alone, each above the training image that it
    lies nearest to, in a border.

    Raises :class:`BadValue` where no pictures were kept.
    """
    if not value.pictures:
        raise BadValue(
            f"no pictures were kept of {value.name}; measure it again with python -m abc_lib "
            "remember"
        )
    rows = {}
    for whose, words in (("ensemble", "the ensemble"), ("member", "one member")):
        rows[words] = torch.from_numpy(value.pictures[whose])
        rows[f"nearest to {words}"] = torch.from_numpy(value.pictures[f"{whose} nearest"])
    columns = min(len(images) for images in rows.values())
    rows = {name: images[:columns] for name, images in rows.items()}
    framed = [name for name in rows if name.startswith("nearest")]
    return image_rows(rows, [f"{k}" for k in range(columns)], framed=framed)


def attribution_by_exposure(
    measured: Sequence[Memory], ax: Axes, theirs: pd.DataFrame | None = None
) -> Axes:
    """How often a sample keeps its nearest image when that is left out, and when another one is.

    ``theirs`` are the authors' ensembles at their exposures, from
    :func:`abc_lib.study.exposures.authors_points`; dashed where those are not known.
    """
    theirs, unknown = _known(theirs, _by_name(measured))
    for share, dashes in (("without random", ":"), ("without nearest", "--")):
        for one in unknown.to_dict("records"):
            words = f"authors, {'another' if dashes == ':' else 'nearest'}"
            ax.axhline(one[share], color=PAPERS, linestyle=dashes, label=words)
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
            shares, errors = _shares(values, which)
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
