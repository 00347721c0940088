"""What a query's truths are measured from, and how scores are held against a truth."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.seeds import generator
from abc_lib.images.training_set import TrainingSet, training_set
from abc_lib.method.diffusion import add_noise, alphas_cumprod
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.network import build_network
from abc_lib.method.recipe import Recipe, Shape
from abc_lib.method.space import to_model
from abc_lib.results.placebos import evidence
from abc_lib.training.retrained import Retrained, get_retrained
from abc_lib.training.stacked import StackedNetwork
from abc_lib.training.together import FULL, TOGETHER, TrainingTogether
from abc_lib.yardstick.scores import ceiling, datamodelling, top_share

__all__ = [
    "MOVED",
    "TIMES",
    "Truth",
    "error_products",
    "movements",
    "noised",
    "retrained_rises",
    "rounded",
    "same_chance_rises",
    "without_classes",
]

TIMES = 20
"""time steps at which a query's loss is measured, twice, with other noise"""
_AT_ONCE = 16
"""queries that go through a member side by side, at all times"""
MOVED = ("moved", "away")
"""of the statistics of :mod:`abc_lib.results.placebos.evidence`, those that are truths"""


@dataclass(frozen=True)
class Truth:
    """``halves`` (2, R, S, M): how well each of a code's M models does on each query, measured
    twice, NaN where that was not measured. ``design`` (R, M, N) says what share of each model saw
    each source. R is 1 where codes are averaged, or have no part in it. ``by_words`` says whether
    other codewords would make another truth of the same losses.
    """

    name: str
    title: str
    design: np.ndarray
    halves: np.ndarray
    by_words: bool = True

    @property
    def left_out(self) -> bool:
        """Whether its models lack one source, or one group of them, each."""
        return len(self.design) == 1 and bool((self.design.sum(1) <= 1).all())

    def measured(self, rows: np.ndarray) -> np.ndarray:
        """Those of the queries ``rows`` of which it is known."""
        return rows[np.isfinite(self.gains[:, rows]).all((0, 2))]

    @property
    def gains(self) -> np.ndarray:
        """(R, S, M), of both halves: the higher, the better the model."""
        return self.halves.mean(0)

    def score(self, scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Linear datamodelling scores (R, Q) of the Q queries ``rows`` of ``scores`` (S, N)."""
        pairs = zip(self.design, self.gains[:, rows], strict=True)
        return np.stack([datamodelling(scores[rows], *pair) for pair in pairs])

    def found(self, scores: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
        """Which share of the k sources, or groups, that matter most are the first k of scores, of
        each query; NaN unless one is left out and there are more than k.
        """
        if not self.left_out or self.gains.shape[2] <= k:
            return np.full(len(rows), np.nan)
        return top_share(scores[rows] @ self.design[0].T, self.gains[0, rows], k)

    def models(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Values and indices, the form in which dattri takes the truth of a datamodelling score.

        Losses (R M, S) of all codes' models on each query, and the sources each was trained on.
        Raises :class:`BadValue` for truths of which that cannot be said: all but ``members``.
        """
        if self.name != "members":
            raise BadValue(f"no trained models stand behind the truth {self.name}; take members")
        losses = -self.gains.transpose(0, 2, 1).reshape(-1, self.gains.shape[1])
        return losses, [np.flatnonzero(row) for each in self.design for row in each]

    def ceiling(self, rows: np.ndarray) -> float:
        """What a perfect method would reach, see :func:`abc_lib.yardstick.scores.ceiling`."""
        return float(np.mean([ceiling(each[:, rows]) for each in self.halves.swapaxes(0, 1)]))


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


def rounded(gram: np.ndarray) -> np.ndarray:
    """Products of errors as they are kept: what differs from one of them, in half precision."""
    gram = (gram + gram.swapaxes(-2, -1)) / 2
    one = gram[..., :1, 1:2]
    return one + (gram - one).astype(np.float16)


@torch.inference_mode()
def retrained_rises(models: Sequence[Retrained], images: torch.Tensor) -> np.ndarray:
    """By how much the loss on each image rises without each source, by training, (2, S, N).

    The mean over the even and over the odd training seeds of ``models``, which have all sources;
    all share times and noise. Raises :class:`BadValue` for a single seed, whose chance nothing
    would show.
    """
    if len(models) < 2:
        raise BadValue("one training seed has no second to be held against; give two or more")
    found = []
    for each in models:
        losses = _losses_of(each.recipe, each.shape, each.parameters, images)
        found.append((losses[:, 1:] - losses[:, :1])[:, each.sources.argsort()].numpy())
    return np.stack([np.mean(found[half::2], axis=0) for half in range(2)])


def _losses_of(
    recipe: Recipe,
    shape: Shape,
    parameters: dict[str, torch.Tensor],
    images: torch.Tensor,
    half: int = 0,
) -> torch.Tensor:
    """Losses (S, n) on images (S, C, H, W) of n models with stacked parameters (n, ...)."""
    n = len(next(iter(parameters.values())))
    net = build_network(recipe.network, shape, 0, recipe.diffusion)
    stack, losses = StackedNetwork(net, n).load(parameters).eval(), []
    for image in images:
        x, noise, t = noised(recipe, image[None], TIMES, "half", half)
        out = stack(x[0].repeat(1, n, 1, 1), t).unflatten(1, (n, -1))
        losses.append(((out - noise[0][:, None]) ** 2).mean((0, 2, 3, 4)))
    return torch.stack(losses)


def same_chance_rises(
    recipe: Recipe, member: int, own: TrainingSet, images: torch.Tensor, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """By how much a member's loss on each image rises when it is trained again without a source.

    With its own chance: the same initial parameters, minibatches, times and noise. Rises
    (2, S, M), measured with two draws of noise, and the M sources, the first ``count`` that the
    member saw; ``own`` are its images.
    """
    sources = own.sources.unique()[:count]
    together, found = TOGETHER["cpu"], []
    for some in sources.split(together - 1):
        work = TrainingTogether(recipe, [FULL, *some.tolist()], own, "removed", stream=member)
        for k in range(work.steps):
            work.step(k)
        with torch.inference_mode():
            losses = [
                _losses_of(recipe, work.shape, work.parameters(), images, half) for half in range(2)
            ]
        found.append(torch.stack([each[:, 1:] - each[:, :1] for each in losses]))
    return torch.cat(found, dim=2).numpy(), sources.numpy()


def movements(ensembles: Sequence[Ensemble], queries: np.ndarray, here: Here) -> np.ndarray:
    """How far each code's own samples move without each source, (2, R, Q, N), and how much farther
    away from the source's images: :data:`MOVED`.

    ``queries`` (Q,) are numbers of samples, which have the same noise in all codes.
    """
    found = [evidence.get(each, queries.tolist(), here=here).own for each in ensembles]
    picked = [list(evidence.STATISTICS).index(name) for name in MOVED]
    # In half precision they take the room of other truths, and ranks do not mind.
    return np.stack(found, axis=1)[picked].astype(np.float16)


def without_classes(
    recipe: Recipe, seeds: int, here: Here | None = None
) -> tuple[list[Retrained], np.ndarray]:
    """Models that were trained again without each class that is there, ``seeds`` times, and which
    of these classes each source is of, (N,).
    """
    images = training_set(recipe.data)
    labels = images.labels[images.sources.argsort()].numpy()
    present, mine = np.unique(labels, return_inverse=True)
    classes = recipe.replace(data={"sources": "class", "num_sources": len(present)})
    mine = torch.from_numpy(mine)
    images = dataclasses.replace(images, sources=mine[images.sources])
    models = [get_retrained(classes, None, seed, "removed", images, here) for seed in range(seeds)]
    return models, mine.numpy()
