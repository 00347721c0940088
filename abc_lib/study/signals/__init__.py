"""What the page on signal and chance says of several codes: tables, and rules that judge.

The rules were written before the numbers were seen. Samples share the chance of a code, so what
is said of sources is tested over codes, which are independent, and not over samples.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import stats

from abc_lib.images.registry import get_recipe, recipe_names
from abc_lib.method.code import draw_codebook
from abc_lib.method.radius import LogRadius, summarise
from abc_lib.results import jacobians, landscapes
from abc_lib.results.measures import significance
from abc_lib.results.placebos import landscapes as placebo_landscapes
from abc_lib.results.placebos import signal
from abc_lib.results.placebos.retrained import RetrainedEvidence
from abc_lib.results.placebos.signal import NAMES, Signal
from abc_lib.study.exposures import differs

__all__ = [
    "WORDS",
    "agreement_of_samples",
    "as_image",
    "beside_retraining",
    "discovery_table",
    "mean_scores",
    "nearest_source",
    "opening",
    "placebo_points",
    "placebo_table",
    "planted_table",
    "published_placebos",
    "published_verdict",
    "power",
    "radii",
    "reliability_curve",
    "reliability_verdict",
    "retraining_table",
    "retraining_verdict",
    "sameness",
    "smallest_found",
    "source_verdict",
]

WORDS = {
    "moved": "distance moved",
    "away": "moved away",
    "projected": "moved against",
    "fitted": "moved away, fitted",
}
"""of :data:`abc_lib.results.placebos.signal.NAMES`, for readers"""
RATE = 0.1
"""the false discovery rate that is held"""


def opening(value: Signal) -> str:
    """The first lines of the page: what was measured, where and when, and how to run it."""
    made = value.artefact.provenance
    return (
        f"Scale *{value.scale}*, members that remember: {value.scores.shape[2]} samples of "
        f"{value.name}, {value.scores.shape[1]} codes with members of their own, each image seen "
        f"{value.exposure:,.0f} times; computed on {made['hardware']}, {made['time'][:10]}.\n\n"
        f"<details><summary>Where each number comes from</summary>\n\n{signal.origin(value)}\n\n"
        "</details>\n\n"
        f"> **Run this page:** `papermill notebooks/06_signal.ipynb out.ipynb -p dataset "
        f"{value.name} -p exposure {value.exposure:g}`"
    )


def _mean(values: np.ndarray, digits: int = 3) -> str:
    values = values[~np.isnan(values)]
    error = stats.sem(values)
    # Adding nothing turns a rounded -0.0 into 0.
    return f"{round(float(values.mean()), digits) + 0.0:.{digits}f} ± {error:.{digits}f}"


def as_image(values: np.ndarray) -> torch.Tensor:
    """A kept sample (C, H, W) for a figure."""
    return torch.from_numpy(values).float()


def agreement_of_samples(factual: np.ndarray) -> tuple[float, float]:
    """Median native distance of samples of two models, (R, S, C, H, W), from the same noise, and
    from other noise.
    """
    flat = factual.reshape(*factual.shape[:2], -1)
    R, S = flat.shape[:2]
    same = [np.linalg.norm(flat[a] - flat[b], axis=1) for a in range(R) for b in range(a)]
    turned = np.roll(flat, 1, axis=1)
    other = [np.linalg.norm(flat[a] - turned[b], axis=1) for a in range(R) for b in range(a)]
    return float(np.median(same)), float(np.median(other)) if S > 1 else float("nan")


def radii(value: Signal) -> tuple[np.ndarray, np.ndarray]:
    """log10 radii and placebo radii, (R, S) each, over as many codewords."""
    count = min(value.distances.shape[2], value.placebos.shape[2])
    return (
        np.log10(value.distances[..., :count].max(-1)),
        np.log10(value.placebos[..., :count].max(-1)),
    )


def placebo_table(value: Signal) -> pd.DataFrame:
    """Mean log10 radius, its placebo and the paired difference, over samples, codes averaged."""
    real, chance = radii(value)
    by_code = (real - chance).mean(1)
    return pd.DataFrame(
        [
            {
                "ensemble": value.name,
                "codes": len(real),
                "mean log10 radius": _mean(real.mean(0)),
                "placebo": _mean(chance.mean(0)),
                "difference, paired": _mean((real - chance).mean(0), 4),
                "by code": f"{by_code.min():.3f} to {by_code.max():.3f}",
            }
        ]
    )


@dataclass(frozen=True)
class Paired:
    """log10 radii and placebo radii (S,) of one ensemble's samples, and how they were come by."""

    real: np.ndarray
    chance: np.ndarray
    how: str = "exact"


