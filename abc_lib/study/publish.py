"""Puts results into ``data/published``: what is missing is trained and computed first, what is there stays as it is."""

from collections.abc import Callable, Iterable

from abc_lib.ground.errors import NoSurvivors
from abc_lib.ground.store import Artefact, Store
from abc_lib.images.latents import bind, get_autoencoder
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.recipe import Recipe
from abc_lib.results.class_counts import REMOVAL, compute_class_counts
from abc_lib.results.comparisons import compare_counterfactuals
from abc_lib.results.fids import KINDS, compute_fid
from abc_lib.results.jacobians import compute_jacobians, find_jacobians
from abc_lib.results.landscapes import KEEP, compute_landscapes, find_landscapes
from abc_lib.results.removals import compute_removals, draw_sets, promised_k
from abc_lib.results.retraining import retraining_landscapes
from abc_lib.results.unattributable import find_unattributable
from abc_lib.training.classifier.train import get_classifier
from abc_lib.training.members import get_ensemble, pack_ensemble, single_model, train_ensemble
from abc_lib.training.retrained import get_retrained

SHOWN = 8
"""Samples whose landscapes are published with several counterfactuals as images. The others show one: a hundred of each would be megabytes."""
SETS = 64
"""sets of each size that are removed"""
MOST_AT_ONCE = 9
LEAST_AT_ONCE = 4
"""Sets grow up to what a code promises, but to four at least, where some of four leave a member, and to nine at most."""


def publish_ensemble(recipe: Recipe, store: Store, device: str = "auto") -> list[Artefact]:
    """The ensemble with all its members, trained if need be; before it the basic autoencoder whose latents they live in."""
    recipe = bind(recipe, store)
    found = store.find("ensemble", recipe.label, recipe.model_spec)
    if found:
        return [found]
    members = train_ensemble(recipe, store, device)
    recipe, made = bind(recipe, store), []
    if recipe.data.space == "basic":
        # Without it nobody could look at a sample.
        made.append(store.copy(get_autoencoder(recipe, store).artefact, "autoencoder"))
    return [*made, pack_ensemble(recipe, members, store)]


def _missing(
    kind: str,
    samples: range,
    find: Callable,
    compute: Callable[[list[int]], Artefact],
    store: Store,
) -> list[Artefact]:
    """Artefacts of these samples: those at hand are copied, the samples that none has are computed in one go."""
    found = find()
    have = set() if found is None else set(found.indices.tolist())
    missing = [i for i in samples if i not in have]
    made = (
        []
        if found is None
        else [
            a for a in found.artefacts if not a.published and set(a.spec["indices"]) & set(samples)
        ]
    )
    if missing:
        made.append(compute(missing))
    return [store.copy(artefact, kind) for artefact in made]


def publish_landscapes(ensemble: Ensemble, samples: int, seed: int, store: Store) -> list[Artefact]:
    """Exact landscapes of the first samples: of a few with several images to show, of the others with the farthest counterfactual only."""
    made = []
    for part, keep in ((range(min(samples, SHOWN)), KEEP), (range(SHOWN, samples), 1)):
        made += _missing(
            "landscape",
            part,
            lambda: find_landscapes(ensemble, seed, store, keep),
            lambda missing: compute_landscapes(ensemble, missing, seed, store, keep),
            store,
        )
    return made


def publish_jacobians(ensemble: Ensemble, samples: int, seed: int, store: Store) -> list[Artefact]:
    """Jacobians of the first samples."""
    return _missing(
        "jacobian",
        range(samples),
        lambda: find_jacobians(ensemble, seed, store),
        lambda missing: compute_jacobians(ensemble, missing, seed, store),
        store,
    )


def switches(steps: int) -> list[int]:
    """The numbers of tangent steps that published comparisons try: 1, 5, 10, ..., 50 of a sampler's 50."""
    return sorted({max(1, round(steps * share / 10)) for share in (0, *range(1, 11))})


