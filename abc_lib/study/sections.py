"""What the pages of the book say about their numbers: opening lines, tables, verdicts.

One call is a table (a DataFrame whose cells are text where their form matters) or a list of
sentences in Markdown. Nothing here samples or trains; what is needed is handed over or looked up.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from abc_lib.ground.here import Here
from abc_lib.ground.paper import intersections as paper_intersections
from abc_lib.ground.store import Artefact
from abc_lib.images.registry import family_of, get_recipe, recipe_names, what_names
from abc_lib.images.spaces import SPACES
from abc_lib.images.training_set import training_set
from abc_lib.method import attribution
from abc_lib.method.code import draw_codebook
from abc_lib.method.differential import screening_bounds, screening_sizes
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.landscape import Landscapes
from abc_lib.method.radius import Law, LogRadius, by_kind, fit_law, slope_within
from abc_lib.method.recipe import Recipe
from abc_lib.method.space import state_shape
from abc_lib.metrics.visual import visual_distances
from abc_lib.results import fids, jacobians, landscapes, removals, retraining
from abc_lib.results.measures.agreement import in_common
from abc_lib.results.run import all_statuses
from abc_lib.study.cost import cost_of

Looks = dict[tuple[str, str], np.ndarray]
"""numbers of ensemble and metric, by their two names"""


def _text(frame: pd.DataFrame, formats: dict[str, str]) -> pd.DataFrame:
    """A table with some columns as text, nothing where a number is missing."""
    for name, form in formats.items():
        if name in frame:
            frame[name] = ["" if pd.isna(value) else form.format(value) for value in frame[name]]
    return frame


def spread(order: Sequence[int], count: int = 6) -> np.ndarray:
    """At most ``count`` of ``order``, evenly from its first to its last."""
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return np.asarray(order)[np.unique(places)]


# --- the top of a page ---


def _artefacts(results: Iterable) -> list[Artefact]:
    made = []
    for result in results:
        made += result.artefacts if hasattr(result, "artefacts") else [result.artefact]
    return made


def opening(
    notebook: str, recipe: Recipe, results: Iterable, details: str, notes: Sequence[str] = ()
) -> str:
    """The first lines of a page: what its numbers are of and where they come from, how to run it.

    ``results`` are what has artefacts (ensembles, landscapes, ...), ``details`` the sentences of
    their origins, which fold away; ``notes`` go below the command.
    """
    made = _artefacts(results)
    data, code = recipe.data, recipe.code
    days = sorted({artefact.provenance["time"][:10] for artefact in made})
    when = dict.fromkeys([days[0], days[-1]])
    places = sorted({artefact.provenance["hardware"] for artefact in made})
    published = {artefact.published for artefact in made}
    whose = {
        frozenset([True]): "All results are published with this repository",
        frozenset([False]): "All results are from this machine",
    }.get(frozenset(published), "Results are published with this repository or from this machine")
    name = what_names(recipe)
    more = "" if recipe.scale == "laptop" or name != recipe.name else f" -p scale {recipe.scale}"
    lines = [
        f"**{recipe.name}**, scale *{recipe.scale}*: {data.size:,} images from "
        f"{data.num_sources:,} data sources, {code.n} members of weight {code.weight}. "
        f"{whose}, computed on {', '.join(places)}, {' to '.join(when)}.",
        f"<details><summary>Where each number comes from</summary>\n\n{details}\n\n</details>",
        f"> **Run this page:** `papermill notebooks/{notebook}.ipynb out.ipynb "
        f"-p dataset {name}{more}`",
    ]
    return "\n\n".join(lines) + "".join(f"\n>\n> {note}" for note in notes)


def status_table(scale: str = "laptop", here: Here | None = None) -> pd.DataFrame:
    """Which ensembles of the registry run here, and why or why not, those alike in one line."""
    alike: dict[tuple[str, str], list[str]] = {}
    for status in all_statuses(scale, here):
        alike.setdefault((status.note, "yes" if status.runs else "no"), []).append(status.name)
    rows = [(", ".join(names), runs, note) for (note, runs), names in alike.items()]
    return pd.DataFrame(rows, columns=["ensembles", "runs here", "because"])


def family_landscapes(mine: Landscapes, here: Here | None = None) -> dict[str, Landscapes]:
    """The landscapes at hand of an ensemble's family, by training set size, ``mine`` among them."""
    stored = {
        name: mine if name == mine.name else landscapes.stored(get_recipe(name, mine.scale), here)
        for name in family_of(mine.name, mine.scale)
    }
    return {name: found for name, found in stored.items() if found is not None}


