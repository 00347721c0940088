"""What the study consists of, in pieces small enough to stop between, and what each piece should cost."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod

import torch

from abc_lib.ground.errors import positive_int
from abc_lib.ground.store import Artefact, Store
from abc_lib.ground.tasks import job_count
from abc_lib.images.latents import bind
from abc_lib.images.registry import DIGITS_SIZES, family_of, get_recipe
from abc_lib.method.network import build_network
from abc_lib.method.recipe import Recipe, image_shape
from abc_lib.method.space import state_shape
from abc_lib.results.class_counts import METHODS, SAMPLES, find_class_counts
from abc_lib.results.retraining import find_retraining_landscapes
from abc_lib.results.run import stored_jacobians, stored_landscapes
from abc_lib.results.unattributable import stored_unattributable
from abc_lib.study.cost import cost_of
from abc_lib.study.publish import (
    publish_classes,
    publish_ensemble,
    publish_jacobians,
    publish_landscapes,
    publish_retraining,
    publish_unattributable,
)
from abc_lib.training.members import find_ensemble, get_ensemble

ROUNDS = (4, 20, 100)
"""samples with landscapes after each round: a few of every ensemble tell more than many of one"""
SHIPPED = 3 * 2**20
"""Bytes of members above which the study leaves an ensemble in the cache. One may have 12 MiB, but all tracked files 40."""
# as many as the paper has
_BINARY_SAMPLES, _RETRAINED_SAMPLES = 3731, 1024


def _copied(store: Store, found: list[Artefact]) -> list[Artefact]:
    return [store.copy(artefact, artefact.path.parent.name) for artefact in found]


@dataclass(frozen=True)
class Piece:
    """A piece of work: ``what`` it adds to an ensemble's results, up to so many ``samples``.

    ``evaluations`` estimates its network evaluations of one image, as :class:`Cost` counts them. ``at_hand`` gives the artefacts of its results if they are
    published or in the cache, None if not, without asking for the models that made them and
    without writing anything; ``keep`` publishes those; ``make`` computes and publishes them.
    """

    recipe: Recipe
    what: str
    samples: int
    evaluations: float
    at_hand: Callable[[Store], list[Artefact] | None]
    make: Callable[[Store, str], list[Artefact]]
    keep: Callable[[Store, list[Artefact]], list[Artefact]] = _copied

    def __str__(self) -> str:
        return f"{self.recipe.label}: {self.what}" + (
            f", {self.samples:,} samples" if self.samples else ""
        )


def study_names() -> list[str]:
    """The study's ensembles in its order: the digits, MNIST and Fashion-MNIST by size, the comparisons with retraining, binarised MNIST, CIFAR-10."""
    families = [f"digits_{DIGITS_SIZES[0]}", "mnist_256", "fashion_256"]
    return [
        name for first in families for name in family_of(first) if not name.endswith("_384")
    ] + [
        "digits_classes",
        "digits_binary_190",
        "mnist_384",
        "fashion_384",
        "mnist_classes",
        "fashion_classes",
        "mnist_binary_190",
        "cifar10_500",
    ]


def seconds_per_evaluation(recipe: Recipe, device: torch.device, batch: int | None = None) -> float:
    """How long this machine takes to evaluate a member on one image, all its cores or its GPU at work: measured now, in about a second."""
    network = build_network(recipe.network, state_shape(recipe.data), 0).to(device).eval()
    batch = batch or (64 if device.type == "cpu" else 1024)
    x, t = (
        torch.randn(batch, *state_shape(recipe.data), device=device),
        torch.zeros(batch, dtype=torch.int64, device=device),
    )
    best = float("inf")
    with torch.inference_mode():
        for _ in range(4):
            start = time.perf_counter()
            network(x, t).sum().item()
            best = min(best, time.perf_counter() - start)
    return best / batch / job_count(None, device)


def _members_bytes(recipe: Recipe) -> int:
    return (
        recipe.code.n
        * cost_of(recipe).parameters
        * (2 if recipe.training.stored == "float16" else 4)
    )


