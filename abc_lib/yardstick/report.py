"""What tables say: files from outside scored, truths compared, advice that follows from rules."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.method.recipe import Recipe
from abc_lib.yardstick.scores import ceiling
from abc_lib.yardstick.sweeps import SWEPT
from abc_lib.yardstick.table import TOP, Yardstick, rows, stored

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "advice",
    "as_text",
    "compare_truths",
    "cost_verdict",
    "costs",
    "find",
    "free_methods",
    "hardest",
    "hardest_verdict",
    "published_verdict",
    "radius_verdict",
    "ranking_table",
    "ranking_verdict",
    "read_scores",
    "removal_verdict",
    "removed",
    "same_ranking",
    "score_file",
    "shown",
    "sweep_verdict",
    "swept",
    "unrolled_verdict",
]

LEVEL = 0.05
SAME = 0.8
"""the least rank correlation of two orders that are called the same"""
TITLES = {
    "members": "members",
    "subsets": "sets of members",
    "leave_one_out": "one left out",
    "retrained": "trained again",
    "classes": "a class left out",
    "same_chance": "same chance",
    "moved": "samples moved",
    "away": "moved away",
}
"""of truths, for readers"""
SHARES = {"top1": "top 1", f"top{TOP}": f"top {TOP}", f"radius{TOP}": f"radius, {TOP} tried"}
"""columns of shares, where a truth has them, for readers"""
FEW = ("classes",)
"""truths of so few models that eight of them are most"""
FREE = ("nothing", "images", "activations", "gradients")
"""what a method may need that knows neither the truth's losses nor counterfactuals"""


def find(recipe: Recipe, here: Here | None = None) -> Yardstick:
    """The table of a recipe that is at hand; raises :class:`BadValue` where there is none."""
    found = stored(recipe, here)
    if found is None:
        raise BadValue(
            f"{recipe.label} has no table of methods; make one with python -m abc_lib yardstick "
            f"{recipe.name} --publish"
        )
    return found


def read_scores(path: Path | str) -> np.ndarray:
    """Scores (S, N) from a ``.npy`` or a Parquet file, the latter with a column for each source.

    Raises :class:`BadValue` for a file that is neither, or that holds other than finite numbers.
    """
    import pandas as pd
    import pyarrow

    parquet = Path(path).suffix == ".parquet"
    how = "DataFrame.to_parquet" if parquet else "numpy.save"
    try:
        scores = pd.read_parquet(path).to_numpy() if parquet else np.load(path, allow_pickle=False)
    except OSError as error:
        why = error.strerror or "not readable"
        raise BadValue(f"{path} could not be read ({why}); give a file of scores") from None
    except (ValueError, EOFError, pyarrow.ArrowException):
        kind = "Parquet" if parquet else ".npy"
        raise BadValue(f"{path} is no {kind} file of numbers; write it with {how}") from None
    if not isinstance(scores, np.ndarray) or scores.dtype.kind not in "fiu":
        raise BadValue(f"{path} does not hold one array of numbers; write it with {how}")
    if not np.isfinite(scores).all():
        raise BadValue(
            f"{path} holds scores that are NaN or infinite; write numbers in their place"
        )
    return scores


def score_file(found: Yardstick, path: Path | str) -> "pd.DataFrame":
    """What the scores (S, N) in a file reach, in rows as those of ``found.table``."""
    import pandas as pd

    scores = read_scores(path)
    return pd.DataFrame(rows(found.task, scores)).assign(method=Path(path).name)


def as_text(table: "pd.DataFrame") -> str:
    """Rows for a terminal, without what is the same in all."""
    order = "method truth queries score low high ceiling chance p top1 top8 seconds".split()
    shown = table[[column for column in order if column in table]]
    return shown.to_string(index=False, float_format="{:.3f}".format, na_rep="-")


