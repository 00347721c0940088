"""What members remember against how often they saw an image: what the page on memory says, and
what the pages after it share.

The ensembles are named by what they are trained on and by their exposure: a number, or None for
the authors' design, in which the number of images that a member draws is fixed.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from abc_lib.ground import paper
from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.images.families import FAMILIES
from abc_lib.images.registry import family_of, get_recipe
from abc_lib.results.placebos import memory
from abc_lib.results.placebos.memory import Memory

__all__ = [
    "at_hand",
    "authors_points",
    "authors_table",
    "designs",
    "differs",
    "mean_and_error",
    "nearest_p",
    "opening",
    "p_verdict",
    "placebo_verdict",
    "table",
]

AUTHORS_DRAWN = 500_000
"""images that one of the authors' members draws, whatever N is: a million over N epochs over
half of N (their released training script)"""


def at_hand(families: Iterable[str], here: Here | None = None) -> list[Memory]:
    """What was measured of families' data-point ensembles, by size and exposure.

    A family is given by one of its names, such as ``digits_64``; they come in that order.
    """
    names = [name for family in families for name in family_of(family)]
    return [value for name in names for value in memory.every(get_recipe(name), here)]


def designs(measured: Iterable[Memory]) -> dict[str, list[Memory]]:
    """What was measured by design: as the authors, or at an equal exposure, with two sizes or more.

    An ensemble may be in two.
    """
    groups: dict[str, list[Memory]] = {"a fixed number drawn": []}
    equal: dict[float, list[Memory]] = {}
    for value in sorted(measured, key=lambda one: one.exposure):
        if _near(value.exposure, get_recipe(value.name, value.scale).exposure):
            groups["a fixed number drawn"].append(value)
        like = next((each for each in equal if _near(value.exposure, each)), value.exposure)
        equal.setdefault(like, []).append(value)
    groups |= {f"each seen {exposure:,.0f} times": group for exposure, group in equal.items()}
    several = {name: group for name, group in groups.items() if len({v.size for v in group}) > 1}
    return {name: sorted(group, key=lambda one: one.size) for name, group in several.items()}


def _near(exposure: float, other: float) -> bool:
    return abs(exposure / other - 1) < 0.05


def mean_and_error(values: np.ndarray) -> str:
    """A mean over samples with its standard error, as text."""
    # Adding nothing turns a rounded -0.0 into 0.
    return f"{round(float(values.mean()), 3) + 0.0:.3f} ± {stats.sem(values):.3f}"


def nearest_p(value: Memory) -> np.ndarray:
    """p-values (S,) of the source whose image each sample lies nearest to."""
    return value.p_values[np.arange(len(value.nearest)), value.nearest]


def table(measured: Iterable[Memory]) -> pd.DataFrame:
    """A row an ensemble: radius beside placebo radius (paired), attribution, memory, p-values."""
    rows = []
    for value in measured:
        real, placebo = np.log10(value.radii), np.log10(value.placebo_radii)
        own, other = value.own_loss.mean(0)[1], value.other_loss.mean(0)[1]
        rate, p = value.attribution, nearest_p(value)
        rows.append(
            {
                "ensemble": value.name,
                "times seen": f"{value.exposure:,.0f}",
                "samples": len(real),
                "mean log10 radius": mean_and_error(real),
                "placebo": f"{placebo.mean():.3f}",
                "radius less placebo": mean_and_error(real - placebo),
                "unchanged without nearest": f"{rate.again:.2f}",
                "without another": f"{rate.instead:.2f}",
                "loss, own images": f"{own:.3f}",
                "loss, others": f"{other:.3f}",
                "own over others": f"{np.median(value.ratios):.2f}",
                "p < 0.05, all sources": f"{(value.p_values < 0.05).mean():.3f}",
                "p < 0.05, nearest": f"{(p < 0.05).mean():.2f}",
            }
        )
    return pd.DataFrame(rows)


def authors_points(family: str = "mnist") -> pd.DataFrame:
    """The authors' ensembles of a family: size, exposure, mean log10 radius and its error, and
    how often the attribution stays without the nearest and without a random image.

    The exposure is NaN where the length of their training is not known.
    """
    drawn = AUTHORS_DRAWN if family in FAMILIES and not FAMILIES[family].steps else np.nan
    radii, rates = paper.radii(), paper.false_attribution()
    rates = rates[rates["metric"] == "Euclidean"]
    rates = rates.set_index(rates["ensemble"].str.lower())
    rows = []
    for name, group in radii.groupby("ensemble", sort=False):
        if not name.startswith(f"{family}_"):
            continue
        size, logs = int(group["training_set_size"].iloc[0]), group["log10_radius"]
        row = {"ensemble": name, "size": size, "exposure": drawn / (size / 2)}
        row |= {"mean": logs.mean(), "error": stats.sem(logs)}
        if name in rates.index:
            one = rates.loc[name]
            row["without nearest"] = one["unchanged_without_nearest"] / one["samples"]
            row["without random"] = one["unchanged_without_random"] / one["samples"]
        rows.append(row)
    columns = ["ensemble", "size", "exposure", "mean", "error", "without nearest", "without random"]
    return pd.DataFrame(rows, columns=columns).sort_values("size", ignore_index=True)


def authors_table(measured: Iterable[Memory]) -> pd.DataFrame:
    """Of sets that the authors have too, the longest trained of ours beside theirs."""
    rows = []
    for value in sorted(measured, key=lambda one: one.exposure):
        theirs = authors_points(value.name.split("_")[0]).set_index("ensemble")
        if value.name not in theirs.index:
            continue
        rows = [row for row in rows if row["ensemble"] != value.name]
        one, rate = theirs.loc[value.name], value.attribution
        log = np.log10(value.radii)
        row = {"ensemble": value.name}
        known = "unknown" if np.isnan(one["exposure"]) else f"{one['exposure']:,.0f}"
        row["times seen"] = f"{value.exposure:,.0f}; theirs {known}"
        row["mean log10 radius"] = f"{mean_and_error(log)}; theirs {one['mean']:.3f}"
        row["less theirs"] = f"{log.mean() - one['mean']:.3f}"
        row["unchanged without nearest"] = f"{rate.again:.2f}; theirs {one['without nearest']:.2f}"
        row["without another"] = f"{rate.instead:.2f}; theirs {one['without random']:.2f}"
        rows.append(row)
    return pd.DataFrame(rows or [{"ensemble": "none that the authors have"}])


# --- what the page says ---


def opening(measured: Sequence[Memory], run: str) -> str:
    """The first lines of a page: what was measured, where and when, and the command to run it."""
    if not measured:
        raise BadValue(
            "nothing was measured of these families; run python -m abc_lib remember first"
        )
    made = [value.artefact.provenance for value in measured]
    days = sorted({each["time"][:10] for each in made})
    names = ", ".join(dict.fromkeys(value.name for value in measured))
    places = ", ".join(sorted({each["hardware"] for each in made}))
    details = " ".join(memory.origin(value) for value in measured)
    return (
        f"Scale *laptop*, with networks that remember: {len(measured)} ensembles of {names}, "
        f"computed on {places}, {' to '.join(dict.fromkeys([days[0], days[-1]]))}; one code "
        "each, and one training seed unless said otherwise.\n\n"
        f"<details><summary>Where each number comes from</summary>\n\n{details}\n\n</details>\n\n"
        f"> **Run this page:** `{run}`"
    )


def differs(values: np.ndarray) -> int:
    """The sign of a mean over samples that lies two standard errors or more from 0, else 0."""
    error = stats.sem(values)
    return int(np.sign(values.mean())) if abs(values.mean()) >= 2 * error else 0


def placebo_verdict(measured: Sequence[Memory]) -> str:
    """Whether radii are larger than their placebos.

    Rule: an ensemble's is if its mean paired difference of log10 radii lies two standard errors
    or more above 0.
    """
    gaps = [np.log10(value.radii) - np.log10(value.placebo_radii) for value in measured]
    above = sum(differs(gap) > 0 for gap in gaps)
    below = sum(differs(gap) < 0 for gap in gaps)
    largest = max(abs(gap.mean()) for gap in gaps)
    words = f"{above} of {len(gaps)} ensembles have a radius above their placebo radius"
    chance = f"{0.025 * len(gaps):.1f} would by chance"
    if above <= max(1, 0.1 * len(gaps)):
        return (
            f"**{words}** by two standard errors ({chance}; {below} lie below). The largest mean "
            f"difference is {largest:.3f}. The radius measures how much half an ensemble varies, "
            "and hardly a source, at every exposure that was measured."
        )
    return (
        f"**{words}** by two standard errors ({chance}; {below} lie below); the largest mean "
        f"difference is {largest:.3f}."
    )


def p_verdict(measured: Sequence[Memory]) -> str:
    """Whether the source of the nearest image is found, and from which exposure on.

    Rule: it is found in an ensemble if the share of its samples with p < 0.05 lies above what
    chance exceeds once in forty (the 97.5th percentile of a binomial of 5%).
    """
    found, missed = [], []
    for value in measured:
        p = nearest_p(value)
        hits = int((p < 0.05).sum())
        enough = hits > stats.binom.ppf(0.975, len(p), 0.05)
        (found if enough else missed).append(value)
    if not found:
        return (
            "**In none of the ensembles** is the source of the nearest image found more often "
            "than chance would: whatever its members remember, one code does not show it."
        )
    least = min(value.exposure for value in found)
    late = [value for value in missed if value.exposure >= least]
    words = f"**In {len(found)} of {len(measured)} ensembles**, from {least:,.0f} views an image on"
    but = f", but not in {len(late)} others seen as often" if late else ""
    return f"{words}{but}, the source of the nearest image is found more often than by chance."
