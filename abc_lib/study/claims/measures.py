"""What is measured for each claim, on artefacts that are at hand: nothing is trained or sampled.

A measure returns numbers by name: the table's texts are filled in from them, and the claim's rule
gets those that it asks for. ``parts`` are the numbers of each family or ensemble that the claim
was tried on. None, or no parts, is where an artefact that it takes is not at hand.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict

import numpy as np
import pandas as pd
from scipy import stats

from abc_lib.ground import paper
from abc_lib.ground.here import Here
from abc_lib.images.registry import family_of, get_recipe
from abc_lib.images.training_set import available, training_set
from abc_lib.method.attribution import (
    counterfactual_distance_ranks,
    top_counterfactual,
    top_k_intersections,
    top_visual,
    visual_similarity_ranks,
)
from abc_lib.method.code import draw_codebook, smallest_sufficient_n
from abc_lib.method.differential import rank_correlations
from abc_lib.method.radius import fit_law
from abc_lib.method.recipe import Recipe
from abc_lib.metrics.visual import visual_distances
from abc_lib.results import (
    class_counts,
    comparisons,
    fids,
    jacobians,
    landscapes,
    retraining,
    unattributable,
)
from abc_lib.results.class_counts import standard_errors
from abc_lib.results.measures import radii
from abc_lib.results.measures.agreement import in_common, predicted_landscapes
from abc_lib.results.run import stored_predictions
from abc_lib.study.speed import read_benchmarks
from abc_lib.training.classifier.values import classifier_metric, find_classifier

FAMILIES = {"digits": "digits_64", "MNIST": "mnist_256", "Fashion-MNIST": "fashion_256"}
"""the smallest ensemble of each family whose sizes are compared"""
SMALLEST = FAMILIES["digits"]
"""the one on which ablation and retraining are compared"""

Numbers = dict[str, object]


def _ends(values: dict, before: str = "") -> Numbers:
    """The first and the last of some numbers, in the order of training set size or of the numbers
    themselves, and what they are numbers of."""
    sets = list(values)
    small, large = sets[0], sets[-1]
    ends = {"small_set": small, "small": values[small], "large_set": large, "large": values[large]}
    return {before + name: value for name, value in ends.items()}


def _range(values: dict[str, float]) -> Numbers | None:
    """The lowest and the highest number of an ensemble, if there are any."""
    return _ends(dict(sorted(values.items(), key=lambda item: item[1]))) if values else None


def _along_sizes(
    measure: Callable[[Recipe, Here], Numbers | None], key: str, here: Here
) -> Numbers:
    """One of an ensemble's numbers on the smallest and the largest set of each family of which
    three sizes or more have it, and how it goes along with size (Spearman); no parts without the
    digits."""
    parts = {}
    for family, first in FAMILIES.items():
        values = {}
        for recipe in map(get_recipe, family_of(first)):
            if numbers := measure(recipe, here):
                values[recipe.data.size] = numbers[key]
        if len(values) > 2:
            trend = stats.spearmanr(list(values), list(values.values())).statistic
            parts[family] = {"family": family, "trend": float(trend), **_ends(values)}
    return {"parts": list(parts.values()) if "digits" in parts else []}


def _images(recipe: Recipe):
    """A recipe's training set; None where it would be downloaded: no claim is a reason for that."""
    data = recipe.data
    return training_set(data) if available(data.family, data.split) else None


def _rows(values, indices: Iterable[int]) -> list[int]:
    """Where samples with these numbers stand among those of landscapes or predictions."""
    place = {int(index): row for row, index in enumerate(values.indices)}
    return [place[int(index)] for index in indices]


# --- section 3.1, appendix C.1 ---


def _fids(here: Here) -> pd.DataFrame:
    names = [*family_of("digits_64"), *family_of("mnist_256")]
    table = fids.table(fid for name in names for fid in fids.stored(get_recipe(name), here))
    table = table.dropna(subset=["fid_ensemble", "fid_single"])
    # one number of samples, that of most ensembles: distances fall with it
    return table[table["samples"] == table["samples"].mode().max()] if len(table) else table


