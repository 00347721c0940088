"""What the page on one's own pictures says of imitation: tables, and sentences by rules."""

import numpy as np
import pandas as pd

from abc_lib.images.families import made
from abc_lib.images.registry import get_recipe
from abc_lib.results.placebos import imitation
from abc_lib.results.placebos.imitation import Imitation

__all__ = ["alone_table", "judge_table", "likeness", "likeness_verdict", "truth_table", "verdict"]


def judge_table(value: Imitation) -> pd.DataFrame:
    """A row a judge: how many names of a source are left where that source is left out, of 1 along
    placebos."""
    rows = []
    for judge in value.judges:
        whole = imitation.total(value, judge)
        rows.append(
            {
                "judge": judge,
                "still named without": f"{whole.ablated:.2f}",
                "95% interval": f"{1 - whole.high:.2f} to {1 - whole.low:.2f}",
                "by placebo": f"{whole.placebo:.2f}",
                "p": f"{whole.p:.4f}",
            }
        )
    return pd.DataFrame(rows)


def verdict(value: Imitation) -> str:
    """In a few sentences, what the judge that is right most often says."""
    c = value.judge()
    whole, each = imitation.total(value), imitation.shares(value)
    surely = sum(one.p < 0.05 for one in each)
    words = (
        f"By the judge that does best on members alone ({value.judges[c]}): where a "
        f"source is left out, samples named for it are {whole.ablated:.2f} times as many as where "
        f"as many members and no source go ({1 - whole.high:.2f} to {1 - whole.low:.2f}, over "
        f"samples; p = {whole.p:.4f}, over codewords). "
    )
    if whole.p >= 0.05:
        return words + "That is no more than the chance of the code can do."
    return words + (
        "Members who never saw somebody's pictures imitate them less: this much of the imitation "
        f"is the source's own doing. Of {len(each)} sources one by one, {surely} have a p below "
        f"0.05, where chance gives {0.05 * len(each):.0f}: "
        + (
            "these can be named."
            if surely > 0.1 * len(each)
            else f"{value.own.shape[1]} samples are too few to name one."
        )
    )


def alone_table(value: Imitation) -> pd.DataFrame:
    """A row a judge: how often it is right on pictures that it did not learn on, and for how many
    samples of a member alone it names a source that the member saw, beside the share that chance
    gives, with the standard error over members."""
    rows = []
    for judge, saw in zip(value.judges, value.saw):
        rows.append(
            {
                "judge": judge,
                "right on real pictures": f"{value.accuracy[value.judge(judge)]:.0%}",
                "names a source that the member saw": f"{saw.mean():.0%}",
                "standard error": f"{100 * saw.std(ddof=1) / len(saw) ** 0.5:.0f} points",
                "by chance": f"{value.words.mean():.0%}",
            }
        )
    return pd.DataFrame(rows)


def truth_table(value: Imitation) -> pd.DataFrame:
    """A row a judge: names of a source that is left out, beside those that its errors alone give.

    Nobody who is left has seen the source, so what is still named for it is the judge's error: as
    often as it takes real pictures by others for the source's, or as often as it names, for samples
    of a member alone, a source that the member never saw.
    """
    unseen = 1 - value.words.mean()
    rows = []
    for c, judge in enumerate(value.judges):
        whole = imitation.total(value, judge)
        taken = imitation.named(value.factual[c], value.own.shape[2])
        wrong = value.confusion[c] * (1 - np.eye(len(taken)))
        # a source's share falls to the others in proportion
        expected = sum(
            float(wrong[:, j] @ np.where(np.arange(len(taken)) == j, 0, taken)) / (1 - taken[j])
            for j in range(len(taken))
        )
        rows.append(
            {
                "judge": judge,
                "still named": f"{whole.ablated:.2f}",
                "95% interval": f"{1 - whole.high:.2f} to {1 - whole.low:.2f}",
                "errors as on real pictures": f"{expected:.2f}",
                "errors as on members alone": f"{(1 - value.saw[c].mean()) / unseen:.2f}",
            }
        )
    return pd.DataFrame(rows)


def likeness(value: Imitation, draws: int = 2000) -> tuple[float, float] | None:
    """Who gains and who is like whom, for made pictures, whose styles are known; else None.

    The rank correlation, over pairs of artists, of what one gains when the other is left out with
    how near their colours are, and its p-value from artists whose numbers are shuffled.
    """
    from scipy import stats

    recipe = get_recipe(value.name, value.scale)
    if recipe.data.family != "made":
        return None
    styles = [made.artist(number) for number in range(value.own.shape[2])]
    colours = np.array([[style.ground, style.colours.mean(axis=0)] for style in styles])
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=(2, 3))
    table, others = imitation.gains(value), ~np.eye(len(apart), dtype=bool)
    gained, near = stats.rankdata(table[others]), np.zeros_like(apart)
    near[others] = stats.rankdata(-apart[others])
    rng = np.random.default_rng(0)

    def agreement(order: np.ndarray) -> float:
        return float(np.corrcoef(gained, near[np.ix_(order, order)][others])[0, 1])

    found = agreement(np.arange(len(apart)))
    shuffled = [agreement(rng.permutation(len(apart))) for _ in range(draws)]
    return found, (sum(one >= found for one in shuffled) + 1) / (draws + 1)


def likeness_verdict(value: Imitation) -> str:
    """:func:`likeness` in a sentence; empty where styles are not known."""
    both = likeness(value)
    if both is None:
        return ""
    found, p = both
    text = (
        f"Here the styles are known. What an artist gains when another is left out goes with how "
        f"near their colours are: rank correlation {found:.2f} over all pairs (p = {p:.3f}, "
        "artists shuffled). "
    )
    return text + (
        "So those gain who paint in like colours."
        if p < 0.05
        else "That is not more than chance: who gains does not follow the colours."
    )
