"""What a notebook asks for: a named ensemble with its landscapes, wherever they come from."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import AbcError, BadValue, positive_int
from abc_lib.ground.store import Artefact, Store
from abc_lib.images.families.names import REMEDIES
from abc_lib.images.latents import bind
from abc_lib.images.registry import get_recipe, recipe_names
from abc_lib.images.training_set import FOLDERS, available
from abc_lib.method.code import Codebook, draw_codebook
from abc_lib.method.differential import Jacobians
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.landscape import Landscapes
from abc_lib.method.recipe import Recipe
from abc_lib.results.class_counts import (
    METHODS,
    REMOVAL,
    SAMPLES,
    ClassCounts,
    compute_class_counts,
    find_class_counts,
    read_class_counts,
)
from abc_lib.results.comparisons import Comparison, read_comparison
from abc_lib.results.fids import SampleFID
from abc_lib.results.jacobians import merge_jacobians
from abc_lib.results.landscapes import (
    find_landscapes,
    get_landscapes,
    images_to_show,
    merge_landscapes,
    with_attributed_images,
)
from abc_lib.results.retraining import (
    RetrainingLandscapes,
    find_retraining_landscapes,
    retraining_landscapes,
)
from abc_lib.training.classifier.train import get_classifier
from abc_lib.training.members import cached_members, get_ensemble
from abc_lib.training.retrained import get_retrained

DEFAULT_SAMPLES = 12
"""How many samples are computed when nothing is published and nobody says how many."""


@dataclass(frozen=True)
class Run:
    """An ensemble, its landscapes, and how they were come by."""

    recipe: Recipe
    ensemble: Ensemble
    landscapes: Landscapes

    def origin(self) -> str:
        """One paragraph, in Markdown: scale, data, members, hardware, dates, commits."""
        return f"{ensemble_origin(self.ensemble)} {landscapes_origin(self.landscapes)}"


def ensemble_origin(ensemble: Ensemble) -> str:
    """Where an ensemble comes from, in a sentence."""
    recipe, made, code = ensemble.recipe, ensemble.artefact, ensemble.codebook
    trained = made.info.get("trained_on") or [made.provenance["hardware"]]
    commits = made.info.get("trained_from") or [made.provenance["commit"]]
    return (
        f"**{recipe.name}**, scale *{recipe.scale}*: {recipe.data.size:,} images ({made.info['origin']}) from "
        f"{code.num_sources:,} data sources; {code.n} members of weight {code.weight}, each trained for "
        f"{recipe.training.steps:,} steps of batch {recipe.training.batch_size} on {', '.join(trained)} "
        f"({made.info.get('trained_at', made.provenance['time'])[:10]}, commit {', '.join(commits)}); "
        f"the ensemble is {'published with this repository' if made.published else 'from this machine'}."
    )


def published_origin(store: Store | None = None) -> str:
    """Where all that is published comes from, in a sentence."""
    made = [
        json.loads(path.read_text(encoding="utf-8"))["provenance"]
        for path in sorted((store or Store()).published.glob("*/*/manifest.json"))
    ]
    if not made:
        return "Nothing is published here."
    days, commits = sorted({each["time"][:10] for each in made}), {each["commit"] for each in made}
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return (
        f"{len(made)} published result{'s' * (len(made) > 1)}, computed on {', '.join(sorted({each['hardware'] for each in made}))} ({when}), from "
        f"{len(commits)} commit{'s' * (len(commits) > 1)}; the `manifest.json` beside each result under `data/published` names its own."
    )


def _computed(artefact: Artefact, more: str = "") -> str:
    made = artefact.provenance
    return f"computed on {made['hardware']} ({made['time'][:10]}, commit {made['commit']}{more})"


def _made(artefact: Artefact, more: str = "") -> str:
    return f"{'published with this repository' if artefact.published else 'from this machine'}, {_computed(artefact, more)}"


def _took(artefact: Artefact) -> str:
    return _made(artefact, f", {artefact.info['seconds']:,.0f} s")


def landscapes_origin(landscapes: Landscapes) -> str:
    """Where the landscapes' numbers come from, in a sentence."""
    parts = [
        f"{len(a.spec['indices'])} samples with {a.info['num_sources']:,} counterfactuals each, {_took(a)}"
        for a in landscapes.artefacts
    ]
    return "Landscapes: " + "; ".join(parts) + "."


