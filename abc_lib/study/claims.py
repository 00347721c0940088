"""The paper's claims, each beside what the published results of this repository say to it.

Every row is worked out from artefacts that are at hand; nothing is trained or sampled for it. A
claim that cannot be held against anything here says what it needs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import stats

from abc_lib.ground.paper import paper_fids, paper_intersections
from abc_lib.ground.store import Store
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
from abc_lib.method.radius import Law, fit_law
from abc_lib.metrics.visual import visual_distances
from abc_lib.results.agreement import in_common, predicted_landscapes
from abc_lib.results.class_counts import (
    METHODS,
    ClassCounts,
    class_names,
    find_class_counts,
    standard_errors,
)
from abc_lib.results.fids import fid_table, paper_fid_curve, stored_fids
from abc_lib.results.landscapes import kept_radii
from abc_lib.results.radii import all_radii, family_radii, paper_summaries, summarise_all
from abc_lib.results.retraining import find_retraining_landscapes
from abc_lib.results.run import (
    stored_comparisons,
    stored_jacobians,
    stored_landscapes,
    stored_predictions,
)
from abc_lib.results.unattributable import stored_unattributable
from abc_lib.study.speed import read_benchmarks
from abc_lib.training.classifier.values import classifier_metric, find_classifier

YES, PARTLY, NO, OPEN = "agrees", "agrees in part", "disagrees", "not run"
_SMALLEST = "digits_64"
"""the set on which ablation and retraining are compared, and the first of the family along which sizes are"""
_FAMILIES = {_SMALLEST: "digits", "mnist_256": "MNIST", "fashion_256": "Fashion-MNIST"}
"""the first of each family, and what it is called"""


@dataclass(frozen=True)
class Claim:
    """One claim of the paper: where it stands, what it says, what was found here and on what, and the page that shows it."""

    section: str
    claim: str
    paper: str
    ours: str
    verdict: str
    page: str


_CLAIMS: list[tuple[str, str, str, Callable[[Store], tuple[str, str, str] | None], str, str]] = []


def _claim(section: str, claim: str, page: str, needs: str, paper: str = ""):
    """Registers a function that returns the paper's number, ours and the verdict, or None where what it ``needs`` is not at hand.

    ``paper`` is what the paper says where the function does not.
    """

    def register(function):
        _CLAIMS.append((section, claim, page, function, needs, paper or f"stated in {section}"))
        return function

    return register


def claims(store: Store | None = None) -> list[Claim]:
    """All claims, in the paper's order."""
    store, found = store or Store(), []
    _lists.cache_clear()  # what is at hand may have changed
    for section, claim, page, function, needs, word in _CLAIMS:
        paper, ours, verdict = function(store) or (word, f"needs {needs}", OPEN)
        found.append(Claim(section, claim, paper, ours, verdict, page))
    return found


def claims_table(found: list[Claim]) -> pd.DataFrame:
    """A row a claim, as text; the section leads to the page of the book that shows it. The verdict comes early: on a narrow screen the end is out of sight."""
    return pd.DataFrame(
        [
            {
                "section": f'<a href="{c.page}.html">{c.section}</a>',
                "verdict": c.verdict,
                "claim": c.claim,
                "paper": c.paper,
                "here": c.ours,
            }
            for c in found
        ]
    )


def _open(section: str, claim: str, paper: str, page: str, needs: str) -> None:
    """A claim that nothing here can be held against yet."""
    _claim(section, claim, page, needs, paper)(lambda store: None)


def _rows(found, indices) -> list[int]:
    """Where samples with these numbers stand among those of landscapes or predictions."""
    place = {int(index): row for row, index in enumerate(found.indices)}
    return [place[int(index)] for index in indices]


# --- section 3.1, appendix C.1 ---


def _fids(store: Store) -> pd.DataFrame:
    names = [*family_of("digits_64"), *family_of("mnist_256")]
    table = fid_table(each for name in names for each in stored_fids(name, store=store)).dropna(
        subset=["fid_ensemble", "fid_single"]
    )
    # one number of samples, that of most ensembles: distances fall with it
    return table[table["samples"] == table["samples"].mode().max()] if len(table) else table


