"""What remembering costs: core-hours of whole ensembles, and which network comes farthest for them.

Candidates are measured by ``benchmarks/remembering.py``, two members of each, and by
``benchmarks/frontier.py``, all members of those that matter.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import sem

from abc_lib.images.registry import get_recipe
from abc_lib.method.attribution import FalseAttribution
from abc_lib.method.recipe import Recipe
from abc_lib.method.space import state_shape
from abc_lib.results.placebos.memory import Memory
from abc_lib.study.exposures import mean_and_error

__all__ = [
    "Candidate",
    "candidate_points",
    "candidates",
    "candidates_table",
    "candidates_verdict",
    "core_hours",
    "frontier_table",
    "search_table",
]


def core_hours(value: Memory, benchmarks: dict | None) -> float:
    """What training an ensemble takes of one core, from the measured time of a member's step.

    ``benchmarks`` from :func:`abc_lib.speed.read_benchmarks`; NaN where they have no ensemble of
    the same network and size of images.
    """
    recipe = get_recipe(value.name, value.scale).exposed(value.exposure)
    parts = (benchmarks or {"comparisons": {}})["comparisons"].get("training", {"rows": []})
    for row in parts["rows"]:
        if "ensemble" in row and _step(get_recipe(row["ensemble"])) == _step(recipe):
            seconds = row["ways"]["ours"]["median"] * row["cores"]
            return seconds * recipe.training.steps * recipe.code.n / 3600
    return float("nan")


def _step(recipe: Recipe) -> tuple:
    """What the time of a member's step depends on."""
    return recipe.network, recipe.training.batch_size, state_shape(recipe.data)


def frontier_table(measured: Iterable[Memory], benchmarks: dict | None) -> pd.DataFrame:
    """What each ensemble's training costs, beside how far it has come: the cheapest first."""
    rows = []
    for value in measured:
        log, rate = np.log10(value.radii), value.attribution
        hours = core_hours(value, benchmarks)
        rows.append(
            {
                "ensemble": value.name,
                "times seen": f"{value.exposure:,.0f}",
                "core-hours": hours,
                "mean log10 radius": mean_and_error(log),
                "unchanged without nearest": f"{rate.again:.2f}",
                "less than without another": f"{rate.instead - rate.again:.2f}",
                "own over others": f"{np.median(value.ratios):.2f}",
            }
        )
    table = pd.DataFrame(rows).sort_values("core-hours", ignore_index=True)
    known = table["core-hours"].notna()
    shown = table["core-hours"].map("{:.2f}".format).where(known, "not measured")
    return table.assign(**{"core-hours": shown})


VERDICTS = FARTHER, LESS_FAR, UNDECIDED = (
    "farther for its time",
    "less far for its time",
    "undecided",
)
CHOSEN = "chosen"
"""what ``abc.get_recipe`` gives, among the candidates"""


@dataclass(frozen=True)
class Candidate:
    """A network and training that was tried as a whole ensemble, beside the chosen one at the same
    cost.

    ``logs`` (S,) are log10 radii of its samples; ``line`` (S,) those of the same samples, from the
    same noise, of ensembles of the chosen network at two exposures, interpolated to ``hours``, and
    ``line_kept`` likewise the share of samples that keep their nearest image without it. What is
    cheaper than the cheapest of them is held against that one.
    """

    ensemble: str
    words: str
    parameters: int
    exposure: float
    hours: float
    logs: np.ndarray
    line: np.ndarray
    line_kept: float
    attribution: FalseAttribution
    ratio: float

    @property
    def farther(self) -> float:
        """By how many standard errors its radii exceed the line's, paired over samples."""
        gap = self.logs - self.line
        return float(gap.mean() / sem(gap))

    @property
    def forgets(self) -> float:
        """By how many standard errors fewer of its samples keep their nearest image than on the
        line: two shares of as many samples.
        """
        kept, both = self.attribution.again, (self.attribution.again + self.line_kept) / 2
        error = np.sqrt(2 * both * (1 - both) / self.attribution.samples)
        return float((self.line_kept - kept) / error) if error else 0.0

    @property
    def verdict(self) -> str:
        """One of :data:`VERDICTS`, by the rule of :func:`candidates_verdict`."""
        signs = self.farther, self.forgets
        if max(signs) >= 2 and min(signs) >= 0:
            return FARTHER
        return LESS_FAR if min(signs) <= -2 and max(signs) <= 0 else UNDECIDED


