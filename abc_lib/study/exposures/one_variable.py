"""Is there one variable behind size and exposure? What members remember, in a family and across.

What members remember is the median of :attr:`abc_lib.results.placebos.memory.Memory.ratios`: how
much nearer samples of a member alone lie to an image that it saw than to any other.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import sem

from abc_lib.ground.here import Here
from abc_lib.images.registry import family_of, get_recipe
from abc_lib.method.distance import distance
from abc_lib.results import landscapes
from abc_lib.results.placebos.memory import Memory
from abc_lib.study.exposures import mean_and_error

__all__ = [
    "across_table",
    "across_verdict",
    "before",
    "curve_points",
    "foretold_table",
    "foretold_verdict",
    "units",
    "within_table",
    "within_verdict",
]

REMEMBERED, BOTH = "what members remember", "size and exposure"
ENOUGH = 3
"""ensembles of a family, for a verdict"""
WRITTEN = "2026-11-30T18:00"
"""when the rules of the curve for all families were written: ensembles measured later test them"""


def _axes(measured: Sequence[Memory]) -> dict[str, list[np.ndarray]]:
    """The columns of each way to foretell a radius."""
    size = np.log10([value.size for value in measured])
    times = np.log10([value.exposure for value in measured])
    share = np.array([np.median(value.ratios) for value in measured])
    return {
        "none, the mean of the others": [],
        "size": [size],
        "exposure": [times],
        BOTH: [size, times],
        REMEMBERED: [share, share**2],
    }


def _fit(columns: list[np.ndarray], means: np.ndarray, known: np.ndarray) -> np.ndarray | None:
    """Least squares over the ``known`` ensembles, a constant first; None where they are too few."""
    axes = np.stack([np.ones(len(means)), *columns], axis=1)
    if known.sum() < axes.shape[1] + 1:
        return None
    return np.linalg.lstsq(axes[known], means[known], rcond=None)[0]


def _missed(columns: list[np.ndarray], means: np.ndarray, known: np.ndarray) -> np.ndarray | None:
    """By how much a fit to the ``known`` ensembles misses the others; None where they are too
    few.
    """
    fit = _fit(columns, means, known)
    if fit is None:
        return None
    return (means - np.stack([np.ones(len(means)), *columns], axis=1) @ fit)[~known]


def _error(missed: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(np.square(np.concatenate(missed)))))


def within_table(measured: Sequence[Memory]) -> pd.DataFrame:
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


def within_verdict(kinds: dict[str, Sequence[Memory]]) -> str:
    """Whether one variable stands behind size and exposure.

    Rule: it does in a family if what members remember foretells the radius of an ensemble that
    was left out with a smaller error than size and exposure together.
    """
    better, rest = [], []
    for kind, values in kinds.items():
        table = within_table(values).set_index("foretold by")
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
        kind: [value for value in values if not _later(value, written)]
        for kind, values in kinds.items()
    }
    return {kind: values for kind, values in first.items() if values}


def _later(value: Memory, written: str) -> bool:
    return value.artefact.provenance["time"] >= written


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
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Every ensemble as a mark for :func:`abc_lib.figures.one_curve`, and the curve itself: the
    coefficients (3,) of 1, what members remember and its square, fitted to what was measured before
    ``written``; None where that is too little.
    """
    families, measured, means = _in_units(kinds, apart)
    later = np.array([_later(value, written) for value in measured])
    columns = _axes(measured)[REMEMBERED]
    points = {
        "family": families,
        "ratio": columns[0],
        "mean": means,
        "error": [sem(np.log10(value.radii)) for value in measured],
        "later": later,
    }
    return pd.DataFrame(points), _fit(columns, means, ~later)


