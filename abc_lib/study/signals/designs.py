"""What an attribution needs: codes, members and training, and which design of codes does best.

The rule was written before the numbers were seen.
"""

import numpy as np
import pandas as pd

from abc_lib.ground.here import Here
from abc_lib.images.registry import get_recipe, recipe_names
from abc_lib.results.measures import significance
from abc_lib.results.placebos.signal import KIND, NAMES, Signal
from abc_lib.study.signals import WORDS, nearest_source, reliability_curve

__all__ = [
    "codes_needed",
    "curves",
    "design_table",
    "design_verdict",
    "known",
    "needed_table",
    "others_of",
    "sets_table",
    "title",
    "usual_range",
]

BEST = "fitted"
"""the statistic that designs are judged by"""


def known(here: Here | None = None) -> list[Signal]:
    """Every signal at hand: of an ensemble, an exposure and a code the one with most codes."""
    store, best = (here or Here()).store, {}
    for name in recipe_names():
        for artefact in store.find_all("signal", get_recipe(name).label):
            if artefact.spec["statistics"] == list(NAMES):
                kind = (name, artefact.info["exposure"], tuple(artefact.info["code"]))
                best[kind] = max(best.get(kind, artefact), artefact, key=KIND.size)
    return [KIND.read(artefact) for _, artefact in sorted(best.items())]


def _usual(value: Signal) -> bool:
    code = get_recipe(value.name, value.scale).code
    return value.code == (code.n, code.weight)


def title(value: Signal) -> str:
    """An ensemble, how often its members saw an image, and its code if it is not the usual one."""
    words = f"{value.name}, {value.exposure:,.0f} views"
    return words if _usual(value) else f"{words}, {value.code[1]} of {value.code[0]}"


def curves(values: list[Signal], statistic: str = BEST) -> dict[str, tuple]:
    """Agreement of two halves of the codes, of ensembles with their usual codes, by title."""
    return {title(each): reliability_curve(each, statistic) for each in values if _usual(each)}


def codes_needed(value: Signal, statistic: str, wanted: float) -> float:
    """How many codes reach a reliability, by Spearman and Brown from the largest half; inf where
    the halves agree no more than by chance.
    """
    counts, means, _, high = reliability_curve(value, statistic)
    if means[-1] <= high[-1]:
        return float("inf")
    one = significance.spearman_brown(means[-1], 1 / counts[-1])
    return float(wanted * (1 - one) / (one * (1 - wanted)))


def _needed(value: Signal, statistic: str) -> dict[str, str]:
    """Cells on reliability: of one code, of the largest halves, and codes for 0.5 and 0.8."""
    counts, means, low, high = reliability_curve(value, statistic)
    row = {"one code": f"{means[0]:.3f}"}
    row["largest halves"] = f"{means[-1]:.3f} (chance {low[-1]:.2f} to {high[-1]:.2f})"
    for wanted in (0.5, 0.8):
        codes = codes_needed(value, statistic, wanted)
        row[f"codes for {wanted}"] = "none" if np.isinf(codes) else f"{np.ceil(codes):,.0f}"
    return row


def needed_table(value: Signal) -> pd.DataFrame:
    """By statistic: how far codes agree, and how many of them would reach 0.5 and 0.8."""
    return pd.DataFrame({"statistic": WORDS[name], **_needed(value, name)} for name in NAMES)


def sets_table(values: list[Signal]) -> pd.DataFrame:
    """By ensemble and exposure, with the usual codes: the same of the fitted statistic."""
    rows = []
    for each in filter(_usual, values):
        R, _, N = each.scores.shape[1:]
        row = {"ensemble": each.name, "views": f"{each.exposure:,.0f}", "sources": N}
        row |= {"codes": R, "members a code": each.code[0], **_needed(each, BEST)}
        codes = codes_needed(each, BEST, 0.8)
        row["members for 0.8"] = "none" if np.isinf(codes) else f"{codes * each.code[0]:,.0f}"
        rows.append(row)
    return pd.DataFrame(rows)


