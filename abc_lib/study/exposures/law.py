"""The law of the radius: what size and exposure do to it apart from each other, how much another
training seed would change that, and whether the radius levels off with training.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.seeds import derive
from abc_lib.images.registry import get_recipe
from abc_lib.results.placebos import memory
from abc_lib.results.placebos.memory import Memory
from abc_lib.study.exposures import designs, differs, mean_and_error

__all__ = [
    "ExposureLaw",
    "Trainings",
    "fit",
    "fit_or_none",
    "levelling_table",
    "levelling_verdict",
    "slopes_table",
    "spread_of",
    "table",
    "told_verdict",
    "trainings",
    "trainings_table",
    "trainings_verdict",
]

TRAININGS = 16
"""seeds of training that are looked for"""


@dataclass(frozen=True)
class Trainings:
    """What several trainings of one recipe gave, each with a seed of its own, on one code.

    ``each`` are in the order of their seeds, of which 0 is the ensemble of the other pages.
    """

    each: tuple[Memory, ...]

    @property
    def logs(self) -> np.ndarray:
        """log10 radii (T, S) of T trainings and the S samples that all have, from one noise."""
        count = min(len(value.radii) for value in self.each)
        return np.array([np.log10(value.radii[:count]) for value in self.each])

    @property
    def variances(self) -> tuple[float, float]:
        """The variance over trainings of the mean log10 radius, and what of it S samples explain:
        that of the means if trainings moved each sample independently (a two-way layout).
        """
        logs = self.logs
        T, S = logs.shape
        left = logs - logs.mean(0) - logs.mean(1, keepdims=True) + logs.mean()
        return (
            float(logs.mean(axis=1).var(ddof=1)),
            float((left**2).sum() / ((T - 1) * (S - 1) * S)),
        )


def trainings(measured: Iterable[Memory], here: Here | None = None) -> list[Trainings]:
    """Of what was measured, the ensembles that were trained more than once."""
    groups = []
    for value in measured:
        recipe = get_recipe(value.name, value.scale).exposed(value.exposure)
        seeds = (recipe.replace(training={"seed": seed}) for seed in range(1, TRAININGS))
        again = [memory.stored(each, here) for each in seeds]
        found = (value, *filter(None, again))
        if len(found) > 1:
            groups.append(Trainings(found))
    return groups


def spread_of(groups: Sequence[Trainings]) -> tuple[float, float]:
    """The standard deviation over training seeds of an ensemble's mean log10 radius, and how much
    of it is left for the seed beyond what the number of samples explains.

    Variances are pooled over ensembles by their degrees of freedom. 0 where nothing was trained
    twice.
    """
    free = [len(group.each) - 1 for group in groups]
    if not free:
        return 0.0, 0.0
    whole, samples = np.average([group.variances for group in groups], axis=0, weights=free)
    return float(whole**0.5), float(max(whole - samples, 0) ** 0.5)


def trainings_table(groups: Iterable[Trainings]) -> pd.DataFrame:
    """A row an ensemble: what each training says, and how far apart they lie."""
    rows = []
    for group in groups:
        value = group.each[0]
        whole, samples = group.variances
        shares = [one.attribution.again for one in group.each]
        known = [np.median(one.ratios) for one in group.each]
        rows.append(
            {
                "ensemble": value.name,
                "times seen": f"{value.exposure:,.0f}",
                "mean log10 radius": ", ".join(f"{x:.3f}" for x in group.logs.mean(axis=1)),
                "spread": f"{whole**0.5:.3f}",
                "explained by samples": f"{samples**0.5:.3f}",
                "unchanged without nearest": ", ".join(f"{x:.2f}" for x in shares),
                "own over others": ", ".join(f"{x:.2f}" for x in known),
            }
        )
    return pd.DataFrame(rows or [{"ensemble": "none was trained more than once"}])


def trainings_verdict(groups: Sequence[Trainings], measured: Sequence[Memory]) -> str:
    """Whether another training seed would change what the page says of size and exposure.

    Rule: it matters little if the standard deviation over trainings of an ensemble's mean log10
    radius is below half of that over the ensembles.
    """
    if not groups:
        return "No ensemble was trained more than once; how much a seed matters is not known."
    spread, _ = spread_of(groups)
    means = [np.log10(value.radii).mean() for value in measured]
    differ = float(np.std(means, ddof=1))
    little = spread < differ / 2
    head = "The seed matters little" if little else "The seed matters as much as what is compared"
    return (
        f"**{head}.** Another one moves the mean log10 radius of an ensemble by {spread:.3f} (a "
        f"standard deviation, from {len(groups)} ensembles), where ensembles differ by "
        f"{differ:.3f}."
    )


@dataclass(frozen=True)
class ExposureLaw:
    """log10 radius = level + by_size log10 N + by_exposure log10 E, least squares over ensembles.

    Intervals are the 2.5th to 97.5th percentiles over bootstrap draws of samples, which are the
    same samples (the same noise) in every ensemble, and of training seeds: the mean of each
    ensemble moves by a normal deviate of standard deviation ``spread``, see :func:`spread_of`
    (what the seed adds to the chance of samples). They know nothing of ensembles that do not lie
    on the law; ``without_one`` does: the laws without each ensemble in turn, where there are any.
    """

    level: float
    by_size: float
    by_exposure: float
    size_interval: tuple[float, float]
    exposure_interval: tuple[float, float]
    r2: float
    ensembles: int
    samples: int
    spread: float
    without_one: tuple["ExposureLaw", ...] = ()


def fit(
    measured: Iterable[Memory], placebo: bool = False, spread: float = 0.0, resamples: int = 2000
) -> ExposureLaw:
    """Fits :class:`ExposureLaw` to ensembles of one family, or to their placebo radii.

    ``spread`` is how far another training seed moves a mean log10 radius. Raises
    :class:`BadValue` where sizes and exposures do not vary apart from each other.
    """
    measured = list(measured)
    if not _varies(measured):
        raise BadValue(
            "a law of size and exposure needs four ensembles or more whose sizes and exposures "
            "vary apart from each other; measure another one"
        )
    whole = _fit(measured, placebo, spread, resamples)
    rest = ([v for v in measured if v is not one] for one in measured)
    found = tuple(_fit(each, placebo, spread, resamples) for each in rest if _varies(each))
    return replace(whole, without_one=found)


def _axes(measured: Sequence[Memory]) -> np.ndarray:
    return np.array([[1, np.log10(v.size), np.log10(v.exposure)] for v in measured])


def _varies(measured: Sequence[Memory]) -> bool:
    """Whether there are ensembles enough, whose sizes and exposures vary apart from each other."""
    return len(measured) >= 4 and np.linalg.matrix_rank(_axes(measured), tol=1e-6) == 3


def _fit(measured: Sequence[Memory], placebo: bool, spread: float, resamples: int) -> ExposureLaw:
    count = min(len(value.radii) for value in measured)
    radii = [value.placebo_radii if placebo else value.radii for value in measured]
    logs = np.array([np.log10(values[:count]) for values in radii])
    axes = _axes(measured)
    solve = np.linalg.pinv(axes)
    means = logs.mean(axis=1)
    level, by_size, by_exposure = solve @ means
    rng = np.random.default_rng(derive("exposure law", 0))
    drawn = rng.integers(count, size=(resamples, count))
    moved = logs[:, drawn].mean(axis=2) + spread * rng.standard_normal((len(logs), resamples))
    fits = moved.T @ solve.T
    low, high = np.percentile(fits, [2.5, 97.5], axis=0)
    left = means - axes @ [level, by_size, by_exposure]
    r2 = 1 - float((left**2).sum() / ((means - means.mean()) ** 2).sum())
    return ExposureLaw(
        float(level),
        float(by_size),
        float(by_exposure),
        (float(low[1]), float(high[1])),
        (float(low[2]), float(high[2])),
        r2,
        len(measured),
        count,
        spread,
    )


def fit_or_none(
    measured: Sequence[Memory], placebo: bool = False, spread: float = 0.0
) -> ExposureLaw | None:
    """:func:`fit`, or None where too few ensembles were measured."""
    try:
        return fit(measured, placebo, spread)
    except BadValue:
        return None


def _interval(value: float, ends: tuple[float, float]) -> str:
    return f"{value:.2f} ({ends[0]:.2f} to {ends[1]:.2f})"


def _range(values: Iterable[float]) -> str:
    values = list(values)
    return f"{min(values):.2f} to {max(values):.2f}" if values else ""


def table(
    laws: dict[str, ExposureLaw | None], placebos: dict[str, ExposureLaw | None]
) -> pd.DataFrame:
    """A row a family and kind of codeword: exponents with their intervals, and between which they
    lie without any one of the ensembles.
    """
    rows = []
    for words, fitted in (("sources", laws), ("placebos", placebos)):
        for kind, line in fitted.items():
            if line is None:
                continue
            rows.append(
                {
                    "family": kind,
                    "codewords": words,
                    "b, of size": _interval(line.by_size, line.size_interval),
                    "b without one": _range(other.by_size for other in line.without_one),
                    "c, of exposure": _interval(line.by_exposure, line.exposure_interval),
                    "c without one": _range(other.by_exposure for other in line.without_one),
                    "R²": f"{line.r2:.2f}",
                    "ensembles": line.ensembles,
                    "samples": line.samples,
                }
            )
    if not rows:
        return pd.DataFrame([{"family": "none has four ensembles that vary apart"}])
    return pd.DataFrame(rows).sort_values(["family", "codewords"], ascending=[True, False])


def told_verdict(laws: dict[str, ExposureLaw | None]) -> str:
    """Which exponents are told from zero, and whether that rests on a single ensemble.

    Rule: an exponent is told if its interval leaves zero out; that rests on no single ensemble if
    the interval of every fit without one does so, on the same side.
    """
    sentences = []
    for kind, line in laws.items():
        if line is None:
            continue
        parts = []
        for of, value, ends in (
            ("size", "by_size", "size_interval"),
            ("exposure", "by_exposure", "exposure_interval"),
        ):
            side = _side(getattr(line, ends))
            others = [_side(getattr(other, ends)) for other in line.without_one]
            lost = sum(other != side for other in others)
            if side == 0:
                says = "is not told from zero"
            elif not others:
                says = "is told from zero by just as many ensembles as it takes"
            elif lost:
                says = f"is told from zero, but not in {lost} of {len(others)} fits without one"
            else:
                says = "is told from zero, whichever ensemble is left out"
            parts.append(f"the exponent of {of} ({getattr(line, value):.2f}) {says}")
        sentences.append(f"Of {kind} {'; '.join(parts)}.")
    return " ".join(sentences) or "No kind of image has ensembles enough for a law."


def _side(interval: tuple[float, float]) -> int:
    """On which side of zero an interval lies, 0 where it holds zero."""
    return int(interval[0] > 0) - int(interval[1] < 0)


def slopes_table(kinds: dict[str, list[Memory]]) -> pd.DataFrame:
    """The slope of log10 radii over log10 N within each design of each kind of image.

    One slope a sample, whose noise all sizes share, with the standard error over samples. A law
    gives all equal exposures one slope; the table says whether they have it.
    """
    rows = []
    for kind, measured in kinds.items():
        for design, group in designs(measured).items():
            count = min(len(value.radii) for value in group)
            logs = np.array([np.log10(value.radii[:count]) for value in group])
            away = np.log10([value.size for value in group])
            away -= away.mean()
            rows.append(
                {
                    "family": kind,
                    "design": design,
                    "sizes": ", ".join(f"{value.size:,}" for value in group),
                    "slope": mean_and_error(away @ logs / (away @ away)),
                }
            )
    return pd.DataFrame(rows or [{"family": "no design has two sizes"}])


def _steps(measured: Iterable[Memory]) -> list[tuple[Memory, Memory, np.ndarray]]:
    """Ensembles of one set that follow each other in exposure, and how much log10 radii grow for
    each doubling of it, sample by sample.
    """
    found = []
    for before, after in itertools.pairwise(measured):
        if before.name == after.name:
            count = min(len(before.radii), len(after.radii))
            grown = np.log10(after.radii[:count]) - np.log10(before.radii[:count])
            found.append((before, after, grown / np.log2(after.exposure / before.exposure)))
    return found


def levelling_table(measured: Iterable[Memory]) -> pd.DataFrame:
    """How much the mean log10 radius grows a doubling of the exposure, paired over samples."""
    rows = [
        {
            "ensemble": before.name,
            "times seen": f"{before.exposure:,.0f} to {after.exposure:,.0f}",
            "own over others": f"{np.median(before.ratios):.2f} to {np.median(after.ratios):.2f}",
            "log10 radius, a doubling": mean_and_error(grown),
        }
        for before, after, grown in _steps(measured)
    ]
    return pd.DataFrame(rows or [{"ensemble": "none was measured at two exposures"}])


def levelling_verdict(measured: Iterable[Memory]) -> str:
    """Whether the radius levels off with training.

    Rule: it does in a set of images if it grows by two standard errors or more over some
    doubling, and over the last one by less than half of the most that it grew, by two standard
    errors of the difference; it still grows if it does so over the last one; else that is
    undecided. Sets with two steps or more are judged.
    """
    steps: dict[str, list[np.ndarray]] = {}
    for before, _, grown in _steps(measured):
        steps.setdefault(before.name, []).append(grown)
    judged = {name: grown for name, grown in steps.items() if len(grown) > 1}
    if not judged:
        return "No set of images was measured at three exposures; nothing can be said."
    verdicts: dict[str, list[str]] = {}
    for name, grown in judged.items():
        most = max(grown[:-1], key=lambda one: one.mean())
        if differs(most) > 0 and differs(most / 2 - grown[-1]) > 0:
            words = "**The radius levels off**"
        elif differs(grown[-1]) > 0:
            words = "**It still grows**"
        else:
            words = "**Undecided**"
        verdicts.setdefault(words, []).append(name)
    return "; ".join(f"{words} in {', '.join(names)}" for words, names in verdicts.items()) + "."