def jacobians_origin(jacobians: Jacobians) -> str:
    """Where the Jacobians come from, in a sentence."""
    return (
        "Jacobians: "
        + "; ".join(f"of {len(a.spec['indices'])} samples, {_took(a)}" for a in jacobians.artefacts)
        + "."
    )


def class_run(
    dataset: str,
    samples: int | None = None,
    seed: int = 0,
    scale: str = "laptop",
    device: str = "auto",
    recompute: bool = False,
    compute: bool = True,
    store: Store | None = None,
    n_jobs: int | None = None,
    progress: bool = True,
) -> list[ClassCounts] | None:
    """How often each class is generated with and without it, by ablation and by retraining (figure 3).

    ``dataset`` is an ensemble whose data sources are classes. Published counts are used if
    there are any, then this machine's; what is missing is computed, models trained first,
    unless ``compute`` is False: then None is returned. ``samples=None`` takes those that
    are there, or the paper's 5,100.
    """
    store = store or Store()
    recipe = get_recipe(dataset, scale)
    look, found = Store(store.cache, None) if recompute else store, []
    for method in METHODS:
        counts = find_class_counts(recipe, method, seed, look)
        if counts is None or (samples is not None and counts.samples != samples):
            if not compute:
                return None
            options = {"n_jobs": n_jobs, "progress": progress}
            classifier = get_classifier(recipe.data.family, scale, store, device, progress=progress)
            model = (
                get_ensemble(recipe, store, device, recompute, **options)
                if method == "ablation"
                else get_retrained(
                    recipe,
                    removed=REMOVAL,
                    store=store,
                    device=device,
                    recompute=recompute,
                    **options,
                )
            )
            counts = read_class_counts(
                compute_class_counts(model, classifier, samples or SAMPLES, seed, store, **options)
            )
        found.append(counts)
    return found


def classes_origin(counts: list[ClassCounts]) -> str:
    """Where the class counts come from, in a sentence."""
    parts = []
    for each in counts:
        what = "weightings of the ensemble" if each.method == "ablation" else "models"
        parts.append(
            f"by {each.method} {each.samples:,} samples for each of {len(each.counts)} {what}, {_computed(each.artefact)}"
        )
    info = counts[0].artefact.info
    return (
        f"**{counts[0].name}**, scale *{counts[0].scale}*: {'; '.join(parts)}. Classes by the {info['classifier']} classifier, "
        f"{info['accuracy']:.1%} right on {info['validation_images']:,} images that did not train it."
    )


def retraining_origin(landscapes: RetrainingLandscapes) -> str:
    """Where the landscapes by retraining come from, in a sentence."""
    (artefact,) = landscapes.artefacts
    info = artefact.info
    what = {"black": "replaced by black ones", "removed": "taken out of the minibatches"}[
        info["removed"]
    ]
    return (
        f"Retraining: {1 + info['left_out']:,} models with the training seed {info['training_seed']}, the left-out images {what}, "
        f"trained together; {len(artefact.spec['indices']):,} samples with "
        f"{info['left_out']:,} of {info['num_sources']:,} counterfactuals each, {_took(artefact)}."
    )


def fids_origin(found: list[SampleFID]) -> str:
    """Where the FIDs come from, in a sentence; one place after another, not one FID after another."""
    places = Counter(_made(each.artefact) for each in found)
    return "FIDs: " + "; ".join(f"{count} {place}" for place, count in places.items()) + "."


def comparisons_origin(comparisons: list[Comparison]) -> str:
    """Where the comparisons of exact and predicted counterfactuals come from, in a sentence."""
    parts = []
    for each in comparisons:
        switched = (
            f", switched after {', '.join(map(str, each.switches))} steps"
            if len(each.switches)
            else ""
        )
        parts.append(
            f"{each.name}, {len(each)} {'sample' if len(each) == 1 else 'samples'} with {len(each.sources):,} counterfactuals each{switched}, {_took(each.artefact)}"
        )
    return "Comparisons: " + "; ".join(parts) + "."