def publish_comparisons(
    ensemble: Ensemble, samples: int, hybrids: int, seed: int, store: Store
) -> list[Artefact]:
    """Exact and predicted counterfactuals of the first samples, of the very first ``hybrids`` hybrid ones too.

    Those are kept apart: hybrids cost several times what a landscape costs.
    """
    made, hybrids = [], min(hybrids, samples)
    for indices, tried in (
        (range(hybrids), switches(ensemble.recipe.sampling.steps)),
        (range(hybrids, samples), ()),
    ):
        if len(indices):
            made.append(
                compare_counterfactuals(ensemble, indices, None, tried, seed, store).artefact
            )
    return [store.copy(artefact, "comparison") for artefact in made]


def publish_retraining(
    recipe: Recipe,
    samples: int,
    sources: Iterable[int] | None,
    seed: int,
    store: Store,
    device: str = "auto",
    training_seed: int | None = None,
) -> Artefact:
    """Landscapes by retraining of the first samples; the models themselves stay in the cache, they would be too large."""
    models = get_retrained(recipe, sources, training_seed, store=store, device=device)
    return store.copy(
        retraining_landscapes(models, range(samples), seed, store).artefacts[0],
        "retrained-landscape",
    )


def publish_variants(
    recipe: Recipe, samples: int, training_seed: int, seed: int, store: Store, device: str = "auto"
) -> list[Artefact]:
    """Landscapes of ensembles of other members, with the same code and with another; the ensembles stay in the cache."""
    made = []
    for code_seed in (recipe.code.seed, training_seed):
        ensemble = get_ensemble(
            recipe.replace(training={"seed": training_seed}, code={"seed": code_seed}),
            store,
            device,
        )
        made += publish_landscapes(ensemble, samples, seed, store)
    return made


def publish_classes(
    recipe: Recipe, samples: int, seed: int, store: Store, device: str = "auto"
) -> list[Artefact]:
    """How often each class is generated with and without it, by ablation and by retraining."""
    classifier = get_classifier(recipe.data.family, recipe.scale, store, device)
    models = (
        get_ensemble(recipe, store, device),
        get_retrained(recipe, removed=REMOVAL, store=store, device=device),
    )
    return [
        store.copy(compute_class_counts(model, classifier, samples, seed, store), "class-counts")
        for model in models
    ]


def publish_fids(
    recipe: Recipe,
    count: int,
    removed: Iterable[int],
    seed: int,
    store: Store,
    device: str = "auto",
) -> list[Artefact]:
    """FIDs of an ensemble, of its single model and of one member, and of the ensemble without so many members; and the single model."""
    ensemble = get_ensemble(recipe, store, device)
    found = [compute_fid(ensemble, which, count, seed=seed, store=store) for which in KINDS]
    found += [
        compute_fid(ensemble, "ensemble", count, each, seed=seed, store=store) for each in removed
    ]
    made = [store.copy(single_model(recipe, store, device).artefact, "member")]
    return made + [store.copy(each.artefact, "fid") for each in found]


def publish_unattributable(ensemble: Ensemble, samples: int, seed: int, store: Store) -> Artefact:
    """Which of the first samples equal all their counterfactuals."""
    return store.copy(
        find_unattributable(ensemble, samples, seed, store).artefact, "unattributable"
    )


def removal_sets(ensemble: Ensemble, count: int = SETS) -> list[list[int]]:
    """Random sets of 1, 2, 3, ... sources that leave a member, ``count`` of each size where there are so many."""
    book, sets = ensemble.codebook, []
    promised = promised_k(book.n, book.weight)
    for k in range(1, min(book.num_sources, max(LEAST_AT_ONCE, min(promised, MOST_AT_ONCE))) + 1):
        try:
            sets += draw_sets(book, k, count)
        except NoSurvivors:
            break
    return sets


def publish_removals(
    ensemble: Ensemble, samples: int, seed: int, store: Store, sets: int = SETS
) -> Artefact:
    """How far the first samples move when sets of sources are removed."""
    return store.copy(
        compute_removals(
            ensemble, range(samples), removal_sets(ensemble, sets), seed, store
        ).artefact,
        "removal",
    )