def _beside(scale: str) -> dict[str, Paired]:
    """Every ensemble that has landscapes, paired with its placebos.

    Placebos need members. Of an ensemble whose members are not at hand, differential ablation
    predicts both sides.
    """
    found = {}
    for name in recipe_names():
        recipe = get_recipe(name, scale)
        real = landscapes.stored(recipe)
        if real is None:
            continue
        chance, moved = placebo_landscapes.stored(recipe), jacobians.stored(recipe)
        if chance is not None:
            samples, *logs = placebo_landscapes.beside(real, chance)
            if len(samples) > 1:
                found[name] = Paired(*logs)
        elif moved is not None and len(moved) > 1:
            logs = placebo_landscapes.predicted_beside(moved, draw_codebook(recipe))
            found[name] = Paired(*logs, "predicted")
    return found


def published_placebos(scale: str = "laptop") -> pd.DataFrame:
    """A row an ensemble with landscapes and placebo landscapes: paired over their samples."""
    rows = [
        {
            "ensemble": name,
            "samples": len(each.real),
            "mean log10 radius": _mean(each.real),
            "placebo": _mean(each.chance),
            "difference, paired": _mean(each.real - each.chance),
            "radius over placebo (95%)": _ratio(each.real - each.chance),
            "how": each.how,
        }
        for name, each in _beside(scale).items()
    ]
    return pd.DataFrame(rows or [{"ensemble": "none has both"}])


def _ratio(difference: np.ndarray) -> str:
    """A ratio of geometric means with its interval, from paired differences of logarithms."""
    mean = difference.mean()
    error = stats.t.ppf(0.975, len(difference) - 1) * stats.sem(difference)
    return f"{10**mean:.2f} ({10 ** (mean - error):.2f} to {10 ** (mean + error):.2f})"


def placebo_points(radii: dict[str, np.ndarray], scale: str = "laptop") -> list[LogRadius]:
    """Where figure 7 has each ensemble's placebo: its mean log10 radius, of all samples in
    ``radii``, less the mean paired difference of those that have placebos.
    """
    points = []
    for name, each in _beside(scale).items():
        if name in radii:
            real = summarise(name, get_recipe(name, scale).data.size, radii[name])
            lower = real.mean - float((each.real - each.chance).mean())
            points.append(dataclasses.replace(real, mean=lower, sd=float("nan")))
    return points


def published_verdict(scale: str = "laptop") -> str:
    """Whether radii are larger than their placebos, over ensembles.

    Rule: an ensemble's is if the mean paired difference lies two standard errors or more above 0.
    """
    paired = _beside(scale).values()
    if not paired:
        return "No ensemble has placebos yet; abc.placebos.publish makes them."
    signs = [differs(each.real - each.chance) for each in paired]
    above, below = signs.count(1), signs.count(-1)
    words = (
        f"**{above} of {len(signs)} ensembles** have a radius above their placebo radius by two "
        f"standard errors, {below} below it."
    )
    if predicted := sum(each.how == "predicted" for each in paired):
        words += (
            f" Of {predicted} of them the members do not ship; there differential ablation "
            "predicts both sides."
        )
    if above > max(1, 0.1 * len(signs)):
        return words
    return (
        f"{words} A radius is as large where no source is removed: it measures how far half of the "
        "members lie from all of them, whichever half."
    )


def nearest_source(value: Signal) -> np.ndarray:
    """The source whose image a sample lies nearest to in most codes, (S,)."""
    return np.array([np.bincount(column).argmax() for column in value.nearest.T])