def _most_jacobians(recipe: Recipe) -> int:
    """As many as take a mebibyte, but a round at least: an image for each member, in half precision."""
    return max(ROUNDS[0], 2**20 // (2 * recipe.code.n * prod(image_shape(recipe.data))))


def _ensemble(recipe: Recipe) -> Piece:
    def make(store: Store, device: str) -> list[Artefact]:
        if _members_bytes(recipe) <= SHIPPED:
            return publish_ensemble(recipe, store, device)
        get_ensemble(recipe, store, device)
        return []

    def at_hand(store: Store) -> list[Artefact] | None:
        return [] if find_ensemble(bind(recipe, store), store) else None

    # members in the cache are packed, which takes no training
    return Piece(
        recipe,
        "members",
        0,
        cost_of(recipe).members,
        at_hand,
        make,
        lambda store, found: make(store, "cpu"),
    )


def _if_all(found, samples: int, seed: int) -> list[Artefact] | None:
    """The artefacts that hold the first ``samples`` of landscapes or Jacobians, if all of those are among them."""
    first = set(range(samples))
    if found is None or found.seed != seed or not first <= set(found.indices.tolist()):
        return None
    return [artefact for artefact in found.artefacts if first & set(artefact.spec["indices"])]


def _landscapes(recipe: Recipe, samples: int, before: int, seed: int) -> Piece:
    return Piece(
        recipe,
        "landscapes",
        samples,
        (samples - before) * cost_of(recipe).landscape,
        lambda store: _if_all(stored_landscapes(recipe, store=store), samples, seed),
        lambda store, device: publish_landscapes(
            get_ensemble(recipe, store, device), samples, seed, store
        ),
    )


def _jacobians(recipe: Recipe, samples: int, before: int, seed: int) -> Piece:
    return Piece(
        recipe,
        "Jacobians",
        samples,
        (samples - before) * cost_of(recipe).jacobian,
        lambda store: _if_all(stored_jacobians(recipe, store=store), samples, seed),
        lambda store, device: publish_jacobians(
            get_ensemble(recipe, store, device), samples, seed, store
        ),
    )


def _classes(recipe: Recipe, samples: int, seed: int) -> Piece:
    cost = cost_of(recipe)

    def at_hand(store: Store) -> list[Artefact] | None:
        found = [find_class_counts(recipe, method, seed, store) for method in METHODS]
        return (
            [each.artefact for each in found]
            if all(each is not None and each.samples >= samples for each in found)
            else None
        )

    return Piece(
        recipe,
        "class counts by ablation and retraining",
        samples,
        cost.retraining + samples * (cost.landscape + cost.retrained_landscape),
        at_hand,
        lambda store, device: publish_classes(recipe, samples, seed, store, device),
    )


def _retraining(recipe: Recipe, samples: int, seed: int) -> Piece:
    N, cost = recipe.data.num_sources, cost_of(recipe)

    def at_hand(store: Store) -> list[Artefact] | None:
        found = find_retraining_landscapes(recipe, seed=seed, store=store)
        return (
            found.artefacts
            if found is not None and len(found) >= samples and len(found.sources) == N
            else None
        )

    return Piece(
        recipe,
        "landscapes by retraining",
        samples,
        cost.retraining + samples * cost.retrained_landscape,
        at_hand,
        lambda store, device: [publish_retraining(recipe, samples, None, seed, store, device)],
    )


def _unattributable(recipe: Recipe, samples: int, seed: int) -> Piece:
    n, w, N = recipe.code.n, recipe.code.weight, recipe.data.num_sources

    def at_hand(store: Store) -> list[Artefact] | None:
        found = stored_unattributable(recipe, seed=seed, store=store)
        return [found.artefact] if found is not None and len(found) >= samples else None

    # most samples are refuted by their first few counterfactuals, a few need all
    return Piece(
        recipe,
        "unattributable samples",
        samples,
        float(samples) * recipe.sampling.steps * (n + (8 + 0.02 * N) * (n - w)),
        at_hand,
        lambda store, device: [
            publish_unattributable(get_ensemble(recipe, store, device), samples, seed, store)
        ],
    )


def plan_study(
    names: Iterable[str] | None = None,
    samples: int = ROUNDS[-1],
    scale: str = "laptop",
    seed: int = 0,
) -> list[Piece]:
    """All pieces in the order in which they tell most: every ensemble with a few samples first, then more of each; what stands alone in between.

    ``samples`` is how many samples get a landscape in the end. Of an ensemble whose sources
    are classes, classes are counted; a binarised one is searched for unattributable
    samples; the 384-image sets get landscapes by retraining as well.
    """
    positive_int("samples", samples)
    recipes = [get_recipe(name, scale) for name in (study_names() if names is None else names)]
    rounds = sorted({min(each, samples) for each in (*ROUNDS, samples)})
    pieces: list[Piece] = []
    for number, target in enumerate(rounds):
        before = rounds[number - 1] if number else 0
        for recipe in recipes:
            if recipe.data.sources == "class":
                if number == 0:
                    pieces += [
                        _ensemble(recipe),
                        _classes(recipe, min(SAMPLES, 51 * samples), seed),
                    ]
                continue
            if number == 0:
                pieces.append(_ensemble(recipe))
            if recipe.data.binarise and number == 0:
                pieces.append(_unattributable(recipe, min(_BINARY_SAMPLES, 38 * samples), seed))
            pieces.append(_landscapes(recipe, target, before, seed))
            few, fewer = min(target, _most_jacobians(recipe)), min(before, _most_jacobians(recipe))
            if few > fewer:
                pieces.append(_jacobians(recipe, few, fewer, seed))
        if number == 0:
            pieces += [
                _retraining(recipe, min(_RETRAINED_SAMPLES, 11 * samples), seed)
                for recipe in recipes
                if recipe.name.endswith("_384")
            ]
    return pieces