@_claim(
    "3.1, C.1",
    "Ensembles generate about as well as single models trained on the same data.",
    "00_viability",
    "FIDs of ensembles and single models",
)
def _viable(store):
    table, paper = _fids(store), paper_fids()
    if not len(table):
        return None
    theirs, ours = (
        paper["ensemble_fid"] / paper["single_model_fid"],
        table["fid_ensemble"] / table["fid_single"],
    )
    verdict = YES if theirs.min() <= ours.median() <= theirs.max() else NO
    return (
        f"FID of the ensemble over that of the single model: {theirs.median():.2f} in the median of 23 ({theirs.min():.2f} to {theirs.max():.2f})",
        f"{ours.median():.2f} in the median of {len(ours)} ({ours.min():.2f} to {ours.max():.2f}), on classifier features",
        verdict,
    )


@_claim(
    "3.1, figure 2",
    "Ensembling hurts where the training set is small and helps where it is large.",
    "00_viability",
    "FIDs of ensembles and single models",
)
def _hurts_then_helps(store):
    table = _fids(store)
    table = table[[name.startswith("digits") for name in table["name"]]]
    if len(table) < 3:
        return None
    curve, ours = paper_fid_curve("mnist"), np.log(table["fid_ensemble"] / table["fid_single"])
    theirs = np.log(curve["ensemble"] / curve["single"])
    small, large = float(ours.iloc[0]), float(ours.iloc[-1])
    verdict = YES if small > 0 > large else PARTLY if small > large else NO
    return (
        f"MNIST: {np.exp(theirs.iloc[0]):.2f} times the single model's FID with {curve['images'].iloc[0]} images, {np.exp(theirs.iloc[-1]):.2f} with {curve['images'].iloc[-1]:,}",
        f"digits: {np.exp(small):.2f} times with {table['images'].iloc[0]} images, {np.exp(large):.2f} with {table['images'].iloc[-1]:,}",
        verdict,
    )


# --- section 3.2, appendix C.3 ---


def _class_counts(name: str, store: Store) -> list[ClassCounts] | None:
    """By ablation and by retraining, if both are at hand."""
    counts = [find_class_counts(get_recipe(name), method, store=store) for method in METHODS]
    return None if None in counts else counts


@_claim(
    "3.2, figure 3",
    "Removing a class makes it rarer, by ablation and by retraining alike.",
    "01_abc_vs_rbc",
    "class counts of digits_classes",
)
def _classes_vanish(store):
    found = [
        counts
        for counts in (
            _class_counts(f"{family}_classes", store) for family in ("digits", "mnist", "fashion")
        )
        if counts
    ]
    if not found:
        return None
    parts, verdicts = [], []
    for counts in found:
        kept = [each.after.sum() / each.before.sum() for each in counts]
        rarer = [
            int((each.after + 2 * standard_errors(each.after, each.samples) < each.before).sum())
            for each in counts
        ]
        parts.append(
            f"{counts[0].name}: rarer are {rarer[0]} of 10 classes by ablation, {rarer[1]} by retraining; they keep {kept[0]:.0%} and {kept[1]:.0%} of their frequency "
            f"({counts[0].samples:,} samples)"
        )
        verdicts.append(min(rarer) >= 9 and abs(kept[0] - kept[1]) < 0.1)
    return (
        "bars of figure 3, where one class of Fashion-MNIST is an exception; no numbers are printed",
        "; ".join(parts),
        YES if all(verdicts) else PARTLY,
    )


@_claim(
    "3.2, figure 3",
    "Pullovers become more frequent when retraining leaves them out.",
    "01_abc_vs_rbc_fashion_classes",
    "class counts of fashion_classes",
    "bars of figure 3; no numbers are printed",
)
def _pullovers(store):
    counts = _class_counts("fashion_classes", store)
    if counts is None:
        return None
    k, (ablation, retraining) = class_names("fashion").index("pullover"), counts
    error = np.hypot(
        *(
            standard_errors(share, retraining.samples)
            for share in (retraining.before[k], retraining.after[k])
        )
    )
    rise = retraining.after[k] - retraining.before[k]
    return (
        "bars of figure 3; no numbers are printed",
        f"by retraining {retraining.before[k]:.1%} with them and {retraining.after[k]:.1%} without, ± {100 * error:.1f} points; by ablation {ablation.before[k]:.1%} and {ablation.after[k]:.1%} "
        f"(fashion_classes, {retraining.samples:,} samples)",
        YES if rise > 2 * error else NO if rise < -2 * error else PARTLY,
    )