def foretold_table(
    kinds: dict[str, Sequence[Memory]], apart: dict[str, float], written: str = WRITTEN
) -> pd.DataFrame:
    """What the ensembles measured before ``written`` foretold of those measured later.

    One fit to all families, radii in units of ``apart``.
    """
    _, later, missed = _foretold(kinds, apart, written)
    if missed is None:
        return pd.DataFrame([{"ensemble": "none was measured later, or too few before"}])
    return pd.DataFrame(
        [
            {
                "ensemble": value.name,
                "times seen": f"{value.exposure:,.0f}",
                "own over others": f"{np.median(value.ratios):.2f}",
                "mean log10 radius": mean_and_error(np.log10(value.radii)),
                f"foretold by {REMEMBERED}": f"{mean - curve:.3f}",
                f"by {BOTH}": f"{mean - both:.3f}",
            }
            for value, mean, curve, both in zip(
                later, _means(later), missed[REMEMBERED], missed[BOTH], strict=True
            )
        ]
    )


def foretold_verdict(
    kinds: dict[str, Sequence[Memory]], apart: dict[str, float], written: str = WRITTEN
) -> str:
    """Whether the curve foretold what was measured later.

    Rule: it did if it missed those ensembles by less, in the mean square, than a fit of size and
    exposure to the same earlier ensembles did.
    """
    families, later, missed = _foretold(kinds, apart, written)
    if not later:
        return "No ensemble was measured after the rule was written."
    if missed is None:
        return "Too few ensembles were measured before the rule was written."
    curve, both = _error([missed[REMEMBERED]]), _error([missed[BOTH]])
    head = "**It foretold them better**" if curve < both else "**It did not foretell them better**"
    nearer = int((np.abs(missed[REMEMBERED]) < np.abs(missed[BOTH])).sum())
    within = _error([np.array([sem(np.log10(value.radii)) for value in later])])
    text = (
        f"{head} than size and exposure did: it misses the {len(later)} ensembles that were "
        f"measured after the rule was written by {curve:.3f}, those by {both:.3f}; it is nearer in "
        f"{nearer}. Samples alone leave a mean uncertain by {within:.3f}."
    )
    for family in sorted(set(families) - set(before(kinds, written))):
        off = missed[REMEMBERED][families == family]
        text += (
            f" Of {family} it knew nothing: its ensembles lie {off.mean():.3f} from the curve "
            f"({off.min():.3f} to {off.max():.3f})."
        )
    return text


def _in_units(
    kinds: dict[str, Sequence[Memory]], apart: dict[str, float]
) -> tuple[np.ndarray, list[Memory], np.ndarray]:
    """Families, ensembles and mean log10 radii in units of ``apart``, of families that have one."""
    values = [(kind, value) for kind in apart for value in kinds.get(kind, ())]
    measured = [value for _, value in values]
    means = _means(measured) - np.array([apart[kind] for kind, _ in values])
    return np.array([kind for kind, _ in values]), measured, means


def _foretold(
    kinds: dict[str, Sequence[Memory]], apart: dict[str, float], written: str
) -> tuple[np.ndarray, list[Memory], dict[str, np.ndarray] | None]:
    """Families and ensembles measured later, and by how much the curve and a fit of size and
    exposure to the earlier ones miss them; None where there are none, or too few earlier ones.
    """
    families, measured, means = _in_units(kinds, apart)
    later = np.array([_later(value, written) for value in measured], dtype=bool)
    ways = _axes(measured)
    missed = {words: _missed(ways[words], means, ~later) for words in (REMEMBERED, BOTH)}
    known = later.any() and not any(one is None for one in missed.values())
    values = [value for value in measured if _later(value, written)]
    return families[later], values, missed if known else None


def _across(
    kinds: dict[str, Sequence[Memory]], apart: dict[str, float], kind: str
) -> dict[str, np.ndarray | None]:
    """By how much each way misses a family's radii, fitted to all other families."""
    families, measured, means = _in_units(kinds, apart)
    ways = _axes(measured).items()
    return {words: _missed(columns, means, families != kind) for words, columns in ways}


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