def compare_truths(table: "pd.DataFrame", queries: str = "held out") -> "pd.DataFrame":
    """A row for each method and a column for each truth, scores as shares of the ceiling."""
    mine = table[table["queries"] == queries]
    # A truth whose halves do not agree has no ceiling to share in.
    shares = mine.assign(share=(mine["score"] / mine["ceiling"]).where(mine["ceiling"] > 0))
    wide = shares.pivot(index="method", columns="truth", values="share")
    return wide.sort_values("members", ascending=False)


def same_ranking(table: "pd.DataFrame", queries: str = "held out") -> dict[tuple[str, str], float]:
    """Spearman's correlation of the methods' order under every two truths."""
    from scipy.stats import spearmanr

    wide = compare_truths(table, queries).dropna(axis=1, how="all").dropna()
    names = list(wide.columns)
    return {
        (a, b): float(spearmanr(wide[a], wide[b]).statistic)
        for k, a in enumerate(names)
        for b in names[k + 1 :]
    }


def shown(
    table: "pd.DataFrame", truth: str = "members", queries: str = "held out"
) -> "pd.DataFrame":
    """The table for readers under one truth: best first, in words and rounded numbers."""
    import pandas as pd

    mine = table[(table["truth"] == truth) & (table["queries"] == queries)]
    mine = mine.sort_values("score", ascending=False)
    made = pd.DataFrame({"method": mine["method"], "needs": mine["needs"]})
    numbers = zip(mine["score"], mine["low"], mine["high"])
    # On one line, whatever the width of the page.
    made["score"] = [
        f"{score:.2f} ({low:.2f} to {high:.2f})".replace(" ", "\u00a0")
        for score, low, high in numbers
    ]
    made["of ceiling"] = [
        f"{score / most:.2f}" if most > 0 else ""
        for score, most in zip(mine["score"], mine["ceiling"])
    ]
    made["controls"] = mine["chance"].map("{:.2f}".format)
    made["p"] = mine["p"].map("{:.2f}".format)
    if truth == "members":  # costs are the same under every truth
        made["s"] = mine["seconds"].map("{:,.1f}".format)
        if "memory" in mine and mine["memory"].notna().any():
            made["MiB"] = mine["memory"].map("{:,.0f}".format)
    for name, title in SHARES.items():
        if truth in FEW and title != "top 1":
            continue
        if name in mine and mine[name].notna().any():
            made[title] = mine[name].map("{:.2f}".format)
    return made


def costs(
    table: "pd.DataFrame", truth: str = "members", queries: str = "held out"
) -> "pd.DataFrame":
    """Methods without counterfactuals by cost: method, seconds, share of the ceiling with low and
    high, and whether no cheaper one is as good.
    """
    mine = table[(table["truth"] == truth) & (table["queries"] == queries)]
    mine = mine[mine["needs"].isin(FREE) & (mine["method"] != "random")].sort_values("seconds")
    made = mine[["method", "seconds"]].copy()
    for name, column in (("share", "score"), ("low", "low"), ("high", "high")):
        made[name] = mine[column] / mine["ceiling"]
    before = made["share"].cummax().shift(fill_value=-np.inf)
    return made.assign(best=made["share"] > before).reset_index(drop=True)


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


def ranking_table(table: "pd.DataFrame", queries: str = "held out") -> "pd.DataFrame":
    """Rank correlations of the methods' order under every two truths, as a triangle of texts."""
    import pandas as pd

    found = same_ranking(table, queries)
    names = list(dict.fromkeys(name for pair in found for name in pair))
    made = pd.DataFrame("", index=names[1:], columns=names[:-1])
    for (a, b), value in found.items():
        made.loc[b, a] = f"{value:.2f}"
    return made.rename(index=TITLES, columns=TITLES).rename_axis("").reset_index()


def _beside(one: "pd.Series", other: "pd.Series") -> str:
    """Above, below or neither, by both intervals."""
    if one["low"] > other["high"]:
        return "above"
    return "below" if one["high"] < other["low"] else "not told apart from"