def viable(here: Here) -> Numbers | None:
    """The FID of ensembles over that of their single models, ours and the paper's."""
    table = _fids(here)
    published = paper.fids()
    numbers = {"ensembles": len(table)}
    for before, ratios in (
        ("", table["fid_ensemble"] / table["fid_single"]),
        ("paper_", published["ensemble_fid"] / published["single_model_fid"]),
    ):
        numbers[f"{before}ratio"] = ratios.median()
        numbers[f"{before}low"] = ratios.min()
        numbers[f"{before}high"] = ratios.max()
    return numbers if len(table) else None


def hurts_then_helps(here: Here) -> Numbers | None:
    """The same ratio on the digits' smallest and largest set, and on the paper's MNIST."""
    table = _fids(here)
    table = table[[name.startswith("digits") for name in table["name"]]]
    if len(table) < 3:
        return None
    curve = fids.paper_fid_curve("mnist")
    ours = dict(zip(table["images"], table["fid_ensemble"] / table["fid_single"]))
    theirs = dict(zip(curve["images"], curve["ensemble"] / curve["single"]))
    return _ends(ours) | _ends(theirs, "paper_")


# --- section 3.2, appendix C.3 ---


def _class_counts(family: str, here: Here) -> list[class_counts.ClassCounts] | None:
    """By ablation and by retraining, if both are at hand."""
    recipe = get_recipe(f"{family}_classes")
    counts = [class_counts.stored(recipe, method, here=here) for method in class_counts.METHODS]
    return None if None in counts else counts


def classes_vanish(here: Here) -> Numbers:
    """How many classes are rarer when they are left out, and which share of them is kept."""
    parts = []
    for family in ("digits", "mnist", "fashion"):
        if counts := _class_counts(family, here):
            parts.append({"name": counts[0].name, "samples": counts[0].samples})
            for way in counts:
                high = way.after + 2 * standard_errors(way.after, way.samples)
                parts[-1][f"by_{way.method}"] = int((high < way.before).sum())
                parts[-1][f"kept_by_{way.method}"] = way.after.sum() / way.before.sum()
    return {"parts": parts}


def pullovers_rise(here: Here) -> Numbers | None:
    """The frequency of pullovers with and without them."""
    counts = _class_counts("fashion", here)
    if counts is None:
        return None
    pullover = class_counts.class_names("fashion").index("pullover")
    ablation, retraining = ((way.before[pullover], way.after[pullover]) for way in counts)
    samples = counts[1].samples
    error = np.hypot(*standard_errors(np.array(retraining), samples))
    return {
        **dict(zip(("before", "after"), retraining)),
        **dict(zip(("before_by_ablation", "after_by_ablation"), ablation)),
        "rise": retraining[1] - retraining[0],
        "error": error,
        "points": 100 * error,
        "samples": samples,
    }


def lists(here: Here) -> Numbers | None:
    """In which share of the samples of digits_64 the top 3 of each method meet the visual top 3,
    beside chance, and in how many the paper's lists meet."""
    recipe = get_recipe(SMALLEST)
    ablation = landscapes.stored(recipe, here)
    retrained = retraining.stored(recipe, here=here)
    derivatives = jacobians.stored(recipe, here)
    if ablation is None or retrained is None or derivatives is None:
        return None
    predicted = predicted_landscapes(derivatives, draw_codebook(recipe))
    numbers = {}
    for name, way, sampled in (
        ("ablation", ablation, ablation),
        ("retraining", retrained, retrained),
        ("differential", predicted, ablation),
    ):
        both = [index for index in way.indices if index in sampled.indices]
        looks = visual_distances(sampled.factual[_rows(sampled, both)], _images(recipe))
        met = top_k_intersections(looks, way.distances[_rows(way, both)], 3)
        numbers[name] = met.count / met.samples
        numbers[f"{name}_error"] = float(standard_errors(numbers[name], met.samples))
        numbers["chance"] = met.chance
    gap = numbers["retraining"] - numbers["ablation"]
    error = np.hypot(numbers["ablation_error"], numbers["retraining_error"])
    theirs = {way: met["euclidean"] for way, met in paper.intersections("mnist_384").items()}
    return numbers | {
        **{f"paper_{way}": count for way, count in theirs.items()},
        "paper_gap_points": 100 * ((theirs["retraining"] - theirs["ablation"]) / 1024),
        "paper_ratio": theirs["differential"] / theirs["ablation"],
        "gap_points": 100 * gap,
        "apart": abs(gap) / error,
        "ratio": numbers["differential"] / numbers["ablation"],
    }


