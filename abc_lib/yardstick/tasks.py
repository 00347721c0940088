"""Queries and their truths: what the loss on an image becomes for models that saw less."""

import dataclasses
from collections.abc import Mapping
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
from abc_lib.method.recipe import Recipe
from abc_lib.method.space import to_model
from abc_lib.results import landscapes
from abc_lib.yardstick.gradients import Kernels, kernels, per_sample_gradients
from abc_lib.yardstick.scores import bootstrap, ceiling, datamodelling

__all__ = [
    "GRADIENT_MEMBERS",
    "QUERIES",
    "Relabelled",
    "Task",
    "Truth",
    "error_products",
    "make_task",
    "noised",
]

QUERIES = 100
"""generated queries of a task, and as many held-out ones"""
TIMES = 20
"""time steps at which a query's loss is measured, twice, with other noise"""
GRADIENT_TIMES = 10
GRADIENT_MEMBERS = 4
"""members whose gradients are averaged"""
SKETCHES = 4
"""of the Gauss-Newton matrix, for each source"""
_AT_ONCE = 16
"""queries that go through a member side by side, at all times"""
SUBSETS = 128
"""sets of half of the members"""
RELABELLED = 100
"""orders of the members that a score is held against"""


@dataclass(frozen=True)
class Truth:
    """``halves`` (2, S, M): how well each of M models does on each query, measured with two sets
    of noise. ``design`` (M, N) says what share of each model saw each source.
    """

    name: str
    title: str
    design: np.ndarray
    halves: np.ndarray

    @property
    def gains(self) -> np.ndarray:
        """(S, M), of both halves: the higher, the better the model."""
        return self.halves.mean(0)

    def score(self, scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The linear datamodelling score of the queries ``rows`` of ``scores`` (S, N)."""
        return datamodelling(scores[rows], self.design, self.gains[rows])

    def models(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Values and indices, the form in which dattri takes the truth of a datamodelling score.

        Losses (M, S) of M models on each query, and which sources each model was trained on.
        Raises :class:`BadValue` for truths of which that cannot be said: all but ``members``.
        """
        if self.name != "members":
            raise BadValue(f"no trained models stand behind the truth {self.name}; take members")
        return -self.gains.T, [np.flatnonzero(row) for row in self.design]

    def ceiling(self, rows: np.ndarray) -> float:
        """What a perfect method would reach, see :func:`abc_lib.yardstick.scores.ceiling`."""
        return ceiling(self.halves[:, rows])


@dataclass
class Task:
    """An ensemble's queries and what their losses are under every set of its members.

    ``queries`` (S, C, H, W) in [0, 1], ``generated`` (S,) which are the ensemble's samples, the
    rest being images that no member saw; ``gram`` (2, S, n, n), see :func:`error_products`.
    ``ensemble`` is needed by methods that look into members, ``here`` by those that look up
    results; whoever only scores needs neither.
    """

    recipe: Recipe
    codebook: Codebook
    queries: torch.Tensor
    generated: np.ndarray
    gram: np.ndarray
    ensemble: Ensemble | None = None
    here: Here | None = None
    _kernels: dict[str, Kernels] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def shape(self) -> tuple[int, int]:
        """S, N: that of a method's scores."""
        return len(self.queries), self.codebook.num_sources

    @property
    def tuning(self) -> np.ndarray:
        """(S,): the queries that choices are made with; the others are scored."""
        return np.arange(len(self)) % 2 == 0

    @cached_property
    def sources(self) -> torch.Tensor:
        """The sources' images (N, C, H, W) in [0, 1], from the training set."""
        images = training_set(self.recipe.data)
        return images.images[images.sources.argsort()]

    @cached_property
    def truths(self) -> dict[str, Truth]:
        """The truths by name, see :meth:`truths_of`."""
        return self.truths_of(self.codebook.words)

    def truths_of(self, words: np.ndarray) -> dict[str, Truth]:
        """Truths with these codewords (N, n) in place of the code's.

        ``members``: every member is a model of the sources it saw. ``subsets``: so is a set of
        half of the members, as their mean. ``leave_one_out``: how much the loss rises when the
        members that saw a source are ablated. All follow from the products of errors, as the
        squared error of a mean of members is quadratic in their weights.
        """
        each, chosen, of_subsets, whole = self._whatever_the_words
        without = (1 - words) / (1 - words).sum(1, keepdims=True)
        rise = _losses(self.gram, without) - whole
        seen = words.T.astype(float)
        return {
            t.name: t
            for t in (
                Truth("members", "members as models of half of the sources", seen, each),
                Truth("subsets", "sets of half of the members", chosen @ seen, of_subsets),
                Truth("leave_one_out", "one source ablated", np.eye(len(words)), rise),
            )
        }

    @cached_property
    def _whatever_the_words(self) -> tuple[np.ndarray, ...]:
        """Gains of members, sets of them and their gains, losses of all: the same in any order."""
        n = self.codebook.n
        chosen = _subsets(n)
        each = -np.diagonal(self.gram, axis1=2, axis2=3)
        whole = _losses(self.gram, np.full((1, n), 1 / n))
        return each, chosen, -_losses(self.gram, chosen), whole

    def choose(self, candidates: Mapping[float, np.ndarray]) -> np.ndarray:
        """The scores (S, N) that do best under ``members`` on the queries for tuning."""
        truth = self.truths["members"]
        rows = np.flatnonzero(self.tuning)
        return max(candidates.values(), key=lambda each: bootstrap(truth.score(each, rows))[0])

    def needed(self) -> Ensemble:
        """The ensemble, for methods that look into members; raises :class:`BadValue` without."""
        if self.ensemble is None:
            raise BadValue("this task has no ensemble to look into; make it with make_task")
        return self.ensemble

    def kernels(self, feature: str) -> Kernels:
        """Inner products of exact gradients in the first members, computed once.

        ``feature`` is one of :data:`abc_lib.yardstick.gradients.FEATURES`, where "sketch" has the
        gradients of the loss beside its sketches, or "journey": the losses of samples' states.
        """
        if feature not in self._kernels:
            self.needed()
            seconds = stopwatch()
            found = kernels(self._gradients(feature))
            self._kernels[feature] = dataclasses.replace(found, seconds=seconds())
        return self._kernels[feature]

    def query_gradients(self, member: NoisePredictor, feature: str = "loss") -> torch.Tensor:
        """Gradients (S, P) of the queries in one member."""
        states = noised(self.recipe, self.queries, GRADIENT_TIMES, "queries")
        return per_sample_gradients(member, *states, feature)

    def _gradients(self, feature):
        plain = "square" if feature == "square" else "loss"
        states = noised(self.recipe, self.sources, GRADIENT_TIMES, "sources")
        journey = self._journey() if feature == "journey" else None
        for member in self.ensemble.members[:GRADIENT_MEMBERS]:
            sources = per_sample_gradients(member, *states, plain)
            if journey is None:
                found = [self.query_gradients(member, plain), sources]
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
        recipe, count = self.recipe, int(self.generated.sum())
        steps = sampler_steps(recipe.diffusion, recipe.sampling)
        chosen = np.unique(np.linspace(0, len(steps) - 1, GRADIENT_TIMES).round().astype(int))
        expected = {}

        def visit(k: int, x: torch.Tensor) -> None:
            if k in chosen:
                eps = self.ensemble.predict(x, steps[k].t, self.ensemble.weights(None, len(x)))
                expected[k] = (x - steps[k].from_eps * eps) / steps[k].from_x

        self.ensemble.denoise(self.ensemble.draw_noise(0, range(count)), visit=visit)
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

    The code was drawn uniformly, so any order of its columns was as likely. Scores that know
    nothing of who saw what do as well under all of them.
    """

    def __init__(self, task: Task, count: int = RELABELLED):
        rng = np.random.default_rng(derive("yardstick relabelled"))
        words = task.codebook.words
        self.orders = [rng.permutation(words.shape[1]) for _ in range(count)]
        self.truths = [task.truths_of(words[:, order]) for order in self.orders]

    def chance(self, scores: np.ndarray, truth: Truth, mine: np.ndarray) -> np.ndarray:
        """Means over the queries ``mine``, one for each order."""
        found = [each[truth.name].score(scores, mine) for each in self.truths]
        return np.array([bootstrap(each, 1)[0] for each in found])


def _subsets(n: int) -> np.ndarray:
    """Weights (M, n) of sets of half of n members, each row a mean."""
    rng = generator("yardstick subsets", n)
    rows = np.stack([torch.randperm(n, generator=rng).numpy() < n // 2 for _ in range(SUBSETS)])
    return rows / (n // 2)


def _losses(gram: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Losses (2, S, M) of means of members with ``shares`` (M, n) that add up to one."""
    return np.einsum("hsij,mi,mj->hsm", gram, shares, shares, optimize=True)


def noised(recipe: Recipe, images: torch.Tensor, times: int, *names: object):
    """States and noise (B, K, C, H, W) of images (B, C, H, W), and K ``times``: all have the same.

    ``names`` say which noise.
    """
    steps = recipe.diffusion.train_steps
    t = ((torch.arange(times) + 0.5) * steps / times).long()
    rng = generator("yardstick", *names)
    noise = torch.randn(times, *images.shape[1:], generator=rng).expand(len(images), -1, -1, -1, -1)
    x = to_model(images, recipe.data)[:, None].expand_as(noise)
    states = add_noise(
        x.flatten(0, 1),
        noise.flatten(0, 1),
        t.repeat(len(images)),
        alphas_cumprod(recipe.diffusion),
    )
    return states.unflatten(0, noise.shape[:2]), noise, t


@torch.inference_mode()
def error_products(ensemble: Ensemble, images: torch.Tensor) -> np.ndarray:
    """Mean products of the errors of every two members on each image, (2, S, n, n), float32.

    At noise eps and time t member i errs by e_i = f_i(x_t) - eps. Weights c that add up to n err
    by sum_i c_i e_i / n, so their mean squared error is c' G c / n^2, where G is the mean of
    e_i . e_j over pixels, times and noise. All members share times and noise; the two halves
    have other noise.
    """
    found = []
    for half in range(2):
        parts = []
        for some in images.split(_AT_ONCE):
            states, noise, t = noised(ensemble.recipe, some, TIMES, "half", half)
            x, times = states.flatten(0, 1), t.repeat(len(some))
            errors = torch.stack(
                [
                    (member(x, times) - noise.flatten(0, 1)).reshape(len(some), -1)
                    for member in ensemble.members
                ],
                dim=1,
            )
            parts.append(errors @ errors.mT / errors.shape[-1])
        found.append(torch.cat(parts))
    return torch.stack(found).numpy()


def make_task(ensemble: Ensemble, queries: int = QUERIES, here: Here | None = None) -> Task:
    """A task of an ensemble's first samples and as many images that no member saw.

    Raises :class:`BadValue` unless sources are single images in pixels and the family has images
    that no ensemble sees, and where there are fewer than ``queries`` of them.
    """
    here, recipe = here or Here(), ensemble.recipe
    family = FAMILIES[recipe.data.family]
    unseen = family.splits[-1]
    if recipe.data.sources != "image" or recipe.data.space != "pixel":
        raise BadValue(
            f"the yardstick takes sources that are single images in pixels; those of {recipe.name} "
            "are not"
        )
    if unseen == recipe.data.split:
        raise BadValue(f"{family.title} have no images that members of {recipe.name} did not see")
    images, _, origin = load_split(recipe.data.family, unseen)
    if not 2 <= queries <= len(images):
        raise BadValue(f"{queries} queries cannot be had of the {len(images)} images of {origin}")
    samples = landscapes.get(ensemble, queries, 0, here=here).factual
    held_out = images[:queries].float() / 255
    both = torch.cat([samples.float(), held_out])
    generated = np.arange(2 * queries) < queries
    gram = error_products(ensemble, both)
    return Task(recipe, ensemble.codebook, both, generated, gram, ensemble, here)
