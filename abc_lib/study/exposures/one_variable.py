"""Is there one variable behind size and exposure? What members remember, in a family and across.

What members remember is the median of :attr:`abc_lib.results.placebos.memory.Memory.ratios`: how
much nearer samples of a member alone lie to an image that it saw than to any other.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from abc_lib.ground.here import Here
from abc_lib.images.registry import family_of, get_recipe
from abc_lib.method.distance import distance
from abc_lib.results import landscapes
from abc_lib.results.placebos.memory import Memory
from abc_lib.study.exposures import mean_and_error

__all__ = ["across_table", "across_verdict", "one_variable_table", "one_variable_verdict", "units"]

REMEMBERED, BOTH = "what members remember", "size and exposure"
ENOUGH = 3
"""ensembles of a family, for a verdict"""
WRITTEN = "2026-11-30T18:00"
"""when the rules of the curve for all families were written: ensembles measured later test them"""


def _axes(measured: Sequence[Memory]) -> dict[str, list[np.ndarray]]:
    """The columns of each way to foretell a radius."""
    size = np.log10([value.distances.shape[1] for value in measured])
    times = np.log10([value.exposure for value in measured])
    share = np.array([np.median(value.ratios) for value in measured])
    return {
        "none, the mean of the others": [],
        "size": [size],
        "exposure": [times],
        BOTH: [size, times],
        REMEMBERED: [share, share**2],
    }


def _missed(columns: list[np.ndarray], means: np.ndarray, known: np.ndarray) -> np.ndarray | None:
    """By how much a least-squares fit to the ``known`` ensembles misses the others; None where
    they are too few.
    """
    axes = np.stack([np.ones(len(means)), *columns], axis=1)
    if known.sum() < axes.shape[1] + 1:
        return None
    fit = np.linalg.lstsq(axes[known], means[known], rcond=None)[0]
    return (means - axes @ fit)[~known]


def _error(missed: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(np.square(np.concatenate(missed)))))


def one_variable_table(measured: Sequence[Memory]) -> pd.DataFrame:
    """Which variables foretell the mean log10 radius of an ensemble that was left out of the fit.

    Least squares over all but one ensemble, in turn, what members remember with its square.
    """
    means, every = _means(measured), np.arange(len(measured))
    rows = []
    for words, columns in _axes(measured).items():
        missed = [_missed(columns, means, every != left) for left in every]
        if missed and all(one is not None for one in missed):
            rows.append({"foretold by": words, "error, log10 radius": f"{_error(missed):.3f}"})
    return pd.DataFrame(rows or [{"foretold by": "too few ensembles"}])


def _means(measured: Sequence[Memory]) -> np.ndarray:
    return np.array([np.log10(value.radii).mean() for value in measured])


def one_variable_verdict(kinds: dict[str, Sequence[Memory]]) -> str:
    """Whether one variable stands behind size and exposure.

    Rule: it does in a family if what members remember foretells the radius of an ensemble that
    was left out with a smaller error than size and exposure together.
    """
    better, rest = [], []
    for kind, values in kinds.items():
        table = one_variable_table(values).set_index("foretold by")
        if {BOTH, REMEMBERED} <= set(table.index):
            errors = table.iloc[:, 0].astype(float)
            known = errors[REMEMBERED] < errors[BOTH]
            (better if known else rest).append(kind)
    if not better + rest:
        return "Too few ensembles were measured to say."
    if not better:
        return f"**Size and exposure foretell it better** in {' and '.join(rest)}."
    text = "**What members remember foretells the radius better** than size and exposure together"
    text += f" in {' and '.join(better)}"
    return f"{text}, not in {' and '.join(rest)}." if rest else f"{text}."


def units(families: Sequence[str], here: Here | None = None) -> dict[str, float]:
    """How far two samples of a family lie apart, as log10, a mean over its stored landscapes.

    A family is given by one of its names; the distance is that of radii. A family without
    landscapes is left out.
    """
    found = {}
    for family in families:
        logs = []
        for name in family_of(family):
            stored = landscapes.stored(get_recipe(name), here)
            if stored is not None and len(stored.factual) > 1:
                samples = stored.factual.float()
                rows = [distance(samples, samples[[k]]) for k in range(len(samples))]
                apart = torch.stack(rows)[~torch.eye(len(samples), dtype=torch.bool)]
                logs.append(float(apart.mean().log10()))
        if logs:
            found[get_recipe(family).data.family] = float(np.mean(logs))
    return found


def before(kinds: dict[str, Sequence[Memory]], written: str = WRITTEN) -> dict[str, list[Memory]]:
    """Only what was measured before ``written``; families without any are left out."""
    first = {
        kind: [value for value in values if value.artefact.provenance["time"] < written]
        for kind, values in kinds.items()
    }
    return {kind: values for kind, values in first.items() if values}


def across_table(kinds: dict[str, Sequence[Memory]], apart: dict[str, float]) -> pd.DataFrame:
    """How far a fit to all *other* families misses a family's mean log10 radii.

    Radii are in units of ``apart`` (from :func:`units`), but for the last column. *Spread* is the
    standard deviation of what is foretold.
    """
    rows = []
    for kind in [kind for kind in kinds if kind in apart]:
        missed = _across(kinds, apart, kind)
        plain = _across(kinds, dict.fromkeys(apart, 0.0), kind)[REMEMBERED]
        means = _means(kinds[kind])
        row = {"family": kind, "ensembles": len(means)}
        row["spread"] = f"{means.std(ddof=1):.3f}" if len(means) > 1 else ""
        columns = {
            "by memory": missed[REMEMBERED],
            "by size and exposure": missed[BOTH],
            "by memory, no unit": plain,
        }
        row |= {key: "" if one is None else f"{_error([one]):.3f}" for key, one in columns.items()}
        rows.append(row)
    return pd.DataFrame(rows or [{"family": "none has landscapes"}])


def curve_points(
    kinds: dict[str, Sequence[Memory]], apart: dict[str, float], written: str = WRITTEN
) -> tuple[pd.DataFrame, np.ndarray]:
    """Every ensemble as a mark for :func:`abc_lib.figures.one_curve`, and the curve itself: the
    coefficients (3,) of 1, what members remember and its square, fitted to what was measured before
    ``written``.
    """
    measured, means, later = _by_time(kinds, apart, written)
    ratios = [np.median(value.ratios) for value in measured]
    errors = [np.log10(v.radii).std(ddof=1) / np.sqrt(len(v.radii)) for v in measured]
    families = [kind for kind in apart for _ in kinds.get(kind, ())]
    points = pd.DataFrame(
        {"family": families, "ratio": ratios, "mean": means, "error": errors, "later": later}
    )
    known = points[~points["later"]]
    axes = np.stack([known["ratio"] ** k for k in range(3)], axis=1)
    return points, np.linalg.lstsq(axes, known["mean"].to_numpy(), rcond=None)[0]


def foretold_table(
    kinds: dict[str, Sequence[Memory]], apart: dict[str, float], written: str = WRITTEN
) -> pd.DataFrame:
    """What the ensembles measured before ``written`` foretold of those measured later.

    One fit to all families, radii in units of ``apart``.
    """
    measured, means, later = _by_time(kinds, apart, written)
    missed = {words: _missed(columns, means, ~later) for words, columns in _axes(measured).items()}
    if not later.any() or missed[REMEMBERED] is None or missed[BOTH] is None:
        return pd.DataFrame([{"ensemble": "none was measured later"}])
    rows = []
    for row, k in enumerate(np.flatnonzero(later)):
        value, mean = measured[k], float(_means([measured[k]])[0])
        rows.append(
            {
                "ensemble": value.name,
                "times seen": f"{value.exposure:,.0f}",
                "own over others": f"{np.median(value.ratios):.2f}",
                "mean log10 radius": mean_and_error(np.log10(value.radii)),
                f"foretold by {REMEMBERED}": f"{mean - missed[REMEMBERED][row]:.3f}",
                f"by {BOTH}": f"{mean - missed[BOTH][row]:.3f}",
            }
        )
    return pd.DataFrame(rows)


def foretold_verdict(
    kinds: dict[str, Sequence[Memory]], apart: dict[str, float], written: str = WRITTEN
) -> str:
    """Whether the curve foretold what was measured later.

    Rule: it did if it missed those ensembles by less, in the mean square, than a fit of size and
    exposure to the same earlier ensembles did.
    """
    measured, means, later = _by_time(kinds, apart, written)
    ways = _axes(measured)
    missed = {words: _missed(ways[words], means, ~later) for words in (REMEMBERED, BOTH)}
    if not later.any() or any(one is None for one in missed.values()):
        return "No ensemble was measured after the rule was written."
    curve, both = (_error([one]) for one in missed.values())
    head = "**It foretold them better**" if curve < both else "**It did not foretell them better**"
    nearer = int((np.abs(missed[REMEMBERED]) < np.abs(missed[BOTH])).sum())
    points, _ = curve_points(kinds, apart, written)
    within = float(np.sqrt(np.mean(points["error"][points["later"]] ** 2)))
    text = (
        f"{head} than size and exposure did: it misses the {int(later.sum())} ensembles that were "
        f"measured after the rule was written by {curve:.3f}, those by {both:.3f}; it is nearer in "
        f"{nearer}. Samples alone leave a mean uncertain by {within:.3f}."
    )
    off = points[points["later"]].assign(off=missed[REMEMBERED]).groupby("family")["off"]
    unknown = set(points["family"]) - set(points["family"][~points["later"]])
    for family, each in off:
        if family in unknown:
            text += (
                f" Of {family} it knew nothing: its ensembles lie {each.mean():.3f} from the curve "
                f"({each.min():.3f} to {each.max():.3f})."
            )
    return text


def _by_time(
    kinds: dict[str, Sequence[Memory]], apart: dict[str, float], written: str
) -> tuple[list[Memory], np.ndarray, np.ndarray]:
    """All ensembles of families with a unit, their mean log10 radii in it, and which came later."""
    values = [(kind, value) for kind in apart for value in kinds.get(kind, ())]
    measured = [value for _, value in values]
    means = _means(measured) - np.array([apart[kind] for kind, _ in values])
    later = np.array([value.artefact.provenance["time"] >= written for value in measured])
    return measured, means, later


def _across(
    kinds: dict[str, Sequence[Memory]], apart: dict[str, float], kind: str
) -> dict[str, np.ndarray | None]:
    """By how much each way misses a family's radii, fitted to all other families."""
    measured, means, _ = _by_time(kinds, apart, WRITTEN)
    known = np.concatenate([np.full(len(kinds[k]), k != kind) for k in apart if k in kinds])
    return {words: _missed(columns, means, known) for words, columns in _axes(measured).items()}


def across_verdict(kinds: dict[str, Sequence[Memory]], apart: dict[str, float]) -> str:
    """Whether one curve holds for all families.

    Rule: it holds for a family of three ensembles or more if what members remember, fitted to the
    other families, foretells its radii with a smaller error than their size and exposure do, and
    with less than half of the radii's spread. It was written when 15 ensembles of digits and 8 of
    MNIST were known.
    """
    holds, fails = [], []
    for kind, values in kinds.items():
        if kind not in apart or len(values) < ENOUGH:
            continue
        missed = _across(kinds, apart, kind)
        if missed[REMEMBERED] is None or missed[BOTH] is None:
            continue
        error = _error([missed[REMEMBERED]])
        half = _means(values).std(ddof=1) / 2
        (holds if error < min(_error([missed[BOTH]]), half) else fails).append(kind)
    if not holds + fails:
        return "Too few families were measured to say whether one curve holds for all."
    if not fails:
        return f"**One curve holds**: each of {' and '.join(holds)} is foretold by the others."
    text = f"**No one curve for all**: the others do not foretell {' and '.join(fails)}"
    return f"{text}, they do {' and '.join(holds)}." if holds else f"{text}."