def reliability_curve(
    value: Signal, statistic: str
) -> tuple[list[int], np.ndarray, np.ndarray, np.ndarray]:
    """Codes a half, the mean agreement of halves over samples, and the 2.5th and 97.5th percentile
    of what chance gives.
    """
    scores = value.scores[value.of(statistic)]
    half = len(scores) // 2
    counts = sorted({k for k in (*value.codes, half) if k <= half})
    means = [np.nanmean(significance.reliability(scores, count)) for count in counts]
    chance = [significance.reliability_by_chance(scores, count) for count in counts]
    low, high = np.percentile(chance, [2.5, 97.5], axis=1)
    return counts, np.array(means), low, high


def mean_scores(value: Signal, statistic: str) -> np.ndarray:
    """Mean score over all samples and sources of each code, (R,): 0 give or take, if no source
    mattered at all.
    """
    return value.scores[value.of(statistic)].mean((1, 2))


def discovery_table(value: Signal) -> pd.DataFrame:
    """What passes at a false discovery rate of a tenth, beside placebos in the sources' place."""
    rows, near = [], nearest_source(value)
    for name in NAMES:
        k = value.of(name)
        for level, count in enumerate(value.codes):
            p, placebo = value.p_values[k, level], value.placebo_p[k, level]
            passed, by_chance = (significance.discoveries(x, RATE) for x in (p, placebo))
            own = p[np.arange(len(near)), near]
            rows.append(
                {
                    "statistic": WORDS[name],
                    "codes": count,
                    "p < 0.05": f"{(p < 0.05).mean():.3f}",
                    "placebos": f"{(placebo < 0.05).mean():.3f}",
                    "nearest, p < 0.05": f"{(own < 0.05).mean():.2f}",
                    "found a sample": f"{passed.sum(-1).mean():.2f}",
                    "placebos found": f"{by_chance.sum(-1).mean():.2f}",
                    "samples with none": f"{(~passed.any(-1)).mean():.0%}",
                }
            )
    return pd.DataFrame(rows)


Corrected = dict[str, dict[str, tuple[float, float, float]]]


def beside_retraining(value: Signal, again: RetrainedEvidence) -> Corrected:
    """Of each statistic, how far ablation and retraining agree about sources, as
    :func:`abc_lib.results.measures.significance.corrected_correlation` says it.

    Retraining has no codewords to fit: there the fitted statistic is the plain one.
    """
    shared = min(value.scores.shape[2], again.own.shape[2])
    found = {}
    for name in NAMES:
        ours = value.scores[value.of(name)][:, :shared]
        theirs = again.own[again.of("away" if name == "fitted" else name)][:, :shared]
        found[name] = significance.corrected_correlation(ours, theirs, 400)
    return found


def retraining_table(corrected: Corrected) -> pd.DataFrame:
    """A row a statistic: correlation, both reliabilities, correlation corrected for both."""
    words = {
        "single": "one code, one retraining",
        "plain": "means of all",
        "first": "reliability, ablation",
        "second": "reliability, retraining",
        "corrected": "corrected for both",
    }
    rows = []
    for name, found in corrected.items():
        row = {"statistic": WORDS[name]}
        for key, heading in words.items():
            middle, low, high = found[key]
            text = f"{middle:.2f} ({low:.2f} to {high:.2f})"
            row[heading] = "too unreliable" if np.isnan(middle) else text
        rows.append(row)
    return pd.DataFrame(rows)


def retraining_verdict(corrected: Corrected) -> str:
    """Whether ablation and retraining agree about which sources matter (3.2).

    Rule: they do by a statistic if the 95% interval of their plain correlation, over samples and
    sources, lies above 0; and as well as noise allows if that of the corrected one reaches 1.
    """
    agree = [name for name, found in corrected.items() if found["plain"][1] > 0]
    rest = "; ".join(WORDS[name] for name in corrected if name not in agree)
    whole = "; ".join(WORDS[name] for name in agree if corrected[name]["corrected"][2] >= 1)
    if not agree:
        return "**Ablation and retraining do not agree** about which sources matter."
    words = "; ".join(WORDS[name] for name in agree)
    text = f"**Ablation and retraining agree about which sources matter** by {words}"
    text += f"; not by {rest}." if rest else "."
    if whole:
        return f"{text} By {whole} as well as the noise of both allows."
    return f"{text} But less than the noise of both allows: they are not the same experiment."


