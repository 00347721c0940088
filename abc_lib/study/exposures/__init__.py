"""What members remember against how often they saw an image: what the page on memory says.

The ensembles are named by what they are trained on and by their exposure: a number, or None for
the authors' design, in which the number of images that a member draws is fixed.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from abc_lib.ground import paper
from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.seeds import derive
from abc_lib.images.families import FAMILIES
from abc_lib.images.registry import family_of, get_recipe
from abc_lib.results.placebos import memory
from abc_lib.results.placebos.memory import Memory

__all__ = [
    "EXPOSURES",
    "ExposureLaw",
    "Trainings",
    "at_hand",
    "authors_points",
    "authors_table",
    "designs",
    "differs",
    "law",
    "law_or_none",
    "law_table",
    "levelling_table",
    "levelling_verdict",
    "mean_and_error",
    "nearest_p",
    "opening",
    "p_verdict",
    "placebo_verdict",
    "spread_of",
    "table",
    "trainings",
    "trainings_table",
    "trainings_verdict",
]

EXPOSURES = (125, 500, 1000, 2000, 8000, None)
"""how often an image is seen, and the authors' design"""
PASSED = (64, 512, 1024)
"""a quarter, twice and four times as often as in that design, where colour's training passes"""
TRAININGS = 16
"""seeds of training that are looked for"""
AUTHORS_DRAWN = 500_000
"""images that one of the authors' members draws, whatever N is: a million over N epochs over
half of N (their released training script)"""


def at_hand(families: Iterable[str], here: Here | None = None) -> list[Memory]:
    """What was measured of families' data-point ensembles, by size and exposure, each once.

    A family is given by one of its names, such as ``digits_64``.
    """
    measured: dict[str, Memory] = {}
    for family in families:
        for name in family_of(family):
            for exposure in (*EXPOSURES, *PASSED):
                recipe = get_recipe(name)
                recipe = recipe.exposed(exposure) if exposure else recipe
                value = memory.stored(recipe, here)
                if value is not None:
                    measured.setdefault(value.artefact.path.name, value)
    return sorted(measured.values(), key=lambda m: (m.name.split("_")[0], _size(m), m.exposure))


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


def designs(measured: Iterable[Memory]) -> dict[str, list[Memory]]:
    """What was measured by design: as the authors, or at an equal exposure, with two sizes or more.

    An ensemble may be in two.
    """
    groups: dict[str, list[Memory]] = {"a fixed number drawn": []}
    for exposure in sorted(filter(None, EXPOSURES)):
        groups[f"each seen {exposure:,} times"] = []
    for value in measured:
        fixed = get_recipe(value.name, value.scale).exposure
        for exposure, group in zip((fixed, *sorted(filter(None, EXPOSURES))), groups.values()):
            if abs(value.exposure / exposure - 1) < 0.05:
                group.append(value)
    several = {name: group for name, group in groups.items() if len({_size(v) for v in group}) > 1}
    return {name: sorted(group, key=_size) for name, group in several.items()}


def _size(value: Memory) -> int:
    return value.distances.shape[1]


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


@dataclass(frozen=True)
class ExposureLaw:
    """log10 radius = level + by_size log10 N + by_exposure log10 E, least squares over ensembles.

    Intervals are the 2.5th to 97.5th percentiles over bootstrap draws of samples, which are the
    same samples (the same noise) in every ensemble, and of training seeds: the mean of each
    ensemble moves by a normal deviate of standard deviation ``spread``, see :func:`spread_of`
    (what the seed adds to the chance of samples).
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


def law(
    measured: Iterable[Memory], placebo: bool = False, spread: float = 0.0, resamples: int = 2000
) -> ExposureLaw:
    """Fits :class:`ExposureLaw` to ensembles of one family, or to their placebo radii.

    ``spread`` is how far another training seed moves a mean log10 radius. Raises
    :class:`BadValue` where sizes and exposures do not vary apart from each other.
    """
    measured = list(measured)
    count = min((len(value.radii) for value in measured), default=0)
    radii = [value.placebo_radii if placebo else value.radii for value in measured]
    logs = np.array([np.log10(values[:count]) for values in radii])
    axes = np.array([[1, np.log10(_size(v)), np.log10(v.exposure)] for v in measured])
    if len(measured) < 4 or np.linalg.matrix_rank(axes, tol=1e-6) < 3:
        raise BadValue(
            "a law of size and exposure needs four ensembles or more whose sizes and exposures "
            "vary apart from each other; measure another one"
        )
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


def opening(measured: Sequence[Memory]) -> str:
    """The first lines of the page: what was measured, where and when, and how to run it."""
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
        "> **Run this page:** `papermill notebooks/memory.ipynb out.ipynb -p dataset digits_64 "
        "-p exposure 500`"
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


def law_or_none(
    measured: Sequence[Memory], placebo: bool = False, spread: float = 0.0
) -> ExposureLaw | None:
    """:func:`law`, or None where too few ensembles were measured."""
    try:
        return law(measured, placebo, spread)
    except BadValue:
        return None


def law_table(
    laws: dict[str, ExposureLaw | None], placebos: dict[str, ExposureLaw | None]
) -> pd.DataFrame:
    """A row a family and kind of codeword: exponents with their intervals."""
    rows = []
    for words, fitted in (("sources", laws), ("placebos", placebos)):
        for kind, line in fitted.items():
            if line is None:
                continue
            size, times = line.size_interval, line.exposure_interval
            rows.append(
                {
                    "family": kind,
                    "codewords": words,
                    "b, of size": f"{line.by_size:.2f} ({size[0]:.2f} to {size[1]:.2f})",
                    "c, of exposure": f"{line.by_exposure:.2f} ({times[0]:.2f} to {times[1]:.2f})",
                    "R²": f"{line.r2:.2f}",
                    "ensembles": line.ensembles,
                    "samples": line.samples,
                }
            )
    if not rows:
        return pd.DataFrame([{"family": "none has four ensembles that vary apart"}])
    return pd.DataFrame(rows).sort_values(["family", "codewords"], ascending=[True, False])