def run(
    dataset: str,
    num_samples: int | None = None,
    seed: int = 0,
    scale: str = "laptop",
    device: str = "auto",
    recompute: bool = False,
    store: Store | None = None,
    n_jobs: int | None = None,
    progress: bool = True,
) -> Run:
    """The ensemble ``dataset`` and the landscapes of its samples 0 .. num_samples - 1.

    Published results are used if there are any, then this machine's, and what is
    missing is computed. ``num_samples=None`` takes all samples that are there, or
    computes 12. ``recompute`` passes over what is published. Raises an
    :class:`AbcError` of one line for a wrong name, scale or device, and for a recipe
    that cannot run here.
    """
    store = store or Store()
    recipe = get_recipe(dataset, scale)
    if num_samples is not None:
        positive_int("num_samples", num_samples)
    ensemble = get_ensemble(recipe, store, device, recompute, n_jobs, progress)
    landscapes = (
        find_landscapes(ensemble, seed, store, recompute=recompute) if num_samples is None else None
    )
    if landscapes is None:
        wanted = DEFAULT_SAMPLES if num_samples is None else num_samples
        landscapes = get_landscapes(
            ensemble, wanted, seed, store, recompute, n_jobs=n_jobs, progress=progress
        )
    if landscapes.attributed_images is None:
        images = images_to_show(recipe)
        landscapes = landscapes if images is None else with_attributed_images(landscapes, images)
    return Run(recipe, ensemble, landscapes)


def _stored(kind: str, dataset: str | Recipe, scale: str, store: Store) -> list[Artefact]:
    """Artefacts of one kind and one ensemble and seed: the published ensemble's, else of the one with most samples."""
    recipe = bind(dataset if isinstance(dataset, Recipe) else get_recipe(dataset, scale), store)
    packed = store.find("ensemble", recipe.label, recipe.model_spec)
    groups: dict[tuple, list[Artefact]] = {}
    model, sampling = digest(recipe.model_spec), spec_of(recipe.sampling)
    for artefact in store.find_all(kind, recipe.label):
        # A variant of a recipe has its name but is another one; so is another way to sample.
        same = (
            artefact.spec["ensemble"] == packed.info["identity"]
            if packed
            else artefact.info.get("model") == model
        )
        exact = "tangent_steps" not in artefact.spec
        if same and exact and artefact.spec["sampling"] == sampling:
            groups.setdefault((artefact.spec["ensemble"], artefact.spec["seed"]), []).append(
                artefact
            )
    return max(
        groups.values(),
        key=lambda artefacts: sum(len(a.spec["indices"]) for a in artefacts),
        default=[],
    )


def stored_landscapes(
    dataset: str | Recipe, scale: str = "laptop", store: Store | None = None
) -> Landscapes | None:
    """Exact landscapes of an ensemble that are published or in the cache, without loading its members.

    If several ensembles of this name were trained, the published one counts, else the
    one with most samples. A recipe in place of a name asks for a variant, as one with
    another training seed.
    """
    return merge_landscapes(_stored("landscape", dataset, scale, store or Store()))


def stored_jacobians(
    dataset: str | Recipe, scale: str = "laptop", store: Store | None = None
) -> Jacobians | None:
    """Jacobians of an ensemble that are published or in the cache, chosen as :func:`stored_landscapes` does."""
    return merge_jacobians(_stored("jacobian", dataset, scale, store or Store()))


def stored_comparisons(
    dataset: str, scale: str = "laptop", store: Store | None = None
) -> list[Comparison]:
    """Comparisons of an ensemble that are published or in the cache, chosen as :func:`stored_landscapes` does.

    Only those over all sources, and each sample once: where it was also compared with switches, that counts.
    """
    found = [
        a
        for a in _stored("comparison", dataset, scale, store or Store())
        if a.spec["sources"] is None
    ]
    parts, seen = [], set()
    for artefact in sorted(found, key=lambda a: -len(a.spec["switches"])):
        rows = [row for row, i in enumerate(artefact.spec["indices"]) if i not in seen]
        if rows:
            seen.update(artefact.spec["indices"])
            parts.append(read_comparison(artefact).only(rows))
    return parts