@lru_cache(maxsize=1)
def _lists(store: Store) -> dict[str, float] | None:
    """By method, in which share of the samples its top 3 meet the visual top 3, and ``chance``; of digits_64. Three claims rest on it."""
    recipe = get_recipe(_SMALLEST)
    ablation, jacobians = (
        stored_landscapes(_SMALLEST, store=store),
        stored_jacobians(_SMALLEST, store=store),
    )
    retraining = find_retraining_landscapes(recipe, store=store)
    if ablation is None or retraining is None or jacobians is None:
        return None
    predicted, images, found = (
        predicted_landscapes(jacobians, draw_codebook(recipe)),
        training_set(recipe.data),
        {},
    )
    for name, each, of in (
        ("ablation", ablation, ablation),
        ("retraining", retraining, retraining),
        ("differential", predicted, ablation),
    ):
        both = [i for i in each.indices if i in of.indices]
        met = top_k_intersections(
            visual_distances(of.factual[_rows(of, both)], images),
            each.distances[_rows(each, both)],
            3,
        )
        share = met.count / met.samples
        found |= {
            name: share,
            f"{name} error": float(standard_errors(share, met.samples)),
            "chance": met.chance,
        }
    return found


@_claim(
    "3.2, table 4",
    "Counterfactual lists meet visual ones more often than chance, by ablation and by retraining.",
    "01_abc_vs_rbc",
    "landscapes of digits_64 by both",
)
def _above_chance(store):
    found, paper = _lists(store), paper_intersections("mnist_384")
    if found is None:
        return None
    above = all(
        found[name] > found["chance"] + 3 * found[f"{name} error"]
        for name in ("ablation", "retraining")
    )
    return (
        f"top 8 of 384 meet in {paper['ablation']['euclidean']} and {paper['retraining']['euclidean']} of 1,024 samples, by chance in 159",
        f"top 3 of 64 (digits) meet in {found['ablation']:.0%} and {found['retraining']:.0%} of the samples, by chance in {found['chance']:.0%}",
        YES if above else NO,
    )


@_claim(
    "3.2, table 4",
    "Ablation and retraining are comparably aligned with visual attribution.",
    "01_abc_vs_rbc",
    "landscapes of digits_64 by both",
)
def _comparable(store):
    found, paper = _lists(store), paper_intersections("mnist_384")
    if found is None:
        return None
    gap = found["retraining"] - found["ablation"]
    apart = abs(gap) / np.hypot(found["ablation error"], found["retraining error"])
    theirs = (paper["retraining"]["euclidean"] - paper["ablation"]["euclidean"]) / 1024
    return (
        f"retraining meets visual lists {100 * theirs:.0f} points more often",
        f"{100 * gap:.0f} points more often, {apart:.1f} standard errors (digits_64)",
        YES if apart < 2 else NO,
    )


@_claim(
    "3.2, table 4",
    "Differential ablation is far closer to visual attribution than ablation is.",
    "01_abc_vs_rbc",
    "landscapes and Jacobians of digits_64",
)
def _differential_lists(store):
    found, paper = _lists(store), paper_intersections("mnist_384")
    if found is None:
        return None
    ratio = found["differential"] / found["ablation"]
    return (
        f"{paper['differential']['euclidean']} of 1,024 against {paper['ablation']['euclidean']}: {paper['differential']['euclidean'] / paper['ablation']['euclidean']:.1f} times as often",
        f"{found['differential']:.0%} against {found['ablation']:.0%} (digits_64): {ratio:.1f} times as often",
        YES if ratio > 2 else PARTLY if ratio > 1.2 else NO,
    )


