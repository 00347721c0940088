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
from abc_lib.results.measures import looks as kept_looks
from abc_lib.results.measures import radii
from abc_lib.results.measures.agreement import in_common, predicted_landscapes
from abc_lib.results.run import stored_predictions
from abc_lib.study import exposures
from abc_lib.study.exposures import law
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


def _mean(values: np.ndarray) -> tuple[float, float]:
    """A mean and its standard error."""
    return float(np.mean(values)), float(stats.sem(values))


def _along_sizes(measure: Callable[[Recipe, Here], Numbers | None], here: Here) -> Numbers:
    """A number a sample, on the smallest and the largest set of each family of which three sizes or
    more have it: means, standard errors, and how far the mean rises; no parts without the digits.
    """
    parts = {}
    for family, first in FAMILIES.items():
        values = {}
        for recipe in map(get_recipe, family_of(first)):
            if (numbers := measure(recipe, here)) is not None:
                values[recipe.data.size] = numbers
        if len(values) > 2:
            ends = _ends(values)
            small, small_error = _mean(ends["small"])
            large, large_error = _mean(ends["large"])
            parts[family] = {"family": family, **ends, "small": small, "large": large} | {
                "small_error": small_error,
                "rise": large - small,
                "rise_error": float(np.hypot(small_error, large_error)),
                "fall": small - large,
                "fall_error": float(np.hypot(small_error, large_error)),
            }
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
    if len(table) < 3:
        return None
    logs = np.log(table["fid_ensemble"] / table["fid_single"])
    mean, error = _mean(logs.to_numpy())
    return numbers | {
        "mean": mean,
        "wide": float(stats.t.ppf(0.975, len(logs) - 1)) * error,
        "factor": float(np.exp(mean)),
        "times": float(np.exp(stats.t.ppf(0.975, len(logs) - 1) * error)),
    }


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
    error = float(np.hypot(numbers["ablation_error"], numbers["retraining_error"]))
    theirs = {way: met["euclidean"] for way, met in paper.intersections("mnist_384").items()}
    return numbers | {
        **{f"paper_{way}": count for way, count in theirs.items()},
        "paper_gap_points": 100 * ((theirs["retraining"] - theirs["ablation"]) / 1024),
        "gap": gap,
        "error": error,
        "gap_points": 100 * gap,
        "error_points": 100 * error,
    }


