"""What the tables of methods say, in sentences that rules choose."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from abc_lib.yardstick.report import FREE, LEVEL, TITLES, costs, free_methods, hardest, same_ranking
from abc_lib.yardstick.sweeps import SWEPT
from abc_lib.yardstick.table import TOP, Yardstick

if TYPE_CHECKING:
    import pandas as pd

SAME = 0.8
"""the least rank correlation of two orders that are called the same"""
PUBLISHED = (("D-TRAK", "TRAK"), ("DAS", "D-TRAK"))
"""rankings that were published: the first method above the second"""


def cost_verdict(tables: Mapping[str, "pd.DataFrame"], queries: str = "held out") -> str:
    """What a second buys: the best method of those that take one at most, and the best of all.

    Rule: more time pays where the best of all has its interval above that of the best quick one.
    """
    told = []
    for name, table in tables.items():
        found = costs(table, queries=queries)
        quick = found[found["seconds"] <= 1]
        quick, best = (each.loc[each["share"].idxmax()] for each in (quick, found))
        if best["method"] == quick["method"]:
            says = "no method is better than the best of those that take a second"
        elif best["low"] > quick["high"]:
            says = f"more time pays: {best['method']} reaches {best['share']:.2f}"
        else:
            says = f"more time does not pay by more than intervals ({best['method']} is first)"
        told.append(f"on {name} {says}, beside {quick['method']} with {quick['share']:.2f}")
    return f"As shares of the ceiling, {'; '.join(told)}."


def ranking_verdict(tables: Mapping[str, "pd.DataFrame"], queries: str = "held out") -> str:
    """Whether methods keep their order under other truths: if all correlations reach 0.8."""
    found = {name: same_ranking(table, queries) for name, table in tables.items()}
    least = min(value for each in found.values() for value in each.values())
    if least >= SAME:
        head = "**The methods keep their order under every truth**"
    else:
        head = "**The order of the methods depends on the truth**"
    told = []
    for name, each in found.items():
        least, most = min(each, key=each.get), max(each, key=each.get)
        ends = [f"{each[pair]:.2f} of {' and '.join(TITLES[t] for t in pair)}"
                for pair in (least, most)]  # fmt: skip
        told.append(f"{name}: {' to '.join(ends)}")
    return f"{head} (rank correlations of their scores; {'; '.join(told)})."


def _told_apart(one: "pd.Series", other: "pd.Series") -> str:
    """Above, below or neither, by both intervals."""
    if one["low"] > other["high"]:
        return "above"
    return "below" if one["high"] < other["low"] else "not told apart from"


def published_verdict(tables: Mapping[str, "pd.DataFrame"]) -> str:
    """Whether the first of each of :data:`PUBLISHED` is above the second by more than both
    intervals.
    """
    sentences = []
    for better, worse in PUBLISHED:
        words = []
        for name, table in tables.items():
            for queries, group in table[table["truth"] == "members"].groupby("queries"):
                by = group.set_index("method")
                if f"{better}-like" not in by.index:
                    continue
                ours, theirs = by.loc[f"{better}-like"], by.loc[f"{worse}-like"]
                pair = f"{ours['score']:.2f} and {theirs['score']:.2f}"
                words.append(f"{_told_apart(ours, theirs)} {worse} ({pair}) on {name}, {queries}")
        if words:
            sentences.append(f"{better} is {'; '.join(words)}.")
    return f"Judged by intervals over queries, {' '.join(sentences)}"


def hardest_verdict(found: Mapping[str, Yardstick]) -> str:
    """How many queries every method fails on, and whether noise or the methods are to blame.

    Rule: a query is failed by all if no free method's score exceeds what 95% of scores without any
    link stay below, 1.645 / sqrt(R (n - 1)) for R codes of n members. The truth's noise is to
    blame if most failed queries have a ceiling below 0.5.
    """
    told = []
    for name, each in found.items():
        R, n = len(each.task.codebooks), each.task.codebooks[0].n
        least = 1.645 / np.sqrt(R * (n - 1))
        parts = []
        for queries in ("held out", "generated"):
            table = hardest(each, queries)
            failed = table[table["best"] <= least]
            words = f"{len(failed)} of {len(table)} {queries}"
            if len(failed):
                noisy = (failed["ceiling"] < 0.5).mean() > 0.5
                blame = "of them most are too noisy to tell" if noisy else "not for noise"
                words = f"{words} ({blame})"
            parts.append(words)
        told.append(f"on {name} {' and '.join(parts)}, at most {least:.2f}")
    return f"Queries on which every method fails: {'; '.join(told)}."


def unrolled_verdict(tables: Mapping[str, "pd.DataFrame"], queries: str = "held out") -> str:
    """Whether the exact derivative through training foretells what training again does, with the
    same chance and with another.

    Rule: under each truth it is above, below or not told apart from the best free method by both
    intervals.
    """
    told = []
    for name, table in tables.items():
        parts = []
        for truth in ("same_chance", "members", "retrained"):
            mine = table[(table["truth"] == truth) & (table["queries"] == queries)]
            by = mine.set_index("method")
            if "unrolled" not in by.index:
                continue
            best = by.loc[[each for each in free_methods(table) if each in by.index]]
            best = best.loc[best["score"].idxmax()]
            one = by.loc["unrolled"]
            pair = f"{one['score']:.2f} and {best['score']:.2f}"
            parts.append(f"{_told_apart(one, best)} {best.name} under *{TITLES[truth]}* ({pair})")
        if parts:
            told.append(f"on {name} it is {', '.join(parts)}")
    if not told:
        return "Nobody has differentiated through training here."
    return f"The derivative through training: {'; '.join(told)}."


def radius_verdict(tables: Mapping[str, "pd.DataFrame"]) -> str:
    """Whether trying the sources that a method names finds the counterfactual radius sooner.

    Rule: it does where a free method finds a larger share of it among eight sources than the
    control does by a tenth or more.
    """
    told, column = [], f"radius{TOP}"
    for name, table in tables.items():
        if column not in table or not table[column].notna().any():
            continue
        mine = table[table["truth"] == "moved"].set_index("method")
        best = mine.loc[free_methods(table), column].dropna()
        control, top = mine.loc["random", column], best.idxmax()
        says = "helps" if best.max() >= control + 0.1 else "hardly helps"
        told.append(
            f"on {name} naming sources {says} ({top} {best.max():.2f}, random {control:.2f})"
        )
    if not told:
        return "Nobody has moved samples here."
    return f"Of the radius, {TOP} exact counterfactuals find a share: {'; '.join(told)}."


def removal_verdict(tables: Mapping[str, "pd.DataFrame"], queries: str = "held out") -> str:
    """How many methods name a source whose removal matters more than chance, and which most.

    Rule: it does if the loss rises by more than in 95% of the orders of the members.
    """
    told = []
    for name, table in tables.items():
        mine = table[(table["queries"] == queries) & (table["k"] == 1)]
        mine = mine[mine["needs"].isin(FREE) & (mine["method"] != "random")]
        top = mine.loc[mine["rise"].idxmax()]
        passed = int((mine["p"] <= LEVEL).sum())
        told.append(
            f"on {name} {passed} of {len(mine)} methods without counterfactuals name a first "
            f"source whose removal raises the loss by more than chance, most of all "
            f"{top['method']} ({top['rise']:.0%}, beside {top['control']:.0%})"
        )
    return f"Removed, {'; '.join(told)}."


def sweep_verdict(found: Mapping[str, Yardstick], queries: str = "held out") -> str:
    """What more draws are worth, and whether with most of them gradients exceed pixels.

    Rule: they do if the method's interval with most draws lies above that of the softmax kernel;
    projection costs something if an interval lies below the exact score.
    """
    told = []
    for name, each in found.items():
        if each.sweeps is None:
            continue
        table, sweeps = each.table, each.sweeps[each.sweeps["queries"] == queries]
        kernel = table.query("method == 'softmax kernel' and truth == 'members'")
        kernel = kernel[kernel["queries"] == queries].iloc[0]
        parts = []
        for method in SWEPT:
            mine = sweeps[sweeps["method"] == method]
            draws = mine[mine["sweep"] == "draws"].sort_values("value")
            few, most = draws.iloc[0], draws.iloc[-1]
            says = _told_apart(most, kernel)
            projection = mine[mine["sweep"] == "projection"].sort_values("value")
            exact, small = projection.iloc[0], projection[projection["value"] > 0]
            lost = small[small["high"] < exact["score"]]["value"]
            cost = f"to {lost.max():g} numbers or fewer does" if len(lost) else "to no size does"
            parts.append(
                f"{method} rises from {few['score']:.2f} with {few['value']:g} draw to "
                f"{most['score']:.2f} with {most['value']:g}, {says} the softmax kernel's "
                f"{kernel['score']:.2f}, and projection {cost} worse by more than its interval"
            )
        told.append(f"On {name} {'; '.join(parts)}.")
    return " ".join(told)


def advice(tables: Mapping[str, "pd.DataFrame"], truths: Sequence[str] = ("members",)) -> list[str]:
    """Three sentences, each of which a rule chooses from the tables by name.

    First, which method is best on every set and group of queries, among those that need neither
    the truth's losses nor counterfactuals. Second, how many of all scores exceed what relabelled
    members give. Third, whether gradients exceed pixels by more than their intervals.
    """
    import pandas as pd

    parts = [table.assign(name=name) for name, table in tables.items()]
    whole = pd.concat(parts, ignore_index=True)
    free = whole[whole["truth"].isin(truths) & whole["needs"].isin(FREE)]
    groups = [group for _, group in free.groupby(["name", "truth", "queries"])]
    best = {group.loc[group["score"].idxmax(), "method"] for group in groups}
    if len(best) == 1:
        first = f"Of the methods without counterfactuals, {best.pop()} is best everywhere."
    else:
        first = (
            "Of the methods without counterfactuals none is best everywhere: it is "
            f"{' or '.join(sorted(best))}, so measure on your own set."
        )
    tried = free[free["method"] != "random"]
    passed = int((tried["p"] <= LEVEL).sum())
    second = (
        f"Ask for a control: {passed} of {len(tried)} scores exceed what {1 - LEVEL:.0%} of "
        "relabelled members give."
    )
    wins = 0
    for group in groups:
        by = {need: each.loc[each["score"].idxmax()] for need, each in group.groupby("needs")}
        wins += bool(by["gradients"]["low"] > by["images"]["high"])
    third = (
        f"Gradients are worth their time in {wins} of {len(groups)} comparisons, where the best of "
        "them exceeds the best of pixels by more than both intervals."
    )
    return [first, second, third]