@_claim(
    "C.3, figure 9",
    "The image whose removal matters most looks like the sample, about alike by ablation and by retraining.",
    "01_abc_vs_rbc",
    "landscapes of digits_64 by both",
)
def _look(store):
    ablation, retraining = (
        stored_landscapes(_SMALLEST, store=store),
        find_retraining_landscapes(get_recipe(_SMALLEST), store=store),
    )
    if ablation is None or retraining is None:
        return None
    images, means = training_set(get_recipe(_SMALLEST).data), []
    for each in (ablation, retraining):
        both, _, (distances, _) = in_common([each, retraining])
        looks = visual_distances(each.factual[_rows(each, both)], images)
        means.append(visual_similarity_ranks(looks, top_counterfactual(distances)[:, 0]).mean())
    return (
        "violins of figure 9; no numbers are printed",
        f"mean visual similarity rank {means[0]:.2f} by ablation, {means[1]:.2f} by retraining; even ranks would have 0.50 (digits_64)",
        YES
        if max(means) < 0.45 and abs(means[0] - means[1]) < 0.1
        else PARTLY
        if max(means) < 0.45
        else NO,
    )


def _looks_and_predictions(name: str, store: Store):
    """Of the samples with landscape and Jacobian: visual distances (S, M) to the training images, exact and predicted counterfactual distances (S, N)."""
    landscapes, jacobians, recipe = (
        stored_landscapes(name, store=store),
        stored_jacobians(name, store=store),
        get_recipe(name),
    )
    if (
        landscapes is None
        or jacobians is None
        or not available(recipe.data.family, recipe.data.split)
    ):
        return None
    both = [int(i) for i in landscapes.indices if i in jacobians.indices]
    rows = _rows(landscapes, both)
    return (
        visual_distances(landscapes.factual[rows], training_set(recipe.data)),
        landscapes.distances[rows],
        jacobians.only(both).landscape(draw_codebook(recipe)),
    )


@_claim(
    "C.3, figure 9",
    "Differential ablation names images that look far more like the sample.",
    "01_abc_vs_rbc",
    "landscapes and Jacobians of digits_64",
)
def _differential_look(store):
    found = _looks_and_predictions(_SMALLEST, store)
    if found is None:
        return None
    looks, *both = found
    ours = [
        float(np.median(visual_similarity_ranks(looks, top_counterfactual(distances)[:, 0])))
        for distances in both
    ]
    return (
        "violins of figure 9; no numbers are printed",
        f"median visual similarity rank {ours[1]:.2f}, by ablation {ours[0]:.2f} (digits_64, {len(looks)} samples)",
        YES if ours[1] < ours[0] / 2 else PARTLY if ours[1] < ours[0] else NO,
    )


_open(
    "C.3, figure 10",
    "Counterfactual attributions by different metrics agree less with each other than visual ones do.",
    "matrices of figure 10",
    "01_abc_vs_rbc",
    "the weights of LPIPS, OpenCLIP and DINOv2, which could not be had where these results were made",
)

# --- sections 3.3 and 3.4, appendices C.4 and C.5 ---


@_claim(
    "3.3, C.4",
    "Images that differential ablation names look like the sample where the training set is small, and less and less as it grows.",
    "04_differential",
    "Jacobians of the digits",
)
def _differential_similarity(store):
    medians, parts = {}, []
    for first, word in _FAMILIES.items():
        here = {}
        for name in family_of(first):
            found = _looks_and_predictions(name, store)
            if found is not None:
                looks, _, predicted = found
                here[get_recipe(name).data.size] = float(
                    np.median(visual_similarity_ranks(looks, top_counterfactual(predicted)[:, 0]))
                )
        if len(here) > 2:
            medians[first] = here
            parts.append(
                f"{word}: median visual similarity rank {here[min(here)]:.2f} with {min(here)} images, {here[max(here)]:.2f} with {max(here):,}"
            )
    if _SMALLEST not in medians:
        return None
    digits = medians[_SMALLEST]
    rho = stats.spearmanr(list(digits), list(digits.values())).statistic
    # the paper's smallest sets have 256 images
    alike = [here[min(here)] < 0.25 for here in medians.values()]
    return (
        "violins of figure 4; the text counts MNIST_256 among the sets where they do",
        "; ".join(parts) + "; even ranks have 0.50",
        YES if all(alike) and rho > 0.5 else PARTLY if any(alike) and rho > 0 else NO,
    )