def predicted_lists(here: Here) -> Numbers:
    """On each set of digits, in which share of the samples the top 3 by derivatives and by ablation
    meet the visual top 3, and their difference with its standard error."""
    parts = []
    for name in family_of(SMALLEST):
        ways = _both_ways(get_recipe(name), here)
        if ways is None:
            continue
        looks, exact, derived = ways
        met = {
            "ablation": top_k_intersections(looks, exact, 3),
            "differential": top_k_intersections(looks, derived, 3),
        }
        part = {"name": name, "samples": len(looks)}
        part |= {way: found.count / found.samples for way, found in met.items()}
        errors = [float(standard_errors(part[way], len(looks))) for way in met]
        part["gain"] = part["differential"] - part["ablation"]
        part["error"] = float(np.hypot(*errors))
        parts.append(part)
    theirs = {way: met["euclidean"] for way, met in paper.intersections("mnist_384").items()}
    return {
        "parts": parts,
        **{f"paper_{way}": count for way, count in theirs.items()},
        "paper_ratio": theirs["differential"] / theirs["ablation"],
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
        ranks = visual_similarity_ranks(looks, top_counterfactual(distances)[:, 0])
        numbers[name], numbers[f"{name}_error"] = _mean(ranks)
    return numbers


def _both_ways(recipe: Recipe, here: Here) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Of the samples with landscape and Jacobian, distances (S, N) in looks, exact and derived."""
    exact = landscapes.stored(recipe, here)
    derivatives = jacobians.stored(recipe, here)
    images = _images(recipe)
    if exact is None or derivatives is None or images is None:
        return None
    both = [int(index) for index in exact.indices if index in derivatives.indices]
    rows = _rows(exact, both)
    derived = derivatives.only(both).landscape(draw_codebook(recipe))
    return visual_distances(exact.factual[rows], images), exact.distances[rows], derived


def _ranks(recipe: Recipe, here: Here) -> tuple[np.ndarray, np.ndarray] | None:
    """Of these samples, the ranks (S,) in looks of the source that ablation names, and of the one
    that derivatives name."""
    ways = _both_ways(recipe, here)
    if ways is None:
        return None
    looks, *distances = ways
    tops = [top_counterfactual(each)[:, 0] for each in distances]
    exact, derived = (visual_similarity_ranks(looks, top) for top in tops)
    return exact, derived


def predicted_looks_alike(here: Here) -> Numbers:
    """These mean ranks on each set of digits, and their difference, paired over samples."""
    parts = []
    for name in family_of(SMALLEST):
        ranks = _ranks(get_recipe(name), here)
        if ranks is not None:
            lower, error = _mean(ranks[0] - ranks[1])
            means = {"ablation": ranks[0].mean(), "differential": ranks[1].mean()}
            parts.append({"name": name, "samples": len(ranks[0]), **means})
            parts[-1] |= {"lower": lower, "error": error}
    return {"parts": parts}


# --- sections 3.3 and 3.4, appendices C.4 and C.5 ---


def prediction_diverges(here: Here) -> Numbers:
    """These ranks by differential ablation, along training set size."""

    def by_derivatives(recipe: Recipe, here: Here) -> np.ndarray | None:
        ranks = _ranks(recipe, here)
        return None if ranks is None else ranks[1]

    return _along_sizes(by_derivatives, here)


def _nearest(recipe: Recipe, here: Here) -> tuple[np.ndarray, np.ndarray] | None:
    """Of counterfactuals without the training image nearest to the sample, distance ranks and
    distances, (S,) each."""
    exact = landscapes.stored(recipe, here)
    images = _images(recipe)
    if exact is None or images is None:
        return None
    nearest = top_visual(visual_distances(exact.factual, images))
    ranks = counterfactual_distance_ranks(exact.distances, nearest[:, 0])
    return ranks, np.take_along_axis(exact.distances, nearest, axis=1)[:, 0]


def distance_diverges(here: Here) -> Numbers:
    """These ranks, along training set size."""

    def ranks(recipe: Recipe, here: Here) -> np.ndarray | None:
        found = _nearest(recipe, here)
        return None if found is None else found[0]

    return _along_sizes(ranks, here)


_METRIC_WORDS = {
    "euclidean": "Euclidean",
    "classifier": "trained classifier",
    "imagenet": "ImageNet layers",
    "imagenet-pooled": "ImageNet pooled",
}


def metrics_disagree(here: Here) -> Numbers | None:
    """In which share of the samples of digits_64 the top 3 by two metrics meet, mean over pairs of
    metrics, for visual and for counterfactual lists, and by how much less the latter do."""
    found = kept_looks.stored(get_recipe(SMALLEST), here)
    if found is None or not found.farthest.shape[1] or len(found.metrics) < 2:
        return None
    samples = found.farthest.shape[1]
    met = {}
    for kind, tops in (("visual", found.nearest), ("counterfactual", found.farthest)):
        tops = tops[:, :samples, :3]
        pairs = [
            (tops[a][:, :, None] == tops[b][:, None]).any(axis=(1, 2))
            for a in range(len(tops))
            for b in range(a)
        ]
        met[kind] = np.mean(pairs, axis=0)
    lower, error = _mean(met["visual"] - met["counterfactual"])
    words = ", ".join(_METRIC_WORDS.get(name, name) for name in found.metrics)
    numbers = {kind: float(share.mean()) for kind, share in met.items()}
    return numbers | {"lower": lower, "error": error, "samples": samples, "words": words}


def same_by_other_metrics(here: Here) -> Numbers:
    """On the smallest and the largest set of digits, by each metric: the mean rank of looks of the
    source that derivatives name (C.4), and the mean distance rank without the nearest (C.5)."""
    sets = {name: kept_looks.stored(get_recipe(name), here) for name in family_of(SMALLEST)}
    ends = [sets[name] for name in (list(sets)[0], list(sets)[-1])]
    if None in ends or ends[0].metrics != ends[1].metrics:
        return {"parts": []}
    parts = []
    for m, metric in enumerate(ends[0].metrics):
        ranks = [end.by_derivatives[m][np.isfinite(end.by_derivatives[m])] for end in ends]
        (small, small_error), (large, large_error) = map(_mean, ranks)
        (near, near_error), (far, far_error) = (_mean(end.moved[m]) for end in ends)
        part = {"metric": _METRIC_WORDS.get(metric, metric), "by_euclidean": metric == "euclidean"}
        part |= {"small": small, "small_error": small_error, "large": large}
        part |= {"rise": large - small, "rise_error": float(np.hypot(small_error, large_error))}
        part |= {"near": near, "near_error": near_error, "far": far}
        part |= {"fall": near - far, "fall_error": float(np.hypot(near_error, far_error))}
        parts.append(part)
    sizes = [get_recipe(end.name).data.size for end in ends]
    wide = max(part["small_error"] for part in parts)
    return {"parts": parts, "small_set": sizes[0], "large_set": sizes[1], "wide": wide}


def nearest_hardly_matters(here: Here) -> Numbers:
    """By how much faster than one over the root of the number of images their median falls, in
    log10, with a bootstrap standard error over samples."""
    parts, rng = [], np.random.default_rng(0)
    for family, first in FAMILIES.items():
        values = {}
        for recipe in map(get_recipe, family_of(first)):
            if (found := _nearest(recipe, here)) is not None:
                values[recipe.data.size] = found[1]
        if len(values) > 2:
            ends = _ends(values)
            drawn = [
                np.log10(np.median(rng.choice(ends[end], (1000, len(ends[end]))), axis=1))
                for end in ("small", "large")
            ]
            small, large = (float(np.median(ends[end])) for end in ("small", "large"))
            root = 0.5 * np.log10(ends["large_set"] / ends["small_set"])
            parts.append({"family": family, **ends, "small": small, "large": large})
            parts[-1]["faster"] = float(np.log10(small / large) - root)
            parts[-1]["error"] = float((drawn[0] - drawn[1]).std())
    return {"parts": parts if parts and parts[0]["family"] == "digits" else []}


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
    """Which share of the samples of a family's largest set has a radius below the tenth percentile
    of its smallest."""
    parts = []
    for groups in _families(here).values():
        ends = _ends(groups)
        tau = float(np.quantile(ends["small"], 0.1))
        small, large = (float((ends[end] < tau).mean()) for end in ("small", "large"))
        errors = [
            float(standard_errors(share, len(ends[end])))
            for share, end in ((small, "small"), (large, "large"))
        ]
        part = {"tau": tau, **ends, "small": small, "large": large}
        parts.append(part | {"more": large - small, "error": float(np.hypot(*errors))})
    return {"parts": parts}


def laws(here: Here) -> Numbers:
    """Lines through mean log10 radius over log10 training set size, of each family, of all and of
    the paper's ensembles, the radius that they give for 10^8 images, and the exponents of size and
    of exposure where both vary, for radii and for placebo radii."""
    groups = {word: radii.summaries(groups) for word, groups in _families(here).items()}
    every = radii.summaries(radii.of_all(here=here))
    theirs = fit_law(radii.paper_summaries())
    nothing = float("nan")
    numbers = {f"by_{which}{end}": nothing for which in ("size", "exposure") for end in _ENDS}
    numbers |= {"placebo_by_size": nothing}
    if groups:
        measured = exposures.at_hand([SMALLEST], here)
        _, spread = law.spread_of(law.trainings(measured, here))
        real = law.fit_or_none(measured, spread=spread)
        placebo = law.fit_or_none(measured, placebo=True, spread=spread)
        if real is not None and placebo is not None:
            ends = (real.by_size, *real.size_interval, real.by_exposure, *real.exposure_interval)
            numbers = dict(zip(numbers, ends)) | {"placebo_by_size": placebo.by_size}
    return {
        "parts": [{"family": word, **_line(group)} for word, group in groups.items()],
        "all_slope": fit_law(every).slope if groups else None,
        "all_ensembles": len(every),
        **numbers,
        **{f"paper_{name}": value for name, value in asdict(theirs).items()},
        "paper_far": theirs.radius_at(1e8),
    }


_ENDS = ("", "_low", "_high")


def _line(summaries) -> Numbers:
    """A fitted line and the 95% interval of the radius that it gives for 10^8 images."""
    line = fit_law(summaries)
    x = np.log10([summary.size for summary in summaries])
    y = np.array([summary.mean for summary in summaries])
    left = y - line.intercept - line.slope * x
    apart = ((x - x.mean()) ** 2).sum()
    spread = np.sqrt((left**2).sum() / (len(x) - 2) * (1 / len(x) + (8 - x.mean()) ** 2 / apart))
    wide = float(stats.t.ppf(0.975, len(x) - 2) * spread)
    far = line.radius_at(1e8)
    ends = {"far_low": far / 10**wide, "far_high": far * 10**wide}
    return {**asdict(line), "far": far, **ends}


def falls_in_other_metrics(here: Here) -> Numbers | None:
    """The line through the digits' radii by a classifier's features."""
    classifier = find_classifier("digits", here=here)
    stored = {name: landscapes.stored(get_recipe(name), here) for name in family_of(SMALLEST)}
    stored = {name: exact for name, exact in stored.items() if exact is not None}
    if classifier is None or len(stored) < 3:
        return None
    metric = classifier_metric(classifier)
    groups = {name: landscapes.kept_radii(exact, metric) for name, exact in stored.items()}
    return _line(radii.summaries(groups))


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
