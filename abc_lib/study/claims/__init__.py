"""The paper's claims, each beside what the published results of this repository say to it.

``table.toml`` has the texts of every claim, ``measures`` works out the numbers from artefacts that
are at hand, ``rules`` gives the verdicts on them. A claim that cannot be held against anything here
says what it needs.
"""

import tomllib
from dataclasses import dataclass
from inspect import getdoc, signature
from pathlib import Path

import numpy as np
import pandas as pd

from abc_lib.ground.here import Here
from abc_lib.study.claims import measures, rules
from abc_lib.study.claims.rules import LENGTH, NO, OPEN, PARTLY, PLACEBO, UNDECIDED, YES

__all__ = [
    "claims",
    "claims_table",
    "Claim",
    "judge",
    "ROWS",
    "YES",
    "PARTLY",
    "NO",
    "UNDECIDED",
    "LENGTH",
    "PLACEBO",
    "OPEN",
]

ROWS: dict[str, dict[str, str]] = tomllib.loads(
    Path(__file__).with_name("table.toml").read_text(encoding="utf-8")
)
"""the table: its texts, by the name of a claim"""


@dataclass(frozen=True)
class Claim:
    """One claim of the paper: where it stands, what it says, what was found here and on what, the
    verdict with the rule that gave it, and the page that shows it."""

    section: str
    claim: str
    paper: str
    ours: str
    verdict: str
    page: str
    rule: str
    """in a sentence; empty where the claim cannot be tried yet"""


def claims(here: Here | None = None) -> list[Claim]:
    """All claims, in the paper's order."""
    here = here or Here()
    names = {name: row.get("measure", name) for name, row in ROWS.items() if "ours" in row}
    # some measures serve several claims
    measured = {name: getattr(measures, name)(here) for name in dict.fromkeys(names.values())}
    return [judge(name, measured.get(names.get(name))) for name in ROWS]


def judge(name: str, numbers: dict | None) -> Claim:
    """The claim of this name in the table, on the numbers of its measure."""
    row = ROWS[name]
    rule = getattr(rules, name) if "ours" in row else None
    text = " ".join(getdoc(rule).split()) if rule else ""

    def claim(paper, ours, verdict):
        return Claim(row["section"], row["claim"], paper, ours, verdict, row["page"], text)

    if not numbers or not numbers.get("parts", True):
        # of what the paper says only words are known where nothing was measured
        paper = f"stated in {row['section']}" if "{" in row["paper"] else row["paper"]
        return claim(paper, f"needs {row['needs']}", OPEN)
    parts = numbers.get("parts", [])
    columns = {key: np.array([part[key] for part in parts]) for part in parts[:1] for key in part}
    given = columns | numbers
    said = numbers | {"parts": "; ".join(row["part"].format(**part) for part in parts)}
    verdict = rule(**{key: given[key] for key in signature(rule).parameters})
    return claim(row["paper"].format(**said), row["ours"].format(**said), verdict)


def claims_table(claims: list[Claim]) -> pd.DataFrame:
    """A row a claim, as text; the section leads to the page of the book that shows it.

    The verdict comes early: on a narrow screen the end is out of sight.
    """
    return pd.DataFrame(
        {
            "section": f'<a href="{claim.page}.html">{claim.section}</a>',
            "verdict": claim.verdict,
            "claim": claim.claim,
            "paper": claim.paper,
            "here": claim.ours,
            "rule": claim.rule,
        }
        for claim in claims
    )