def _nearest(store: Store, first: str = _SMALLEST) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """By training set size: landscapes (S, N) of a family, and the source whose training image lies nearest to each sample (S,).

    A family whose images are not on this machine is left out: a table of claims is no reason to download them.
    """
    found = {}
    for name in family_of(first):
        landscapes, recipe = stored_landscapes(name, store=store), get_recipe(name)
        if landscapes is not None and available(recipe.data.family, recipe.data.split):
            found[recipe.data.size] = (
                landscapes.distances,
                top_visual(visual_distances(landscapes.factual, training_set(recipe.data)))[:, 0],
            )
    return found


@_claim(
    "3.4, C.5",
    "The counterfactual without the nearest image lies far where the training set is small; its rank becomes even as it grows.",
    "02_divergence",
    "landscapes of the digits",
)
def _divergence(store):
    means, parts = {}, []
    for first, word in _FAMILIES.items():
        here = {
            size: float(counterfactual_distance_ranks(distances, nearest).mean())
            for size, (distances, nearest) in _nearest(store, first).items()
        }
        if len(here) > 2:
            means[first] = here
            parts.append(
                f"{word}: mean rank {here[min(here)]:.2f} with {min(here)} images, {here[max(here)]:.2f} with {max(here):,}"
            )
    if _SMALLEST not in means:
        return None
    fell = [here[min(here)] > 0.6 and here[max(here)] < here[min(here)] for here in means.values()]
    digits = means[_SMALLEST]
    return (
        "strips of figure 5; no numbers are printed",
        "; ".join(parts) + "; even ranks have 0.50",
        YES if all(fell) and abs(digits[max(digits)] - 0.5) < 0.1 else PARTLY if any(fell) else NO,
    )


@_claim(
    "3.4, figure 5",
    "Where the training set is large, the sample hardly changes when the training image nearest to it is taken away.",
    "02_divergence",
    "landscapes of the digits",
)
def _nearest_removed(store):
    parts, halved = [], []
    for first, word in _FAMILIES.items():
        moved = {
            size: float(np.median(distances[np.arange(len(nearest)), nearest]))
            for size, (distances, nearest) in _nearest(store, first).items()
        }
        if len(moved) > 2:
            parts.append(
                f"{word}: median distance {moved[min(moved)]:.1f} with {min(moved)} images, {moved[max(moved)]:.1f} with {max(moved):,}"
            )
            # half as far where there are four times as many images, or more so
            halved.append(moved[max(moved)] / moved[min(moved)] < (max(moved) / min(moved)) ** -0.5)
    if not parts:
        return None
    return (
        "images of figure 5; no numbers are printed",
        "; ".join(parts),
        YES if all(halved) else PARTLY if any(halved) else NO,
    )


_open(
    "C.4, C.5",
    "The same by LPIPS, OpenCLIP and DINOv2.",
    "figures 11 and 12",
    "02_divergence",
    "the weights of those networks, which could not be had where these results were made",
)

# --- sections 3.5 and 3.6, appendix C.6 ---


@_claim(
    "3.5, figure 6",
    "Truly unattributable samples exist where samples are discrete.",
    "05_unattributable",
    "unattributable samples of digits_binary_190 or mnist_binary_190",
)
def _truly(store):
    found = [
        each
        for each in (
            stored_unattributable(name, store=store)
            for name in ("mnist_binary_190", "digits_binary_190")
        )
        if each is not None
    ]
    if not found:
        return None
    parts = []
    for each in found:
        low, high = each.interval()
        parts.append(
            f"{len(each.indices):,} of {len(each):,} ({len(each.indices) / len(each):.1%}, {low:.1%} to {high:.1%}; {each.name})"
        )
    return (
        "14 of 3,731 samples (0.4%) of binarised MNIST",
        "; ".join(parts),
        YES if any(len(each.indices) for each in found) else NO,
    )