# --- 00: quality ---


def removal_series(
    ensemble: Ensemble, stored: Iterable, count: int, seed: int = 0, here: Here | None = None
) -> dict[int, fids.SampleFID]:
    """FIDs by number of members removed: the fullest series of ``stored``, or six computed now."""
    series: dict[int, dict[int, fids.SampleFID]] = {}
    for fid in sorted(stored, key=lambda fid: fid.removed):
        if fid.name == ensemble.recipe.name and fid.which == "ensemble":
            series.setdefault(fid.fid.count, {})[fid.removed] = fid
    best = max(series, key=lambda count: (len(series[count]), count), default=None)
    if best is not None and len(series[best]) > 2:
        return series[best]
    n, weight = ensemble.n, ensemble.recipe.code.weight
    steps = sorted({0, 1, n // 4, n - weight, 3 * n // 4, n - 1})
    options = {"count": min(count, 512), "seed": seed, "here": here}
    return {k: fids.get(ensemble, removed=k, **options) for k in steps}


def latent_fids(scale: str = "laptop", here: Here | None = None) -> dict[str, list]:
    """FIDs at hand of every ensemble that lives in latents, those of most samples, by name."""
    found = {}
    for name in recipe_names():
        recipe = get_recipe(name, scale)
        if recipe.data.space != "pixel" and (stored := fids.stored(recipe, here)):
            most = max(fid.fid.count for fid in stored)
            found[name] = [fid for fid in stored if fid.fid.count == most and fid.removed == 0]
    return found


def latent_line(stored: Sequence[fids.SampleFID], here: Here | None = None) -> str:
    """An ensemble in latents and its autoencoder, in a sentence or two."""
    recipe = get_recipe(stored[0].name, stored[0].scale)
    autoencoder = SPACES[recipe.data.space].find_autoencoder(recipe, (here or Here()).store)
    made = autoencoder.artefact if autoencoder else None
    shape = "×".join(map(str, state_shape(recipe.data)))
    text = f"**{recipe.label}**: {recipe.data.size:,} images, states of shape {shape}."
    if made:
        text += (
            " The autoencoder returns images with a root mean squared error of "
            f"{made.info['rmse']:.4f} on pixels in [0, 1] ({made.info['images']:,} images, "
            f"{made.info['origin']})."
        )
    return text


# --- 01: ablation beside retraining ---


def over_left_out(
    ablation: Landscapes, retrained: retraining.RetrainingLandscapes, predicted
) -> dict[str, tuple]:
    """By method, samples and their distances over the sources left out: (factual, (S, K)).

    Retraining goes with its own samples, ablation and its prediction with the ensemble's.
    """
    methods = {}
    for method, mine, owner in (
        ("ablation", ablation, ablation),
        ("retraining", retrained, retrained),
        ("differential", predicted, ablation),
    ):
        samples, _, (distances, _) = in_common([mine, retrained])
        row = {int(index): row for row, index in enumerate(owner.indices)}
        keep = [k for k, sample in enumerate(samples) if int(sample) in row]
        methods[method] = (owner.factual[[row[int(samples[k])] for k in keep]], distances[keep])
    return methods


def lists_table(methods: dict, visual: Looks, labels: dict, ks: Iterable[int]) -> pd.DataFrame:
    """Table 4 of the paper: how often the k suspects of looks and of removal meet, by method."""
    rows = []
    for method, (_, distances) in methods.items():
        for k in ks:
            row = {"counterfactuals by": method, "k": k, "samples": len(distances)}
            for metric, label in labels.items():
                met = attribution.top_k_intersections(visual[method, metric], distances, k)
                row[label] = f"{met.count} ({met.count / met.samples:.0%})"
            row["by chance"] = f"{met.expected:.0f} ± {met.sd:.0f} ({met.chance:.0%})"
            rows.append(row)
    return pd.DataFrame(rows)


def paper_lists_table(dataset: str) -> tuple[str, pd.DataFrame]:
    """The paper's table 4 for a training set that it has, else for mnist_384, and which it is."""
    own = paper_intersections(dataset)
    which = dataset if own else "mnist_384"
    rows = [
        {"counterfactuals by": method, "k": 8, "samples": 1024}
        | {metric: f"{value} ({value / 1024:.0%})" for metric, value in row.items()}
        | {"by chance": "160 ± 12 (16%)"}
        for method, row in (own or paper_intersections(which)).items()
    ]
    return which, pd.DataFrame(rows)


def lists_meet(methods: dict, visual: Looks, metric: str, ks: Iterable[int]) -> dict:
    """Intersections of looks and removal by method, for the largest k that leaves them room."""
    # where chance already fills most samples, a difference has none
    N = methods["ablation"][1].shape[1]
    k = max(k for k in ks if attribution.intersection_chance(N, k) < 0.5)
    return {
        method: attribution.top_k_intersections(visual[method, metric], distances, k)
        for method, (_, distances) in methods.items()
    }


def agreement_lines(agreements: dict) -> list[str]:
    """What pairs of landscapes say of each other; ``ablation – retraining`` names a pair."""
    both = agreements["ablation – retraining"]
    mean, low, high = both.interval()
    lines = [
        f"Ablation and retraining correlate with {mean:.2f} ({low:.2f} to {high:.2f}) over the "
        "sources of a sample."
    ]
    itself = agreements.get("retraining – retraining, other seed")
    if itself is not None:
        own, below, above = itself.interval()
        lines.append(
            f"Two retrainings that differ in their seed alone correlate with {own:.2f} "
            f"({below:.2f} to {above:.2f})."
        )
        if own < 0.3:
            lines.append(
                "So most of what a retrained landscape shows is the chance of that training: which "
                "source matters most to a sample is hardly a property of the training set alone, "
                "and a single retraining is no ground truth that another method could be held "
                "against."
            )
        first, second = (pair.tops[1].count / pair.tops[1].samples for pair in (itself, both))
        lines.append(
            "What two retrainings share above all is the top: the farthest source is the same in "
            f"{first:.0%} of the samples, where chance gives {itself.tops[1].chance:.0%}; for "
            f"ablation and retraining it is the same in {second:.0%}."
        )
        lines.append(
            "Ablation agrees with retraining no worse than retraining does with itself."
            if mean >= below
            else "Ablation agrees with retraining less than retraining does with itself, by "
            f"{own - mean:.2f}."
        )
    other = agreements.get("ablation – ablation, other members and code")
    if other is None:
        return lines
    same = agreements.get("ablation – ablation, other members")
    with_same = (
        ""
        if same is None
        else f", with other members and the same code to {same.interval()[0]:.2f}"
    )
    lines.append(
        "Ablation with other members and another code agrees with itself to "
        f"{other.interval()[0]:.2f}{with_same}."
    )
    if same is not None and same.interval()[0] > other.interval()[0] + 0.2:
        lines.append(
            "So most of an ablated landscape at this size is the code's: which members go with a "
            "source decides how far its counterfactual lies, more than what the source shows. "
            "Whoever attributes a sample to a source should ask more than one code."
        )
    return lines


# --- 02: looking alike and mattering ---


def family_looks(family: dict[str, Landscapes], metrics: dict, flips: bool = False) -> Looks:
    """Visual distances (S, N) of each ensemble's samples to its sources, by ensemble and metric."""
    return {
        (name, key): visual_distances(
            found.factual, training_set(get_recipe(name, found.scale).data), metric, flips
        )
        for name, found in family.items()
        for key, metric in metrics.items()
    }


def rank_table(ranks: Looks) -> pd.DataFrame:
    """Where the counterfactual without the nearest source ranks, a line an ensemble and metric."""
    rows = [
        (name, key, len(r), np.median(r), np.mean(r), np.mean(r >= 0.9), np.mean(r == 1))
        for (name, key), r in ranks.items()
    ]
    columns = ["ensemble", "nearest by", "samples", "median rank", "mean rank"]
    columns += ["rank 0.9 or more", "the farthest of all"]
    forms = dict.fromkeys(columns[3:5], "{:.2f}") | dict.fromkeys(columns[5:], "{:.0%}")
    return _text(pd.DataFrame(rows, columns=columns), forms)


def suspects(family: dict[str, Landscapes], looks: Looks, here: Here | None = None) -> pd.DataFrame:
    """Where the k most alike and the k that matter most meet (table 4), a line an ensemble and k.

    Columns ensemble, look by, k, samples, exact, predicted, and for both p; expected and sd by
    chance. Predicted are the lists of differential ablation, NaN where no Jacobians are at hand.
    """
    rows = []
    for (name, key), visual in looks.items():
        mine, predicted = family[name], None
        recipe = get_recipe(name, mine.scale)
        stored = jacobians.stored(recipe, here)
        if stored and stored.seed == mine.seed and set(mine.indices) <= set(stored.indices):
            predicted = stored.only(mine.indices).landscape(draw_codebook(recipe))
        for k in (1, 3, 8):
            met = attribution.top_k_intersections(visual, mine.distances, k)
            row = {"ensemble": name, "look by": key, "k": k, "samples": met.samples}
            row |= {"exact": met.count, "p": met.p, "expected": met.expected, "sd": met.sd}
            if predicted is not None:
                also = attribution.top_k_intersections(visual, predicted, k)
                row |= {"predicted": also.count, "p predicted": also.p}
            rows.append(row)
    return pd.DataFrame(rows)


def suspects_table(found: pd.DataFrame) -> pd.DataFrame:
    """:func:`suspects` as text; k = 3 is left out where it would make the table long."""
    rows = found[found.k != 3] if found.ensemble.nunique() > 3 else found
    with_p = lambda count, p: f"{count:.0f} (p = {p:.1g})"
    columns = {
        "removal, exact": [with_p(r.exact, r.p) for r in rows.itertuples()],
        "removal, predicted": [
            "no Jacobians at hand" if pd.isna(count) else with_p(count, p)
            for count, p in rows.get(["predicted", "p predicted"], pd.DataFrame()).to_numpy()
        ],
        "by chance": [f"{r.expected:.1f} ± {r.sd:.1f}" for r in rows.itertuples()],
    }
    return rows[["ensemble", "look by", "k", "samples"]].assign(**columns)


# --- 03: the radius ---


def law_of(summaries: Sequence[LogRadius]) -> Law | None:
    """The line through all, each ensemble counting once; None for fewer than two sizes."""
    return fit_law(summaries) if len({s.size for s in summaries}) > 1 else None


def law_within(summaries: Sequence[LogRadius]) -> Law | None:
    """The slope that all kinds share; None where no kind has two sizes."""
    enough = any(len({s.size for s in group}) > 1 for group in by_kind(summaries).values())
    return slope_within(summaries) if enough else None


def law_table(ours: Sequence[LogRadius], theirs: Sequence[LogRadius]) -> pd.DataFrame:
    """Fitted lines of the paper's ensembles and of ours: all, within kinds, kind by kind."""
    level = "one slope, a level for each kind"
    lines = [("the paper, all", theirs, law_of(theirs))]
    lines += [
        (f"the paper, {level}", theirs, law_within(theirs)),
        ("ours, all", ours, law_of(ours)),
    ]
    groups = by_kind(ours)
    if len(groups) > 1:
        within = law_within(ours)
        lines += [(f"ours, {level}", ours, within)] if within is not None else []
        lines += [(f"ours, {kind}", group, law_of(group)) for kind, group in groups.items()]
    rows = []
    for name, group, law in lines:
        sizes = [s.size for s in group]
        row = {"line through": name, "ensembles": law.ensembles if law else len(group)}
        row["samples"] = f"{sum(s.count + s.zeros for s in group):,}"
        row["images"] = f"{min(sizes):,} to {max(sizes):,}"
        if law:
            low, high = law.slope - law.wide, law.slope + law.wide
            row |= {"slope": f"{law.slope:.3f}", "intercept": f"{law.intercept:.2f}"}
            row |= {"R²": f"{law.r2:.2f}"}
            if not np.isnan(law.wide):
                row |= {"its 95% interval": f"{low:.2f} to {high:.2f}", "p": f"{law.p:.2g}"}
        rows.append(row)
    columns = [*list(rows[0])[:5], "its 95% interval", "intercept", "R²", "p"]
    return pd.DataFrame(rows).reindex(columns=columns).fillna("")


def law_lines(ours: Sequence[LogRadius], theirs: Sequence[LogRadius]) -> list[str]:
    """What our radii say of the paper's law."""
    line, our_line, groups = law_of(theirs), law_of(ours), by_kind(ours)
    slope, their_slope = law_within(ours), law_within(theirs)
    if slope is None:
        slope, their_slope = our_line, line
    lines = []
    if slope is not None:
        near = "contains" if abs(slope.slope - their_slope.slope) < slope.wide else "does not reach"
        lines.append(
            f"**Radii fall:** {'yes' if slope.slope < 0 else 'no'}. Within a kind of images, a "
            f"training set ten times as large has radii {10**slope.slope:.2f} times as large here, "
            f"{10**their_slope.slope:.2f} times in the paper."
        )
        lines.append(
            "**Is the slope near that of the paper?** Ours within kinds is "
            f"{slope.slope:.3f}; "
            + (
                "two points give no interval, so nearness cannot be judged."
                if np.isnan(slope.wide)
                else f"its 95% interval, ±{slope.wide:.2f}, {near} the paper's "
                f"{their_slope.slope:.2f}, worked out in the same way."
            )
        )
    alone = {kind: law_of(g) for kind, g in groups.items() if len({s.size for s in g}) > 2}
    if len(groups) > 1 and alone:
        words = [
            f"{kind} {law.slope:.3f}, with an interval of ±{law.wide:.2f} that "
            f"{'contains' if abs(law.slope - line.slope) < law.wide else 'does not contain'} the "
            f"paper's {line.slope:.2f}"
            for kind, law in alone.items()
        ]
        lines.append(f"**Kind by kind:** {'; '.join(words)}.")
    gap = lambda s: s.mean - line.intercept - line.slope * np.log10(s.size)
    words = [f"{10 ** np.mean([gap(s) for s in g]):.2f} ({kind})" for kind, g in groups.items()]
    lines.append(
        "**Does the level agree?** At their own sizes, our radii are on average "
        f"{', '.join(words)} times what the paper's line gives."
    )
    same = {s.name: s for s in theirs}
    words = [
        f"{s.name} {s.mean:.2f} (sd {s.sd:.2f}, {s.count} samples), in the paper "
        f"{same[s.name].mean:.2f} ({same[s.name].sd:.2f}, {same[s.name].count})"
        for s in ours
        if s.name in same
    ]
    if words:
        lines.append(f"**The same training sets:** mean log10 radius {'; '.join(words)}.")
    if our_line is not None:
        lines.append(
            "**Far out:** drawn on to 10⁸ images, the paper's line gives a radius of "
            f"{line.radius_at(1e8):.1f}, ours through all points {our_line.radius_at(1e8):.2g}; no "
            f"line reaches so far beyond {max(s.size for s in ours):,} images with any authority."
        )
    return lines


def setting_table(
    names: Iterable[str], ours: Sequence[LogRadius], theirs: Sequence[LogRadius], scale: str
) -> pd.DataFrame:
    """Networks, members and training of ensembles, at the paper's scale and at ours."""
    samples = {"paper": {s.name: s.count for s in theirs}}
    samples[scale] = {s.name: s.count + s.zeros for s in ours}
    rows = []
    for name in names:
        for where in dict.fromkeys(["paper", scale]):
            recipe = get_recipe(name, where)
            row = {"ensemble": name, "scale": where}
            row["million parameters"] = f"{cost_of(recipe).parameters / 1e6:.2f}"
            row |= {"members": recipe.code.n, "training steps": f"{recipe.training.steps:,}"}
            row["batch"] = recipe.training.batch_size
            row["times an image is seen"] = f"{recipe.exposure:,.0f}"
            rows.append(row | {"samples": samples[where].get(name, 0) or "none"})
    return pd.DataFrame(rows)


# --- 04: differential ablation ---


def screening_table(everything: dict) -> pd.DataFrame:
    """How many exact counterfactuals find the radius: medians, the most in brackets."""
    rows = []
    for name, each in everything.items():
        N = each.exact.shape[1]
        row = {"ensemble": name, "N": f"{N:,}", "samples": len(each.indices)}
        for share, label in ((0.9, "k for 90%"), (0.99, "for 99%"), (1.0, "for 100%")):
            k = screening_sizes(each.predicted, each.exact, share)
            row[label] = f"{np.median(k):.0f} ({k.max()})"
        bounds = screening_bounds(each.predicted, each.exact)
        shares = bounds[:, max(1, N // 20) - 1] / bounds[:, -1]
        rows.append(row | {"mean share at k = N / 20": f"{shares.mean():.2%}"})
    return pd.DataFrame(rows)


def family_similarity(mine, here: Here | None = None) -> dict[str, np.ndarray]:
    """Visual similarity ranks of what Jacobians attribute samples to, by ensemble of the family."""
    ranks = {}
    for name in family_of(mine.name, mine.scale):
        recipe = get_recipe(name, mine.scale)
        found = mine if name == mine.name else jacobians.stored(recipe, here)
        if found is not None:
            top = attribution.top_counterfactual(found.landscape(draw_codebook(recipe)))[:, 0]
            looks = visual_distances(found.factual, training_set(recipe.data))
            ranks[name] = attribution.visual_similarity_ranks(looks, top)
    return ranks


def hybrid_table(hybrids: dict) -> pd.DataFrame:
    """Cost and errors of hybrid landscapes, a line an ensemble and number of tangent steps j."""
    rows = []
    for name, each in hybrids.items():
        relative = each.errors / each.exact
        radius = np.abs(each.hybrid.max(axis=2) / each.exact.max(axis=1) - 1)
        for k, j in enumerate(each.switches):
            row = {"ensemble": name, "j": int(j), "cost": each.costs[k]}
            row["median error"] = np.median(relative[k])
            row["95% below"] = np.quantile(relative[k], 0.95)
            row["largest error"] = relative[k].max()
            rows.append(row | {"largest error of a radius": radius[k].max()})
    return pd.DataFrame(rows)


def hybrid_lines(table: pd.DataFrame, steps: int) -> list[str]:
    """Whether carrying counterfactuals by tangents pays; ``table`` is :func:`hybrid_table`'s."""
    lines, worst = [], {}
    for j in (steps * 4 // 10, steps // 2):
        at = table[table.j == j] if len(table) else table
        if len(at):
            worst[j] = float(at["largest error"].max())
            lines.append(
                f"Carried through {j} of the {steps} steps, no counterfactual of any of these "
                f"ensembles is off by more than {worst[j]:.1%} of its distance and no radius by "
                f"more than {at['largest error of a radius'].max():.2%}, at {at['cost'].min():.0%} "
                f"to {at['cost'].max():.0%} of the cost."
            )
    if not worst:
        return []
    if min(worst.values()) >= 0.01:
        lines.append("That is too much for an option that replaces the exact landscape.")
        return [f"**It does not pay.** {' '.join(lines)}"]
    lines.append(
        f"So it is an option, `abc.landscapes.get(ensemble, samples, tangent_steps={min(worst)})`. "
        "Results are exact unless it is asked for, and hybrid landscapes are never mixed with "
        "exact ones. The fewer sources there are, the less it saves: the tangents cost the same "
        "for any number."
    )
    return [f"**It pays.** {' '.join(lines)}"]


# --- 05: unattributable samples ---


def promise_table(names: Iterable[str], scale: str = "laptop") -> pd.DataFrame:
    """Which sets of k sources codes let go, by ensemble: promised, and found by drawing sets."""
    rows = []
    for name in names:
        book = draw_codebook(get_recipe(name, scale))
        sizes = [k for k in (1, 2, 3, 4, 5, 6, 9, 10, 12, 102) if k <= book.num_sources]
        for line in removals.survivor_table(book, sizes).to_dict("records"):
            if line["k"] <= 4 or line["removable"] > 0 or line["k"] == sizes[-1]:
                row = {"code of": name, "sources": f"{book.num_sources:,}", "n": book.n}
                row |= {"weight": book.weight}
                row |= {"promised k": removals.promised_k(book.n, book.weight), "k": line["k"]}
                row |= {"sets with a survivor": f"{line['removable']:.1%}"}
                row |= {"members left: least": line["least"], "mean": f"{line['mean']:.1f}"}
                rows.append(row | {"most": line["most"]})
    return pd.DataFrame(rows)