def sameness(value: Signal, again: RetrainedEvidence | None = None) -> str:
    """Whether codes, and retrainings, draw the same picture from the same noise.

    Rule: they do if samples from the same noise lie less than half as far apart as others.
    """
    same, other = agreement_of_samples(value.factual)
    words = "the same picture" if same < other / 2 else "not the same picture"
    text = (
        f"From the same noise two codes draw {words}: their samples lie {same:.2f} apart (median, "
        f"native), from other noise {other:.2f}."
    )
    if again is None:
        return text
    shared = min(value.factual.shape[1], again.factual.shape[1])
    both = np.concatenate([value.factual[:1, :shared], again.factual[:1, :shared]])
    same, other = agreement_of_samples(both)
    words = "the same picture" if same < other / 2 else "not the same picture"
    return (
        f"{text} An ensemble and a single model on everything draw {words} ({same:.2f}; "
        f"{other:.2f})."
    )


def power(value: Signal, statistic: str) -> np.ndarray:
    """Share of planted sources with p < 0.05, (J, T): from the first 1 to J codes, by strength."""
    return (value.planted_p[value.of(statistic)] < 0.05).mean(-1).T


def smallest_found(value: Signal, statistic: str, codes: int, wanted: float = 0.8) -> float | None:
    """The smallest planted strength from which on ``wanted`` of the sources are found, or None."""
    enough = power(value, statistic)[codes - 1] >= wanted
    if not len(enough) or not enough[-1]:
        return None
    return float(value.strengths[int(np.flatnonzero(~enough)[-1]) + 1 if not enough.all() else 0])


def planted_table(value: Signal) -> pd.DataFrame:
    """The smallest planted effect that is found four times in five, by statistic and codes."""
    rows = []
    for name in NAMES:
        row = {"statistic": WORDS[name]}
        for codes in range(1, value.planted_p.shape[2] + 1):
            least = smallest_found(value, name, codes)
            row[f"{codes} code{'s' * (codes > 1)}"] = "none" if least is None else f"{least:g}"
        rows.append(row)
    return pd.DataFrame(rows)


def reliability_verdict(value: Signal) -> str:
    """Whether two halves of the codes agree about sources, by each statistic.

    Rule: they do if their mean correlation lies above the 97.5th percentile of what chance gives
    when sources are shuffled in every code.
    """
    agree, rest = [], []
    for name in NAMES:
        counts, means, _, high = reliability_curve(value, name)
        words = f"{WORDS[name]} ({means[-1]:.2f}, chance below {high[-1]:.2f})"
        (agree if means[-1] > high[-1] else rest).append(words)
    half = counts[-1]
    if not agree:
        return (
            f"**Two halves of {half} codes do not agree about which sources matter** by any "
            f"statistic: {'; '.join(rest)}."
        )
    text = f"**Two halves of {half} codes agree about which sources matter** by {'; '.join(agree)}"
    return f"{text}; not by {'; '.join(rest)}." if rest else f"{text}."


def source_verdict(value: Signal) -> str:
    """Whether sources matter at all, and how many can be named with all codes.

    Rule: they matter by a statistic if the mean score of a code lies two standard errors or more
    above 0, over codes. They can be named if more pass than placebos in their place.
    """
    found, missed = [], []
    for name in NAMES:
        k, scores = value.of(name), mean_scores(value, name)
        passed = significance.discoveries(value.p_values[k, -1], RATE).sum(-1).mean()
        chance = significance.discoveries(value.placebo_p[k, -1], RATE).sum(-1).mean()
        words = f"{WORDS[name]}: mean score {_mean(scores)}, {passed:.1f} named a sample"
        words += f" (placebos {chance:.1f})"
        (found if differs(scores) > 0 else missed).append(words)
    R, N = value.scores.shape[1:4:2]
    if not found:
        return (
            f"**With {R} codes no source can be told from a placebo.** {'; '.join(missed)}. The "
            f"honest answer to *which of {N} images made this?* is: none that can be named."
        )
    text = f"**With {R} codes sources can be told from placebos** by {'; '.join(found)}."
    return f"{text} They cannot by {'; '.join(missed)}." if missed else text