@_claim(
    "3.5",
    "Where samples are continuous, true unattributable samples are unlikely.",
    "05_unattributable",
    "landscapes of continuous ensembles",
)
def _never_exactly(store):
    radii = all_radii(store=store)
    if not radii:
        return None
    every = np.concatenate(list(radii.values()))
    return (
        "stated",
        f"{int((every == 0).sum())} of {len(every):,} samples of {len(radii)} ensembles; the smallest radius is {every.min():.2g}",
        YES if (every > 0).mean() > 0.99 else NO,
    )


def _radii(store: Store) -> dict[str, dict[str, np.ndarray]] | None:
    """Radii of the families of which three sizes or more are at hand, by the family's word and ensemble; None without the digits."""
    found = {word: family_radii(first, store=store) for first, word in _FAMILIES.items()}
    found = {word: radii for word, radii in found.items() if len(radii) > 2}
    return found if _FAMILIES[_SMALLEST] in found else None


def _laws(store: Store) -> dict[str, Law] | None:
    """Lines through those families, by word."""
    families = _radii(store)
    return families and {word: fit_law(summarise_all(radii)) for word, radii in families.items()}


@_claim(
    "3.5",
    "Nearly unattributable samples become more frequent as training sets grow.",
    "05_unattributable",
    "landscapes of the digits",
)
def _nearly(store):
    families, parts, more = _radii(store), [], []
    if families is None:
        return None
    for word, radii in families.items():
        tau, names = float(np.median(np.concatenate(list(radii.values())))), list(radii)
        shares = [float((each < tau).mean()) for each in radii.values()]
        parts.append(
            f"radius below {tau:.0f}: {shares[0]:.0%} of the samples of {names[0]}, {shares[-1]:.0%} of {names[-1]}"
        )
        more.append(shares[-1] > shares[0])
    return (
        "stated; figure 6 shows samples",
        "; ".join(parts),
        YES if all(more) else PARTLY if any(more) else NO,
    )


@_claim(
    "3.6, figure 7",
    "Mean log10 radius falls with log10 training set size.",
    "03_radius",
    "landscapes of the digits",
)
def _law(store):
    laws, paper = _laws(store), fit_law(paper_summaries())
    if laws is None:
        return None
    return (
        f"slope {paper.slope:.3f}, R² {paper.r2:.2f}, p = {paper.p:.1g}, 23 ensembles",
        "; ".join(
            f"{word}: slope {law.slope:.3f}, R² {law.r2:.2f}, p = {law.p:.1g}, {law.ensembles} ensembles"
            for word, law in laws.items()
        )
        + "; all of a kind trained for the same number of steps",
        YES
        if all(law.slope < 0 for law in laws.values())
        and min(law.p for law in laws.values()) < 0.05
        else PARTLY
        if any(law.slope < 0 for law in laws.values())
        else NO,
    )


@_claim("3.6, figure 7", "The slope is about -0.20.", "03_radius", "landscapes of the digits")
def _slope(store):
    laws, paper = _laws(store), fit_law(paper_summaries())
    if laws is None:
        return None
    every = summarise_all(all_radii(store=store))
    near = [abs(law.slope - paper.slope) < law.wide for law in laws.values()]
    return (
        f"{paper.slope:.3f} over seven kinds of images",
        "; ".join(f"{word}: {law.slope:.3f} ± {law.wide:.3f} (95%)" for word, law in laws.items())
        + f"; {fit_law(every).slope:.3f} over all {len(every)} ensembles",
        YES if all(near) else PARTLY if any(near) else NO,
    )


@_claim(
    "3.6",
    "Extrapolated to 10⁸ images, the radius is about 7.",
    "03_radius",
    "landscapes of the digits",
)
def _far(store):
    laws, paper = _laws(store), fit_law(paper_summaries())
    if laws is None:
        return None
    near = [abs(np.log2(law.radius_at(1e8) / 7)) < 1 for law in laws.values()]
    return (
        f"{paper.radius_at(1e8):.1f} from the published radii",
        "; ".join(f"{law.radius_at(1e8):.2g} from the line of {word}" for word, law in laws.items())
        + ", five decades beyond their data",
        YES if all(near) else PARTLY if any(near) else NO,
    )