def looks_alike(here: Here) -> Numbers | None:
    """How little the image whose removal matters most looks like the sample, by method: mean
    ranks."""
    recipe = get_recipe(SMALLEST)
    ways = {"ablation": landscapes.stored(recipe, here)}
    ways["retraining"] = retraining.stored(recipe, here=here)
    if None in ways.values():
        return None
    numbers = {}
    for name, way in ways.items():
        both, _, (distances, _) = in_common([way, ways["retraining"]])
        looks = visual_distances(way.factual[_rows(way, both)], _images(recipe))
        numbers[name] = visual_similarity_ranks(looks, top_counterfactual(distances)[:, 0]).mean()
    return numbers


def _looks(recipe: Recipe, here: Here) -> Numbers | None:
    """Over the samples with landscape and Jacobian, the median rank in looks of the source that
    each of the two names."""
    exact = landscapes.stored(recipe, here)
    derivatives = jacobians.stored(recipe, here)
    images = _images(recipe)
    if exact is None or derivatives is None or images is None:
        return None
    both = [int(index) for index in exact.indices if index in derivatives.indices]
    looks = visual_distances(exact.factual[_rows(exact, both)], images)
    numbers = {"samples": len(both)}
    for name, distances in (
        ("ablation", exact.distances[_rows(exact, both)]),
        ("differential", derivatives.only(both).landscape(draw_codebook(recipe))),
    ):
        ranks = visual_similarity_ranks(looks, top_counterfactual(distances)[:, 0])
        numbers[name] = float(np.median(ranks))
    return numbers


def predicted_looks_alike(here: Here) -> Numbers | None:
    """These ranks on digits_64."""
    return _looks(get_recipe(SMALLEST), here)


# --- sections 3.3 and 3.4, appendices C.4 and C.5 ---


def prediction_diverges(here: Here) -> Numbers:
    """These ranks by differential ablation, along training set size."""
    return _along_sizes(_looks, "differential", here)


def _nearest(recipe: Recipe, here: Here) -> Numbers | None:
    """Of counterfactuals without the training image nearest to the sample, the mean distance rank
    and the median distance."""
    exact = landscapes.stored(recipe, here)
    images = _images(recipe)
    if exact is None or images is None:
        return None
    nearest = top_visual(visual_distances(exact.factual, images))
    return {
        "rank": float(counterfactual_distance_ranks(exact.distances, nearest[:, 0]).mean()),
        "distance": float(np.median(np.take_along_axis(exact.distances, nearest, axis=1))),
    }


def distance_diverges(here: Here) -> Numbers:
    """These ranks, along training set size."""
    return _along_sizes(_nearest, "rank", here)


def nearest_hardly_matters(here: Here) -> Numbers:
    """These distances, along training set size."""
    return _along_sizes(_nearest, "distance", here)


# --- sections 3.5 and 3.6, appendix C.6 ---


def truly_unattributable(here: Here) -> Numbers:
    """How many samples of binarised images are unattributable, with a 95% interval."""
    parts = []
    for name in ("mnist_binary_190", "digits_binary_190"):
        searched = unattributable.stored(get_recipe(name), here=here)
        if searched is not None:
            part = {"name": searched.name, "samples": len(searched)}
            part["unattributable"] = len(searched.indices)
            part["share"] = part["unattributable"] / part["samples"]
            part["low"], part["high"] = searched.interval()
            parts.append(part)
    return {"parts": parts}