def retraining_run(
    dataset: str,
    indices: Iterable[int] | None = None,
    training_seed: int | None = None,
    sources: Iterable[int] | None = None,
    removed: str = "black",
    seed: int = 0,
    scale: str = "laptop",
    device: str = "auto",
    recompute: bool = False,
    store: Store | None = None,
    n_jobs: int | None = None,
    progress: bool = True,
) -> RetrainingLandscapes:
    """The landscapes by retraining of an ensemble's recipe: published, this machine's, or computed now, models trained first.

    ``indices`` are samples under ``seed``; None takes all that are at hand, or 12.
    ``sources`` are those left out; None takes those at hand, or all N, which is N + 1
    models to train. Other arguments are those of :func:`train_retrained` and :func:`run`.
    """
    store = store or Store()
    recipe = get_recipe(dataset, scale)
    look = Store(store.cache, None) if recompute else store
    found = find_retraining_landscapes(recipe, training_seed, removed, seed, look)
    wanted = None if indices is None else [int(i) for i in indices]
    if found is not None:
        have, there = set(found.indices.tolist()), set(found.sources.tolist())
        if (wanted is None or set(wanted) <= have) and (sources is None or set(sources) <= there):
            return found.only(wanted, sources)
    models = get_retrained(
        recipe,
        sources,
        training_seed,
        removed,
        store,
        device,
        recompute,
        n_jobs=n_jobs,
        progress=progress,
    )
    return retraining_landscapes(
        models,
        range(DEFAULT_SAMPLES) if wanted is None else wanted,
        seed,
        store,
        n_jobs=n_jobs,
        progress=progress,
    )


@dataclass(frozen=True)
class Predictions:
    """Differential predictions beside exact distances, (S, N) each, of the samples that have both."""

    name: str
    indices: np.ndarray
    predicted: np.ndarray
    exact: np.ndarray


def predictions(landscapes: Landscapes, jacobians: Jacobians, codebook: Codebook) -> Predictions:
    """Matches landscapes and Jacobians of one ensemble by sample; raises :class:`BadValue` where no sample has both."""
    both = [int(i) for i in landscapes.indices if i in set(jacobians.indices.tolist())]
    if landscapes.seed != jacobians.seed or not both:
        raise BadValue(
            f"no sample of {landscapes.name} has both a landscape and a Jacobian; compute them for the same samples and seed"
        )
    rows = [int(np.flatnonzero(landscapes.indices == i)[0]) for i in both]
    return Predictions(
        landscapes.name,
        np.array(both),
        jacobians.only(both).landscape(codebook),
        landscapes.distances[rows],
    )


def stored_predictions(scale: str = "laptop", store: Store | None = None) -> dict[str, Predictions]:
    """:func:`predictions` of every ensemble in the registry that has landscapes and Jacobians at hand, without its members."""
    store, found = store or Store(), {}
    for name in recipe_names():
        landscapes, jacobians = (
            stored_landscapes(name, scale, store),
            stored_jacobians(name, scale, store),
        )
        if landscapes is not None and jacobians is not None and landscapes.seed == jacobians.seed:
            if set(landscapes.indices.tolist()) & set(jacobians.indices.tolist()):
                found[name] = predictions(
                    landscapes, jacobians, draw_codebook(get_recipe(name, scale))
                )
    return found


@dataclass(frozen=True)
class Status:
    """What can be done with a name in the registry on this machine."""

    name: str
    scale: str
    runs: bool
    note: str


def status(name: str, scale: str = "laptop", store: Store | None = None) -> Status:
    """Whether an ensemble is published, can be trained here, or why not, in one line."""
    store = store or Store()
    recipe = get_recipe(name, scale)
    try:
        recipe = bind(recipe, store)
        published = store.find("ensemble", recipe.label, recipe.model_spec)
        landscapes = stored_landscapes(name, scale, store)
        trained = published or cached_members(recipe, store)
    except AbcError as error:
        return Status(name, scale, False, str(error))
    samples = f", {len(landscapes)} samples with landscapes" if landscapes is not None else ""
    if trained:
        return Status(
            name, scale, True, ("published" if published else "trained on this machine") + samples
        )
    if available(recipe.data.family, recipe.data.split):
        first = (
            ""
            if recipe.data.space == "pixel" or recipe.data.autoencoder
            else ", its autoencoder is trained or downloaded first"
        )
        return Status(name, scale, True, "can be trained here: its images are at hand" + first)
    if recipe.data.family in REMEDIES:
        return Status(
            name,
            scale,
            True,
            f"its images are not at hand: {REMEDIES[recipe.data.family]} in the folder that ABC_DATA names",
        )
    return Status(
        name,
        scale,
        True,
        f"its images are not at hand: set ABC_DATA to a folder with {FOLDERS[recipe.data.family]}/, "
        "put that into data/raw, or let torchvision download them",
    )


def all_statuses(scale: str = "laptop", store: Store | None = None) -> list[Status]:
    """:func:`status` of the whole registry."""
    return [status(name, scale, store) for name in recipe_names()]