@_claim(
    "C.6, figure 14",
    "The radius falls in other metrics too, less surely.",
    "05_unattributable",
    "landscapes of the digits and their classifier",
)
def _other_metrics(store):
    classifier, found = (
        find_classifier("digits", store=store),
        {name: stored_landscapes(name, store=store) for name in family_of(_SMALLEST)},
    )
    found = {name: each for name, each in found.items() if each is not None}
    if classifier is None or len(found) < 3:
        return None
    metric = classifier_metric(classifier)
    law = fit_law(summarise_all({name: kept_radii(each, metric) for name, each in found.items()}))
    return (
        "p = 0.02 (LPIPS), 0.0002 (OpenCLIP), 0.06 (DINOv2), 0.14 (DINO Patch)",
        f"slope {law.slope:.2f}, p = {law.p:.1g} by a classifier's features, farthest of eight counterfactuals (digits); LPIPS, OpenCLIP and DINOv2 not run, their weights could not be had",
        PARTLY if law.slope < 0 else NO,
    )


# --- appendices A and C.2 ---


@_claim(
    "C.2, figure 8",
    "Distances predicted by differential ablation rank counterfactuals nearly as exact ones do.",
    "04_differential",
    "landscapes and Jacobians",
)
def _ranks(store):
    found = stored_predictions(store=store)
    if not found:
        return None
    medians = {
        name: float(np.nanmedian(rank_correlations(each.predicted, each.exact)))
        for name, each in found.items()
    }
    low, high = min(medians, key=medians.get), max(medians, key=medians.get)
    return (
        "strips of figure 8; no numbers are printed",
        f"median rank correlation {medians[low]:.2f} ({low}) to {medians[high]:.2f} ({high})",
        YES if medians[low] > 0.5 else PARTLY,
    )


@_claim(
    "C.2, figure 8",
    "The predicted change of each counterfactual is the exact one, pixel for pixel, nearly.",
    "04_differential",
    "comparisons of exact and predicted counterfactuals",
)
def _pixels(store):
    medians = {}
    for name in [*family_of("digits_64"), *family_of("mnist_256")]:
        if stored := stored_comparisons(name, store=store):
            medians[name] = float(
                np.nanmedian(np.concatenate([each.pixel_correlations.ravel() for each in stored]))
            )
    if not medians:
        return None
    low, high = min(medians, key=medians.get), max(medians, key=medians.get)
    return (
        "violins of figure 8; no numbers are printed",
        f"median correlation over pixels {medians[low]:.3f} ({low}) to {medians[high]:.3f} ({high})",
        YES if medians[low] > 0.9 else PARTLY,
    )


@_claim("A.2", "O(log N) members suffice for N data sources.", "method", "nothing")
def _members(store):
    sizes = (384, 1024, 50_000)
    numbers = [smallest_sufficient_n(size) for size in sizes]
    return (
        "proved",
        "; ".join(f"{n} members for {size:,} sources" for n, size in zip(numbers, sizes)),
        YES if numbers[-1] <= 2 * np.log2(sizes[-1]) else NO,
    )


@_claim(
    "A.3",
    "A landscape takes time in proportion to sources, members and pixels.",
    "speed",
    "`make bench`",
)
def _time(store):
    benchmarks = read_benchmarks()
    fit = next(
        (
            part["fit"]
            for part in (benchmarks or {"comparisons": {}})["comparisons"].values()
            if isinstance(part, dict) and "exponents" in part.get("fit", {})
        ),
        None,
    )
    if fit is None:
        return None
    powers = fit["exponents"]
    return (
        "powers of 1",
        f"measured powers {powers['N']:.2f}, {powers['n']:.2f}, {powers['pixels']:.2f}",
        YES if all(abs(power - 1) < 0.15 for power in powers.values()) else PARTLY,
    )
