"""What the study consists of, in pieces small enough to stop between, and what each costs."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod

import torch

from abc_lib.ground.errors import positive_int
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact
from abc_lib.ground.tasks import job_count
from abc_lib.images.registry import DIGITS_SIZES, family_of, get_recipe
from abc_lib.method.network import build_network
from abc_lib.method.recipe import Recipe, image_shape
from abc_lib.method.space import state_shape
from abc_lib.results import class_counts, jacobians, landscapes, retraining, unattributable
from abc_lib.study.cost import cost_of
from abc_lib.training.ensembles import find_ensemble, get_ensemble, publish_ensemble

ROUNDS = (4, 20, 100)
"""samples with landscapes after each round: a few of every ensemble tell more than many of one"""
SHIPPED = 3 * 2**20
"""Bytes of members above which the study leaves an ensemble in the cache.

One may have 12 MiB, but all tracked files 40."""
# as many as the paper has
_BINARY_SAMPLES, _RETRAINED_SAMPLES = 3731, 1024


def _copied(here: Here, artefacts: list[Artefact]) -> list[Artefact]:
    return [here.store.copy(artefact, artefact.path.parent.name) for artefact in artefacts]


@dataclass(frozen=True)
class Piece:
    """A piece of work: ``what`` it adds to an ensemble's results, up to so many ``samples``.

    ``evaluations`` estimates its network evaluations of one image, as :class:`Cost` counts
    them. ``at_hand`` gives the artefacts of its results if they are published or in the
    cache, None if not, without asking for the models that made them and without writing
    anything; ``keep`` publishes those; ``make`` computes and publishes them.
    """

    recipe: Recipe
    what: str
    samples: int
    evaluations: float
    at_hand: Callable[[Here], list[Artefact] | None]
    make: Callable[[Here], list[Artefact]]
    keep: Callable[[Here, list[Artefact]], list[Artefact]] = _copied

    def __str__(self) -> str:
        samples = f", {self.samples:,} samples" if self.samples else ""
        return f"{self.recipe.label}: {self.what}{samples}"


def study_names() -> list[str]:
    """The study's ensembles in its order: digits, MNIST and Fashion-MNIST by size, then others.

    Those are the comparisons with retraining, binarised MNIST and CIFAR-10.
    """
    first = f"digits_{DIGITS_SIZES[0]}", "mnist_256", "fashion_256"
    sizes = [name for start in first for name in family_of(start) if not name.endswith("_384")]
    digits = ["digits_classes", "digits_binary_190"]
    mnist = ["mnist_384", "fashion_384", "mnist_classes", "fashion_classes", "mnist_binary_190"]
    return [*sizes, *digits, *mnist, "cifar10_500"]


def seconds_per_evaluation(recipe: Recipe, device: torch.device, batch: int | None = None) -> float:
    """How long a member takes on one image, all cores or the GPU at work.

    It is measured now, in about a second.
    """
    shape = state_shape(recipe.data)
    network = build_network(recipe.network, shape, 0).to(device).eval()
    batch = batch or (64 if device.type == "cpu" else 1024)
    x = torch.randn(batch, *shape, device=device)
    t = torch.zeros(batch, dtype=torch.int64, device=device)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(4):
            start = time.perf_counter()
            network(x, t).sum().item()
            best = min(best, time.perf_counter() - start)
    return best / batch / job_count(None, device)


def _members_bytes(recipe: Recipe) -> int:
    each = 2 if recipe.training.stored == "float16" else 4
    return recipe.code.n * cost_of(recipe).parameters * each


def _most_jacobians(recipe: Recipe) -> int:
    """As many as take a mebibyte (an image a member, in half precision), but a round at least."""
    return max(ROUNDS[0], 2**20 // (2 * recipe.code.n * prod(image_shape(recipe.data))))


def _ensemble(recipe: Recipe) -> Piece:
    def make(here: Here) -> list[Artefact]:
        if _members_bytes(recipe) <= SHIPPED:
            return publish_ensemble(recipe, here)
        get_ensemble(recipe, here)
        return []

    def at_hand(here: Here) -> list[Artefact] | None:
        return [] if find_ensemble(recipe, here) else None

    # members in the cache are packed, which takes no training
    keep = lambda here, artefacts: make(here)  # noqa: E731
    return Piece(recipe, "members", 0, cost_of(recipe).members, at_hand, make, keep)


def _if_all(stored, samples: int, seed: int) -> list[Artefact] | None:
    """The artefacts of the first ``samples`` of landscapes or Jacobians, if all are there."""
    first = set(range(samples))
    if stored is None or stored.seed != seed or not first <= set(stored.indices.tolist()):
        return None
    return [artefact for artefact in stored.artefacts if first & set(artefact.spec["indices"])]


def _landscapes(recipe: Recipe, samples: int, before: int, seed: int) -> Piece:
    return Piece(
        recipe,
        "landscapes",
        samples,
        (samples - before) * cost_of(recipe).landscape,
        lambda here: _if_all(landscapes.stored(recipe, here), samples, seed),
        lambda here: landscapes.publish(get_ensemble(recipe, here), samples, seed, here),
    )


def _jacobians(recipe: Recipe, samples: int, before: int, seed: int) -> Piece:
    return Piece(
        recipe,
        "Jacobians",
        samples,
        (samples - before) * cost_of(recipe).jacobian,
        lambda here: _if_all(jacobians.stored(recipe, here), samples, seed),
        lambda here: jacobians.publish(get_ensemble(recipe, here), samples, seed, here),
    )


def _classes(recipe: Recipe, samples: int, seed: int) -> Piece:
    def at_hand(here: Here) -> list[Artefact] | None:
        stored = [
            class_counts.stored(recipe, method, seed, here) for method in class_counts.METHODS
        ]
        if any(counts is None or counts.samples < samples for counts in stored):
            return None
        return [counts.artefact for counts in stored]

    cost = cost_of(recipe)
    return Piece(
        recipe,
        "class counts by ablation and retraining",
        samples,
        cost.retraining + samples * (cost.landscape + cost.retrained_landscape),
        at_hand,
        lambda here: class_counts.publish(recipe, samples, seed, here),
    )


def _retraining(recipe: Recipe, samples: int, seed: int) -> Piece:
    def at_hand(here: Here) -> list[Artefact] | None:
        stored = retraining.stored(recipe, seed=seed, here=here)
        if stored is None or len(stored) < samples:
            return None
        return stored.artefacts if len(stored.sources) == recipe.data.num_sources else None

    cost = cost_of(recipe)
    return Piece(
        recipe,
        "landscapes by retraining",
        samples,
        cost.retraining + samples * cost.retrained_landscape,
        at_hand,
        lambda here: [retraining.publish(recipe, samples, None, seed, here=here)],
    )


def _unattributable(recipe: Recipe, samples: int, seed: int) -> Piece:
    def at_hand(here: Here) -> list[Artefact] | None:
        stored = unattributable.stored(recipe, seed, here)
        return [stored.artefact] if stored is not None and len(stored) >= samples else None

    n, w, N = recipe.code.n, recipe.code.weight, recipe.data.num_sources
    # most samples are refuted by their first few counterfactuals, a few need all
    evaluations = float(samples) * recipe.sampling.steps * (n + (8 + 0.02 * N) * (n - w))
    return Piece(
        recipe,
        "unattributable samples",
        samples,
        evaluations,
        at_hand,
        lambda here: [unattributable.publish(get_ensemble(recipe, here), samples, seed, here)],
    )


def plan_study(
    recipes: Iterable[Recipe] | None = None, samples: int = ROUNDS[-1], seed: int = 0
) -> list[Piece]:
    """All pieces in the order in which they tell most, of the study's ensembles by default.

    Every ensemble comes with a few samples first, then with more of each; what stands alone
    comes in between. ``samples`` is how many samples get a landscape in the end. Of an
    ensemble whose sources are classes, classes are counted; a binarised one is searched for
    unattributable samples; the 384-image sets get landscapes by retraining as well.
    """
    positive_int("samples", samples)
    recipes = list(map(get_recipe, study_names())) if recipes is None else list(recipes)
    rounds = sorted({min(size, samples) for size in (*ROUNDS, samples)})
    pieces: list[Piece] = []
    for before, target in zip([0, *rounds], rounds):
        for recipe in recipes:
            by_class = recipe.data.sources == "class"
            if before == 0:
                pieces.append(_ensemble(recipe))
                if by_class:
                    pieces.append(_classes(recipe, min(class_counts.SAMPLES, 51 * samples), seed))
                elif recipe.data.binarise:
                    few = min(_BINARY_SAMPLES, 38 * samples)
                    pieces.append(_unattributable(recipe, few, seed))
            if by_class:
                continue
            pieces.append(_landscapes(recipe, target, before, seed))
            most = _most_jacobians(recipe)
            if min(target, most) > min(before, most):
                few, fewer = min(target, most), min(before, most)
                pieces.append(_jacobians(recipe, few, fewer, seed))
        if before == 0:
            again = [recipe for recipe in recipes if recipe.name.endswith("_384")]
            few = min(_RETRAINED_SAMPLES, 11 * samples)
            pieces += [_retraining(recipe, few, seed) for recipe in again]
    return pieces