PUBLISHED = (("D-TRAK", "TRAK"), ("DAS", "D-TRAK"))
"""rankings that were published: the first method above the second"""


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
                words.append(f"{_beside(ours, theirs)} {worse} ({pair}) on {name}, {queries}")
        if words:
            sentences.append(f"{better} is {'; '.join(words)}.")
    return f"Judged by intervals over queries, {' '.join(sentences)}"


def free_methods(table: "pd.DataFrame") -> list[str]:
    """The methods that know neither the truth's losses nor counterfactuals, without the control."""
    known = table[table["needs"].isin(FREE) & (table["method"] != "random")]
    return list(dict.fromkeys(known["method"]))


def hardest(found: Yardstick, queries: str = "held out") -> "pd.DataFrame":
    """A row for each scored query, the hardest first: ``query``, ``best`` and its ``method``, the
    highest score under the truth of members, and ``ceiling``, what the truth's noise allows there.

    Raises :class:`BadValue` for a table of before scores of single queries were kept.
    """
    import pandas as pd

    if found.by_query is None:
        raise BadValue(
            f"the table of {found.name} has no scores of single queries; measure it anew with "
            f"python -m abc_lib yardstick {found.name} --publish"
        )
    task = found.task
    mine = np.flatnonzero((task.generated == (queries == "generated")) & ~task.tuning)
    wide = found.by_query.pivot(index="method", columns="query", values="score")
    scores = wide.loc[free_methods(found.table), mine]
    halves = task.truths["members"].halves[:, :, mine]
    # Of one query over all codes' models: the same ceiling as of a table, without its mean.
    ceilings = [ceiling(halves[:, :, q].reshape(2, 1, -1)) for q in range(len(mine))]
    rows_ = {"query": mine, "best": scores.max().to_numpy(), "method": scores.idxmax().to_numpy()}
    return pd.DataFrame(rows_ | {"ceiling": ceilings}).sort_values("best", ignore_index=True)


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
            parts.append(f"{_beside(one, best)} {best.name} under *{TITLES[truth]}* ({pair})")
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


def removed(removal: "pd.DataFrame", queries: str = "held out") -> "pd.DataFrame":
    """For readers: by how much the loss rises without the k sources that each method names first,
    beside the rise with as many members gone but others. Best first, by k = 1.
    """
    import pandas as pd

    mine = removal[removal["queries"] == queries]
    made = {}
    for k, group in mine.groupby("k"):
        group = group.set_index("method")
        made[f"k = {k}"] = [
            "nobody left"
            if np.isnan(row["rise"])
            else f"{row['rise']:+.1%} ({row['control']:+.1%}{'; *' if row['p'] <= LEVEL else ''})"
            for _, row in group.iterrows()
        ]
    first = mine[mine["k"] == 1]
    order = first["rise"].to_numpy().argsort()[::-1]
    return pd.DataFrame({"method": first["method"].to_list()} | made).iloc[order]


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


def swept(sweeps: "pd.DataFrame", sweep: str, queries: str = "held out") -> "pd.DataFrame":
    """A row for each value of a sweep: what methods reach with their intervals, and seconds."""
    import pandas as pd

    mine = sweeps[(sweeps["sweep"] == sweep) & (sweeps["queries"] == queries)]
    mine = mine.sort_values("value")
    values = list(dict.fromkeys(mine["value"]))
    made = {sweep: [f"{value:g}" if value else "none" for value in values]}
    for method, rows_ in mine.groupby("method", sort=False):
        made[method] = [
            f"{row['score']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
            for _, row in rows_.iterrows()
        ]
        if sweep != "damping":
            made[f"{method}, s"] = rows_["seconds"].map("{:.1f}".format).to_list()
    return pd.DataFrame(made)


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
            says = _beside(most, kernel)
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
