"""Queries and their truths: what the loss on an image becomes for models that saw less."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.seeds import derive, generator
from abc_lib.ground.store import stopwatch
from abc_lib.images.families import FAMILIES
from abc_lib.images.training_set import load_split, training_set
from abc_lib.method.code import Codebook
from abc_lib.method.diffusion import add_noise, alphas_cumprod, sampler_steps
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.network import NoisePredictor
from abc_lib.method.recipe import Data, Recipe
from abc_lib.training.retrained import Retrained
from abc_lib.yardstick.gradients import Kernels, kernels, per_sample_gradients, projected
from abc_lib.yardstick.scores import bootstrap
from abc_lib.yardstick.truths import (
    MOVED,
    Truth,
    error_products,
    movements,
    noised,
    retrained_rises,
    rounded,
    same_chance_rises,
    without_classes,
)

__all__ = ["GRADIENT_MEMBERS", "QUERIES", "Relabelled", "Task", "make_task"]

QUERIES = 100
"""generated queries of a task, and as many held-out ones"""
GRADIENT_TIMES = 10
"""time steps, each with its noise, that a gradient is the mean of"""
GRADIENT_MEMBERS = 4
"""members whose gradients are averaged"""
SKETCHES = 4
"""of the Gauss-Newton matrix, for each source"""
SUBSETS = 128
"""sets of half of the members"""
RELABELLED = 100
"""orders of the members that a score is held against"""


@dataclass
class Task:
    """Queries and what their losses are under every set of members of R codes.

    ``queries`` (S, C, H, W) in [0, 1], ``generated`` (S,) which are samples of the first code's
    ensemble, the rest being images that no member saw; ``gram`` (R, 2, S, n, n), see
    :func:`error_products`. Where they were measured, ``retrained`` (2, S, N) are
    :func:`retrained_rises`, ``classes`` (2, S, G) those without each of G classes, ``labels`` (N,)
    the sources' classes, ``same_chance`` (2, S, M) the :func:`same_chance_rises` of the first
    code's first member and ``alone`` (M,) its sources, and ``moved`` (2, R, Q, N) the
    :func:`movements` of the samples :attr:`moving`. ``ensembles`` are needed by methods that look
    into members (most into the first code's); whoever only scores needs none.
    """

    recipe: Recipe
    codebooks: tuple[Codebook, ...]
    queries: torch.Tensor
    generated: np.ndarray
    gram: np.ndarray
    retrained: np.ndarray | None = None
    classes: np.ndarray | None = None
    labels: np.ndarray | None = None
    same_chance: np.ndarray | None = None
    alone: np.ndarray | None = None
    moved: np.ndarray | None = None
    ensembles: tuple[Ensemble, ...] = ()
    _kernels: dict[tuple, Kernels] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def shape(self) -> tuple[int, int]:
        """S, N: that of a method's scores."""
        return len(self.queries), self.codebooks[0].num_sources

    @property
    def words(self) -> np.ndarray:
        """The codes' codewords (R, N, n)."""
        return np.stack([book.words for book in self.codebooks])

    @property
    def tuning(self) -> np.ndarray:
        """(S,): the queries that choices are made with; the others are scored."""
        return np.arange(len(self)) % 2 == 0

    @property
    def moving(self) -> np.ndarray:
        """(Q,): the samples whose movements were measured, the first that are scored."""
        count = 0 if self.moved is None else self.moved.shape[2]
        return np.flatnonzero(self.generated & ~self.tuning)[:count]

    @cached_property
    def sources(self) -> torch.Tensor:
        """The sources' images (N, C, H, W) in [0, 1], from the training set."""
        images = training_set(self.recipe.data)
        return images.images[images.sources.argsort()]

    @cached_property
    def truths(self) -> dict[str, Truth]:
        """The truths by name, see :meth:`truths_of`."""
        return self.truths_of(self.words)

    def truths_of(self, words: np.ndarray) -> dict[str, Truth]:
        """Truths with these codewords (R, N, n) in place of the codes'.

        ``members``: every member is a model of the sources it saw. ``subsets``: so is a set of
        half of a code's members, as their mean. ``leave_one_out``: how much the loss rises when
        the members that saw a source are ablated, the mean over codes; its halves are of the even
        and the odd codes, so that it knows the chance of codes and of training. All follow from
        the products of errors, as the squared error of a mean of members is quadratic in their
        weights. Where they were measured: ``retrained`` is that rise by retraining, ``classes``
        the same without a class, ``same_chance`` that of one member trained again with the same
        minibatches and noise; ``moved`` is how far samples move without a source, and ``away``
        how much farther away from its image, the means over codes, their halves the even and the
        odd ones.
        """
        each, chosen, of_subsets, whole = self._whatever_the_words
        seen = words.transpose(0, 2, 1).astype(float)
        without = (1 - words) / (1 - words).sum(2, keepdims=True)
        rise = _losses(self.gram, without) - whole
        rise = _of_codes(rise.mean(0)) if len(words) > 1 else rise[:, 0]
        every = np.eye(words.shape[1])[None]
        found = [
            Truth("members", "members as models of half of the sources", seen, each),
            Truth("subsets", "sets of half of the members", chosen @ seen, of_subsets),
            Truth("leave_one_out", "one source ablated", every, rise[:, None]),
            *self._measured,
        ]
        return {truth.name: truth for truth in found}

    @cached_property
    def _measured(self) -> list[Truth]:
        """Truths in which codewords have no part, or for which they would have to go anew."""
        found, every = [], np.eye(self.shape[1])[None]
        if self.retrained is not None:
            told = "trained again without a source"
            found.append(Truth("retrained", told, every, self.retrained[:, None], by_words=False))
        if self.classes is not None:
            groups = np.arange(self.classes.shape[2])
            members = (self.labels == groups[:, None]).astype(float)[None]
            told = "trained again without a class"
            found.append(Truth("classes", told, members, self.classes[:, None], by_words=False))
        if self.same_chance is not None:
            told = "one member trained again without a source, by the same chance"
            halves = self.same_chance[:, None]
            truth = Truth("same_chance", told, every[:, self.alone], halves, by_words=False)
            found.append(truth)
        if self.moved is not None and self.moved.shape[1] > 1:
            titles = "how far a sample moves", "how far it moves away from the source"
            for name, title, values in zip(MOVED, titles, self.moved.astype(float), strict=True):
                halves = np.full((2, 1, *self.shape), np.nan)
                halves[:, 0, self.moving] = _of_codes(values)
                found.append(Truth(name, title, every, halves, by_words=False))
        return found

    @cached_property
    def _whatever_the_words(self) -> tuple[np.ndarray, ...]:
        """Gains of members, sets of them and their gains, losses of all: the same in any order."""
        n = self.codebooks[0].n
        chosen = _subsets(n)
        each = -np.diagonal(self.gram, axis1=3, axis2=4).swapaxes(0, 1)
        whole = _losses(self.gram, np.full((1, 1, n), 1 / n))
        return each, chosen, -_losses(self.gram, chosen[None]), whole

    def choose(self, candidates: Mapping[float, np.ndarray]) -> np.ndarray:
        """The scores (S, N) that do best under ``members`` on the queries for tuning."""
        truth = self.truths["members"]
        rows = np.flatnonzero(self.tuning)
        return max(candidates.values(), key=lambda each: bootstrap(truth.score(each, rows))[0])

    def needed(self) -> Ensemble:
        """The first code's ensemble, for methods that look into members; raises
        :class:`BadValue` without.
        """
        if not self.ensembles:
            raise BadValue("this task has no ensemble to look into; make it with make_task")
        return self.ensembles[0]

    def kernels(self, feature: str, draws: int = GRADIENT_TIMES, dims: int = 0) -> Kernels:
        """Inner products of gradients in the first members, computed once.

        ``feature`` is one of :data:`abc_lib.yardstick.gradients.FEATURES`, where "sketch" has the
        gradients of the loss beside its sketches, or "journey": the losses of samples' states.
        ``draws`` are the time steps, each with its noise, that a gradient is the mean of. Gradients
        are exact, or projected to ``dims`` numbers.
        """
        key = feature, draws, dims
        if key not in self._kernels:
            self.needed()
            seconds = stopwatch()
            parts = self._gradients(feature, draws)
            if dims:
                parts = (
                    projected(torch.cat(part), dims).split([len(each) for each in part])
                    for part in parts
                )
            found = kernels(parts)
            self._kernels[key] = dataclasses.replace(found, seconds=seconds())
        return self._kernels[key]

    def query_gradients(
        self, member: NoisePredictor, feature: str = "loss", draws: int = GRADIENT_TIMES
    ) -> torch.Tensor:
        """Gradients (S, P) of the queries in one member."""
        states = noised(self.recipe, self.queries, draws, "queries")
        return per_sample_gradients(member, *states, feature)

    def _gradients(self, feature, draws):
        plain = feature if feature in ("square", "mean") else "loss"
        states = noised(self.recipe, self.sources, draws, "sources")
        journey = self._journey() if feature == "journey" else None
        for member in self.needed().members[:GRADIENT_MEMBERS]:
            sources = per_sample_gradients(member, *states, plain)
            if journey is None:
                found = [self.query_gradients(member, plain, draws), sources]
            else:
                ours = per_sample_gradients(member, *journey)
                rest = ours.new_full((len(self) - len(ours), ours.shape[1]), torch.nan)
                found = [torch.cat([ours, rest]), sources]
            if feature == "sketch":
                found.append(torch.cat([self._sketch(member, states, k) for k in range(SKETCHES)]))
            yield found

    def _sketch(self, member: NoisePredictor, states: tuple, k: int) -> torch.Tensor:
        x, _, t = states
        own = torch.randn(x.shape, generator=generator("yardstick", "sketch", k))
        return per_sample_gradients(member, x, own, t, "sketch")

    @torch.inference_mode()
    def _journey(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the ensemble expects at steps of its samples' trajectories, noised to those steps.

        States and noise (G, K, C, H, W) of G generated queries, which come first, and times (K,).
        """
        ensemble, recipe, count = self.needed(), self.recipe, int(self.generated.sum())
        steps = sampler_steps(recipe.diffusion, recipe.sampling)
        chosen = np.unique(np.linspace(0, len(steps) - 1, GRADIENT_TIMES).round().astype(int))
        expected = {}

        def visit(k: int, x: torch.Tensor) -> None:
            if k in chosen:
                eps = ensemble.predict(x, steps[k].t, ensemble.weights(None, len(x)))
                expected[k] = (x - steps[k].from_eps * eps) / steps[k].from_x

        ensemble.denoise(ensemble.draw_noise(0, range(count)), visit=visit)
        if (clip := recipe.sampling.clip) is not None:
            expected = {k: each.clamp(-clip, clip) for k, each in expected.items()}
        images = torch.stack([expected[k] for k in chosen], dim=1)
        _, noise, _ = noised(recipe, self.queries[:count], len(chosen), "journey")
        t = torch.tensor([steps[k].t for k in chosen])
        states = add_noise(
            images.flatten(0, 1),
            noise.flatten(0, 1),
            t.repeat(count),
            alphas_cumprod(recipe.diffusion),
        )
        return states.unflatten(0, noise.shape[:2]), noise, t


class Relabelled:
    """The truths of a task under other orders of its members, as controls.

    Codes were drawn uniformly, so any order of their columns was as likely. Scores that know
    nothing of who saw what do as well under all of them. ``orders`` (count, R, n).
    """

    def __init__(self, task: Task, count: int = RELABELLED):
        rng = np.random.default_rng(derive("yardstick relabelled"))
        R, _, n = task.words.shape
        self.orders = np.stack([[rng.permutation(n) for _ in range(R)] for _ in range(count)])
        self.truths = [
            task.truths_of(np.take_along_axis(task.words, order[:, None], axis=2))
            for order in self.orders
        ]

    def chance(self, scores: np.ndarray, truth: Truth, mine: np.ndarray) -> np.ndarray:
        """Means over the queries ``mine``, one for each order of the members; where these have no
        part in a truth, one for each order of the sources.
        """
        if not truth.by_words:
            rng = np.random.default_rng(derive("yardstick sources"))
            shuffled = (rng.permuted(scores, axis=1) for _ in self.orders)
            return np.array([bootstrap(truth.score(each, mine), 1)[0] for each in shuffled])
        found = [each[truth.name].score(scores, mine) for each in self.truths]
        return np.array([bootstrap(each, 1)[0] for each in found])


def _subsets(n: int) -> np.ndarray:
    """Weights (M, n) of sets of half of n members, each row a mean."""
    rng = generator("yardstick subsets", n)
    rows = np.stack([torch.randperm(n, generator=rng).numpy() < n // 2 for _ in range(SUBSETS)])
    return rows / (n // 2)


def _of_codes(values: np.ndarray) -> np.ndarray:
    """Means over the even and the odd ones of R codes, (R, ...) to (2, ...)."""
    return np.stack([values[half::2].mean(0) for half in range(2)])


def _losses(gram: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Losses (2, R, S, M) of means of members with ``shares`` (R or 1, M, n) that add up to one."""
    weights = shares[:, None, None]
    return ((weights @ gram) * weights).sum(-1).swapaxes(0, 1)


def unseen_split(data: Data) -> str | None:
    """A part of the family's images that no ensemble with this ``data`` was trained on, or None."""
    family = FAMILIES[data.family]
    others = (split for split in (family.unseen, *family.splits) if split and split != data.split)
    return next(others, None)


def make_task(
    ensembles: Ensemble | Sequence[Ensemble],
    queries: int = QUERIES,
    here: Here | None = None,
    retrained: Sequence[Retrained] = (),
    class_seeds: int = 0,
    moving: int = 0,
    alone: int = 0,
) -> Task:
    """A task of the first ensemble's first samples and as many images that no member saw.

    ``ensembles`` are of one recipe, each with its own code, ``retrained`` of it without each
    source, each with its own training seed. The model is trained again ``class_seeds`` times
    without each class, ``moving`` samples are moved by every code, and the first member is trained
    again without each of ``alone`` sources; 0 leaves these truths out.
    Raises :class:`BadValue` unless sources are single images in pixels and the family has images
    that no ensemble sees, and where there are fewer than ``queries`` of them.
    """
    ensembles = (ensembles,) if isinstance(ensembles, Ensemble) else tuple(ensembles)
    here, recipe = here or Here(), ensembles[0].recipe
    family = FAMILIES[recipe.data.family]
    unseen = unseen_split(recipe.data)
    if recipe.data.sources != "image" or recipe.data.space != "pixel":
        raise BadValue(
            f"the yardstick takes sources that are single images in pixels; those of {recipe.name} "
            "are not"
        )
    if unseen is None:
        raise BadValue(f"{family.title} have no images that members of {recipe.name} did not see")
    images, _, origin = load_split(recipe.data.family, unseen)
    if not 2 <= queries <= len(images):
        raise BadValue(f"{queries} queries cannot be had of the {len(images)} images of {origin}")
    samples = ensembles[0].sample(ensembles[0].draw_noise(0, range(queries)))
    held_out = images[:queries].float() / 255
    # In half precision from the start, so that what is kept is what was measured.
    both = torch.cat([samples, held_out]).half().float()
    generated = np.arange(2 * queries) < queries
    gram = np.stack([rounded(error_products(each, both)) for each in ensembles])
    books = tuple(each.codebook for each in ensembles)
    task = Task(recipe, books, both, generated, gram, ensembles=ensembles)
    if retrained:
        task.retrained = retrained_rises(retrained, both)
    if class_seeds:
        models, task.labels = without_classes(recipe, class_seeds, here)
        task.classes = retrained_rises(models, both)
    if alone:
        own = training_set(recipe.data).of_sources(books[0].split(0))
        found = same_chance_rises(recipe, 0, own, both, alone)
        task.same_chance, task.alone = found
    if moving:
        chosen = np.flatnonzero(generated & ~task.tuning)[:moving]
        task.moved = movements(ensembles, chosen, here)
    return task
