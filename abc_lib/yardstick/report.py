"""Tables of methods for readers: under one truth or several, with files from outside."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.method.recipe import Recipe
from abc_lib.yardstick.scores import ceiling
from abc_lib.yardstick.table import TOP, Yardstick, rows, stored

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.05
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


def _intervals(scores: "pd.DataFrame") -> list[str]:
    """Scores with their intervals, in words."""
    numbers = zip(scores["score"], scores["low"], scores["high"], strict=True)
    return [f"{score:.2f} ({low:.2f} to {high:.2f})" for score, low, high in numbers]


def beside(
    tables: Mapping[str, "pd.DataFrame"], truth: str = "members", queries: str = "held out"
) -> "pd.DataFrame":
    """For readers: a row for each method and a column for each training set that has this truth.

    Scores with intervals, and a star where at most a share :data:`LEVEL` of the controls does as
    well; best first, by the mean over the sets. The last row is the ceiling.
    """
    import pandas as pd

    mine = {}
    for name, table in tables.items():
        found = table[(table["truth"] == truth) & (table["queries"] == queries)]
        if len(found):
            mine[name] = found.set_index("method")
    whole = pd.concat(mine.values())
    order = whole.groupby(level=0)["score"].mean().sort_values(ascending=False).index
    made = pd.DataFrame({"needs": whole.groupby(level=0)["needs"].first()}, index=order)
    for name, found in mine.items():
        stars = np.where(found["p"] <= LEVEL, " *", "")
        texts = [text + star for text, star in zip(_intervals(found), stars, strict=True)]
        made[name] = pd.Series(texts, index=found.index)
    ceilings = {name: f"{found['ceiling'].iloc[0]:.2f}" for name, found in mine.items()}
    return pd.concat([made, pd.DataFrame(ceilings, index=["ceiling"])]).reset_index(names="method")


def shown(
    table: "pd.DataFrame", truth: str = "members", queries: str = "held out"
) -> "pd.DataFrame":
    """The table for readers under one truth: best first, in words and rounded numbers."""
    import pandas as pd

    mine = table[(table["truth"] == truth) & (table["queries"] == queries)]
    mine = mine.sort_values("score", ascending=False)
    made = pd.DataFrame({"method": mine["method"], "needs": mine["needs"]})
    made["score"] = _intervals(mine)
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


def ranking_table(table: "pd.DataFrame", queries: str = "held out") -> "pd.DataFrame":
    """Rank correlations of the methods' order under every two truths, as a triangle of texts."""
    import pandas as pd

    found = same_ranking(table, queries)
    names = list(dict.fromkeys(name for pair in found for name in pair))
    made = pd.DataFrame("", index=names[1:], columns=names[:-1])
    for (a, b), value in found.items():
        made.loc[b, a] = f"{value:.2f}"
    return made.rename(index=TITLES, columns=TITLES).rename_axis("").reset_index()


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


def swept(sweeps: "pd.DataFrame", sweep: str, queries: str = "held out") -> "pd.DataFrame":
    """A row for each value of a sweep: what methods reach with their intervals, and seconds."""
    import pandas as pd

    mine = sweeps[(sweeps["sweep"] == sweep) & (sweeps["queries"] == queries)]
    mine = mine.sort_values("value")
    values = list(dict.fromkeys(mine["value"]))
    made = {sweep: [f"{value:g}" if value else "none" for value in values]}
    for method, rows_ in mine.groupby("method", sort=False):
        made[method] = _intervals(rows_)
        if sweep != "damping":
            made[f"{method}, s"] = rows_["seconds"].map("{:.1f}".format).to_list()
    return pd.DataFrame(made)