def never_exactly(here: Here) -> Numbers | None:
    """How many radii of continuous samples are zero."""
    groups = radii.of_all(here=here)
    if not groups:
        return None
    values = np.concatenate(list(groups.values()))
    numbers = {"zeros": int((values == 0).sum()), "samples": len(values)}
    return numbers | {"ensembles": len(groups), "smallest": values.min()}


def _families(here: Here) -> dict[str, dict[str, np.ndarray]]:
    """Radii by family and ensemble, where three sizes or more are at hand; none without the
    digits."""
    families = {word: radii.of_family(get_recipe(name), here) for word, name in FAMILIES.items()}
    families = {word: groups for word, groups in families.items() if len(groups) > 2}
    return families if "digits" in families else {}


def nearly_unattributable(here: Here) -> Numbers:
    """Which share of the samples of an ensemble has a radius below the median of its family."""
    parts = []
    for groups in _families(here).values():
        tau = float(np.median(np.concatenate(list(groups.values()))))
        shares = {name: float((values < tau).mean()) for name, values in groups.items()}
        parts.append({"tau": tau, **_ends(shares)})
    return {"parts": parts}


def laws(here: Here) -> Numbers:
    """Lines through mean log10 radius over log10 training set size, of each family, of all and of
    the paper's ensembles, and the radius that they give for 10^8 images."""
    groups = {word: radii.summaries(groups) for word, groups in _families(here).items()}
    every = radii.summaries(radii.of_all(here=here))
    lines = {word: fit_law(group) for word, group in groups.items()}
    theirs = fit_law(radii.paper_summaries())
    return {
        "parts": [{"family": word, **_line(law)} for word, law in lines.items()],
        "all_slope": fit_law(every).slope if lines else None,
        "all_ensembles": len(every),
        **{f"paper_{name}": value for name, value in _line(theirs).items()},
    }


def _line(law) -> Numbers:
    return {**asdict(law), "far": law.radius_at(1e8)}


def falls_in_other_metrics(here: Here) -> Numbers | None:
    """The line through the digits' radii by a classifier's features."""
    classifier = find_classifier("digits", here=here)
    stored = {name: landscapes.stored(get_recipe(name), here) for name in family_of(SMALLEST)}
    stored = {name: exact for name, exact in stored.items() if exact is not None}
    if classifier is None or len(stored) < 3:
        return None
    metric = classifier_metric(classifier)
    groups = {name: landscapes.kept_radii(exact, metric) for name, exact in stored.items()}
    return _line(fit_law(radii.summaries(groups)))


# --- appendices A and C.2 ---


def ranks_predicted(here: Here) -> Numbers | None:
    """The median over samples of the rank correlation of predicted with exact distances."""
    medians = {}
    for name, both in stored_predictions(here=here).items():
        medians[name] = float(np.nanmedian(rank_correlations(both.predicted, both.exact)))
    return _range(medians)


def pixels_predicted(here: Here) -> Numbers | None:
    """The median over counterfactuals of the correlation of predicted with exact changes."""
    medians = {}
    for name in [*family_of("digits_64"), *family_of("mnist_256")]:
        if stored := comparisons.stored(get_recipe(name), here):
            values = [comparison.pixel_correlations.ravel() for comparison in stored]
            medians[name] = float(np.nanmedian(np.concatenate(values)))
    return _range(medians)


def few_members(here: Here) -> Numbers:
    """How many members suffice for so many sources; arithmetic."""
    sizes = (384, 1024, 50_000)
    return {"parts": [{"sources": N, "members": smallest_sufficient_n(N)} for N in sizes]}


def linear_time(here: Here) -> Numbers | None:
    """The powers of sources, members and pixels that were fitted to measured times."""
    comparisons = (read_benchmarks() or {"comparisons": {}})["comparisons"]
    fits = [part.get("fit", {}) for part in comparisons.values() if isinstance(part, dict)]
    return next((fit["exponents"] for fit in fits if "exponents" in fit), None)