def candidates(
    found: dict | None, measured: Iterable[Memory], benchmarks: dict | None
) -> list[Candidate]:
    """What was tried as whole ensembles, the cheapest first; none where nothing can be compared.

    ``found`` from :func:`abc_lib.study.speed.read_benchmarks` of ``frontier``, ``benchmarks`` from
    that of ``cpu``. Costs are the chosen network's (:func:`core_hours`) times how much longer a
    candidate took in turns with it.
    """
    rows = (found or {"comparisons": {}})["comparisons"].get("frontier", {"ensembles": []})
    lines: dict[str, list[Memory]] = {}
    for value in sorted(measured, key=lambda value: value.exposure):
        lines.setdefault(value.name, []).append(value)
    tried = []
    for row in rows["ensembles"]:
        line = lines.get(row["ensemble"], [])
        at = np.array([core_hours(value, benchmarks) for value in line])
        if len(line) < 2 or np.isnan(at).any():
            continue
        # The chosen network's cost grows with its exposure alone.
        hours = float(np.median(row["times"])) * at[0] / line[0].exposure * row["exposure"]
        logs = np.log10(row["radii"])
        same = np.array([np.log10(value.radii[: len(logs)]) for value in line])
        kept = [value.attribution.again for value in line]
        where = np.log(hours), np.log(at)
        tried.append(
            Candidate(
                row["ensemble"],
                row["candidate"],
                row["parameters"],
                row["exposure"],
                hours,
                logs,
                np.array([np.interp(*where, each) for each in same.T]),
                float(np.interp(*where, kept)),
                FalseAttribution(**row["false_attribution"]),
                row["ratio"],
            )
        )
    return sorted(tried, key=lambda one: one.hours)


def candidate_points(tried: Iterable[Candidate]) -> pd.DataFrame:
    """What was tried, but for the chosen network, as marks for :func:`abc_lib.figures.frontier`."""
    rows = []
    for one in (one for one in tried if one.words != CHOSEN):
        kept, count = one.attribution.again, one.attribution.samples
        row = {"words": one.words, "hours": one.hours, "mean": one.logs.mean()}
        row |= {"error": sem(one.logs), "kept": kept}
        rows.append(row | {"kept_error": np.sqrt(kept * (1 - kept) / count)})
    columns = ["words", "hours", "mean", "error", "kept", "kept_error"]
    return pd.DataFrame(rows, columns=columns)


def candidates_table(tried: Iterable[Candidate]) -> pd.DataFrame:
    """A row a candidate: what it cost and how far it came, less the chosen network at that cost."""
    rows = [
        {
            "candidate": one.words,
            "thousand parameters": f"{one.parameters / 1e3:,.0f}",
            "core-hours": f"{one.hours:.2f}",
            "mean log10 radius": mean_and_error(one.logs),
            "less the chosen network's": mean_and_error(one.logs - one.line),
            "unchanged without nearest": f"{one.attribution.again:.2f}",
            "the chosen network's": f"{one.line_kept:.2f}",
            "own over others": f"{one.ratio:.2f}",
        }
        for one in tried
    ]
    return pd.DataFrame(rows or [{"candidate": "none was measured as an ensemble"}])


def candidates_verdict(tried: Sequence[Candidate]) -> str:
    """Which candidates come farther than the chosen network for their time.

    Rule: farther is a larger radius and fewer samples that keep their nearest image without it, of
    which one by two standard errors or more and the other not the other way; less far likewise;
    else undecided. The chosen network itself, measured anew, must be undecided, or the line does
    not hold.
    """
    if not tried:
        return "No candidate was measured as a whole ensemble."
    if not any(one.words == CHOSEN and one.verdict == UNDECIDED for one in tried):
        return (
            "**The comparison does not hold**: the chosen network, measured anew, does not lie on "
            "the line of its own published ensembles."
        )
    parts = []
    for verdict in VERDICTS:
        names = [one.words for one in tried if one.words != CHOSEN and one.verdict == verdict]
        if names:
            parts.append(f"**{verdict.capitalize()}:** {', '.join(names)}.")
    return " ".join(parts) or "Nothing else was tried."


def search_table(found: dict | None) -> pd.DataFrame:
    """The candidates of ``benchmarks/remembering.py``, as it measured them."""
    rows = (found or {"comparisons": {}})["comparisons"].get("remembering", {"candidates": []})
    return pd.DataFrame(
        [
            {
                "ensemble": row["ensemble"],
                "candidate": row["candidate"],
                "thousand parameters": f"{row['parameters'] / 1e3:,.0f}",
                "times seen": f"{row['exposure']:,.0f}",
                "CPU s a member": f"{row['cpu_seconds']:.0f}",
                "loss, own images": f"{row['own_loss']:.3f}",
                "loss, others": f"{row['other_loss']:.3f}",
                "own over others": f"{row['ratio']:.2f} ± {row['ratio_error']:.2f}",
            }
            for row in rows["candidates"]
        ]
    )