def _drawn(value: Signal) -> float:
    """How many images a code's members draw in training, in units of the training set."""
    return value.exposure * value.code[1]


def others_of(value: Signal, values: list[Signal]) -> list[Signal]:
    """Signals of the same ensemble with other codes, whose members train as long."""
    long = _drawn(value) / value.code[0]
    return [
        each
        for each in values
        if each.name == value.name
        and not _usual(each)
        and abs(_drawn(each) / each.code[0] / long - 1) < 0.01
    ]


def _equal(value: Signal, other: Signal) -> int:
    """How many codes of ``value`` show their members as many images as all codes of ``other``."""
    return round(other.scores.shape[1] * _drawn(other) / _drawn(value))


def _agreement(scores: np.ndarray, seed: int = 0) -> float:
    return float(np.nanmean(significance.reliability(scores, len(scores) // 2, 20, seed)))


def usual_range(value: Signal, codes: int, samples: int) -> tuple[float, float, float]:
    """The mean agreement of two halves of ``codes`` usual codes, and its central 95%.

    Over random sets of them, on the first ``samples``.
    """
    scores, rng = value.scores[value.of(BEST)][:, :samples], np.random.default_rng(0)
    drawn = [_agreement(scores[rng.permutation(len(scores))[:codes]], k) for k in range(200)]
    return float(np.mean(drawn)), *(float(x) for x in np.percentile(drawn, [2.5, 97.5]))


def _row(value: Signal, codes: int, samples: int, agreement: str) -> dict:
    level = max(row for row, count in enumerate(value.codes) if count <= codes)
    p = value.p_values[value.of(BEST), level, :samples]
    near = nearest_source(value)[:samples]
    n, weight = value.code
    return {
        "members": f"{codes} × {n}",
        "each sees": f"{weight / n:.0%}",
        "views": f"{value.exposure:,.0f}",
        "left": f"{n - weight} of {n}",
        "agreement of halves": agreement,
        "nearest, p < 0.05": f"{(p[np.arange(samples), near] < 0.05).mean():.2f}",
        "named a sample": f"{significance.discoveries(p).sum(-1).mean():.1f}",
        "least p": f"{significance.least_p(value.placebos.shape[2], codes):.1g}",
    }


def design_table(value: Signal, others: list[Signal]) -> pd.DataFrame:
    """Other designs beside as much training of usual codes, on the same samples."""
    rows = []
    for other in others:
        R, S = other.scores.shape[1:3]
        middle, low, high = usual_range(value, _equal(value, other), S)
        usual = _row(value, _equal(value, other), S, f"{middle:.2f} ({low:.2f} to {high:.2f})")
        mine = _row(other, R, S, f"{_agreement(other.scores[other.of(BEST)]):.2f}")
        rows += [row for row in (usual, mine) if row not in rows]
    return pd.DataFrame(rows)


def design_verdict(value: Signal, others: list[Signal]) -> str:
    """Which design of codes is better at equal training.

    Rule: one is better (worse) than usual codes if two halves of it agree more (less) than the
    central 95% of random sets of usual codes that cost as much training, on the same samples.
    """
    words: dict[str, list[str]] = {"better": [], "worse": [], "no different": []}
    for other in others:
        R, S = other.scores.shape[1:3]
        _, low, high = usual_range(value, _equal(value, other), S)
        mine = _agreement(other.scores[other.of(BEST)])
        which = "better" if mine > high else "worse" if mine < low else "no different"
        n, weight = other.code
        words[which].append(f"{R} code{'s' * (R > 1)} of weight {weight} of {n} ({mine:.2f})")
    if not others:
        return "No other design of codes is at hand."
    n, weight = value.code
    lines = [f"{which}: {'; '.join(found)}" for which, found in words.items() if found]
    text = f"**Beside usual codes, {weight} of {n}, of as much training:** {'. '.join(lines)}."
    if words["better"]:
        return text
    return f"{text} So the usual design is what we recommend, in as many codes as can be paid for."
