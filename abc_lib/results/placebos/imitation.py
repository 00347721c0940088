"""Whom does a sample imitate? Asked with every source in, without it, and along placebos.

A classifier that learned on the training pictures names one of their owners for every sample. The
share of samples that it names a source for says little alone: the same is counted with that source
ablated, and along codewords that no source owns, where as many members go and nobody's pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact, Workspace
from abc_lib.images.training_set import TrainingSet, training_set
from abc_lib.method.diffusion import ExogenousNoise
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.recipe import Recipe
from abc_lib.metrics.imagenet import imagenet_features
from abc_lib.metrics.names import metrics_at_hand
from abc_lib.results.kind import Kind, name_and_scale, sample_numbers
from abc_lib.results.measures.significance import rank_p
from abc_lib.results.placebos.evidence import STATISTICS, by_sample, owned_and_free, without

__all__ = [
    "KIND",
    "Imitation",
    "Judges",
    "Share",
    "gains",
    "get",
    "named",
    "origin",
    "publish",
    "shares",
    "stored",
    "total",
]

SAMPLES, PLACEBOS = 32, 48
"""samples, and at most so many codewords that no source owns"""
FOLDS = 4
"""parts of the pictures that a judge is tried on, having learned on the others"""
_RESAMPLES = 2000


def _pixels(images: torch.Tensor) -> np.ndarray:
    return images.clamp(0, 1).flatten(1).numpy()


def _colours(images: torch.Tensor) -> np.ndarray:
    """Roots of the shares of 64 colours, four levels a channel: blind to shapes, and to blur."""
    levels = (images.clamp(0, 1) * 3.999).long().expand(-1, 3, -1, -1)
    numbers = (levels * torch.tensor([16, 4, 1])[:, None, None]).sum(dim=1).flatten(1)
    counts = torch.nn.functional.one_hot(numbers, 64).double().mean(dim=1)
    return counts.sqrt().numpy()


def _imagenet(images: torch.Tensor) -> np.ndarray:
    features = imagenet_features(images.clamp(0, 1)).numpy()
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def _nearest_mean():
    from sklearn.neighbors import NearestCentroid

    return NearestCentroid()


def _linear():
    from sklearn.linear_model import RidgeClassifier

    return RidgeClassifier(alpha=0.1)


FEATURES = {"pixels": _pixels, "colours": _colours, "imagenet": _imagenet}
CLASSIFIERS = {"nearest mean": _nearest_mean, "linear": _linear}


class Judges:
    """Classifiers that name a source for a picture, one for each kind of features and of rule.

    They learn on a training set, whose every source needs two pictures or more, else
    :class:`BadValue`. ``names`` are "imagenet, linear" and so on, ``accuracy`` (C,) how often each
    is right on pictures that it did not learn on, in folds, and ``confusion`` (C, N, N) the share
    of a source's pictures (row) for which it then names a source (column). Features of the ImageNet
    network are left out where its package is not at hand.
    """

    def __init__(self, images: TrainingSet):
        from sklearn.model_selection import StratifiedKFold, cross_val_predict

        sources = images.sources.numpy()
        counts = np.bincount(sources)
        if counts.min() < 2:
            raise BadValue(
                f"source {counts.argmin()} has {counts.min()} picture; whom a sample imitates is "
                "asked where every source has two or more"
            )
        folds = StratifiedKFold(min(FOLDS, counts.min()), shuffle=True, random_state=0)
        self.kinds = [kind for kind in FEATURES if kind != "imagenet" or kind in metrics_at_hand()]
        self.names, self.fitted, self.confusion = [], [], []
        for kind in self.kinds:
            features = FEATURES[kind](images.images[:])
            for rule, make in CLASSIFIERS.items():
                with _quiet():
                    told = cross_val_predict(make(), features, sources, cv=folds)
                    self.fitted.append(make().fit(features, sources))
                table = np.zeros((len(counts), len(counts)))
                np.add.at(table, (sources, told), 1)
                self.names.append(f"{kind}, {rule}")
                self.confusion.append(table / counts[:, None])
        self.confusion = np.stack(self.confusion)
        self.accuracy = self.confusion.diagonal(axis1=1, axis2=2) @ counts / counts.sum()

    def name(self, images: torch.Tensor) -> np.ndarray:
        """The sources (C, B) that each judge names for images (B, C, H, W) in [0, 1]."""
        features = [FEATURES[kind](images) for kind in self.kinds]
        each = [part for part in features for _ in CLASSIFIERS]
        return np.stack([judge.predict(part) for judge, part in zip(self.fitted, each)])


def _quiet():
    """The nearest mean warns of pixels that are the same in all pictures of somebody."""
    import warnings

    return warnings.catch_warnings(action="ignore")


@dataclass(frozen=True)
class Imitation:
    """The sources that C judges name for S samples and for what becomes of them.

    ``factual`` (C, S) with all sources in, ``own`` (C, S, N) with each ablated, ``free`` (C, S, P)
    along codewords that no source owns, ``alone`` (C, S, n) by each member alone, which saw the
    sources that have a 1 in its column of ``words`` (N, n). ``accuracy`` (C,) and ``confusion``
    (C, N, N) are those of the judges on pictures that they did not learn on. ``p_values`` (K, S, N)
    are of the three statistics of evidence, as their rank among placebos.
    """

    name: str
    scale: str
    exposure: float
    judges: tuple[str, ...]
    factual: np.ndarray
    own: np.ndarray
    free: np.ndarray
    alone: np.ndarray
    words: np.ndarray
    accuracy: np.ndarray
    confusion: np.ndarray
    p_values: np.ndarray
    artefact: Artefact

    @property
    def saw(self) -> np.ndarray:
        """The share (C, n) of a member's own samples that are named for a source that it saw."""
        return self.words.astype(bool)[self.alone, np.arange(self.words.shape[1])].mean(axis=1)

    def judge(self, name: str = "") -> int:
        """Where a judge stands among the C; by default the one with the largest mean of ``saw``.

        A member cannot imitate whom it never saw, so that is what can be known of a judge's names
        for samples, which are not as sharp as the pictures that it learned on.
        """
        return self.judges.index(name) if name else int(self.saw.mean(axis=1).argmax())


def _task(
    ensemble: Ensemble, noise: ExogenousNoise, images: TrainingSet, judges: Judges, placebos: int,
    size: int, workspace: Workspace, name: str,
) -> int:  # fmt: skip
    book = ensemble.codebook
    words = owned_and_free(book, placebos)
    factual, there = without(ensemble, noise, words, size)
    each = torch.zeros(book.n, dtype=torch.int64)
    alone = ensemble.sample(noise, np.eye(book.n) * book.n, each)
    found = torch.stack([measure(factual, there, images) for measure in STATISTICS.values()])
    N = book.num_sources
    own, free = found[:, :N].diagonal(dim1=1, dim2=2), found[:, N:]
    told = judges.name(torch.cat([factual, there, alone]))
    workspace.save(
        name,
        {
            "told": torch.from_numpy(told).short(),
            "p_values": torch.from_numpy(rank_p(own.numpy(), free.numpy())).float(),
        },
    )
    return len(words)


class _Imitation(Kind[Imitation]):
    folder, title = "imitation", "Imitation"

    def build(self, model, spec, workspace, here):
        """Every sample with all that becomes of it is a piece of work."""
        recipe = model.recipe
        if recipe.data.space != "pixel":
            raise BadValue(f"{recipe.label} lives in latents; imitation is asked in pixels only")
        images = training_set(recipe.data)
        judges = Judges(images)
        what = f"imitation in {recipe.label}"
        pieces = by_sample(
            _task, model, spec, workspace, here, what, images, judges, spec["placebos"]
        )
        told = torch.stack([piece["told"] for piece in pieces], dim=1)
        N, P = model.codebook.num_sources, spec["placebos"]
        tensors = {
            "factual": told[..., 0],
            "own": told[..., 1 : 1 + N],
            "free": told[..., 1 + N : 1 + N + P],
            "alone": told[..., 1 + N + P :],
            "p_values": torch.stack([piece["p_values"] for piece in pieces], dim=1),
            "words": torch.from_numpy(model.codebook.words),
            "accuracy": torch.from_numpy(judges.accuracy),
            "confusion": torch.from_numpy(judges.confusion).float(),
        }
        tensors = {key: value.contiguous() for key, value in tensors.items()}
        info = {"model": digest(recipe.model_spec), "exposure": recipe.exposure}
        return {"imitation.safetensors": tensors}, info | {"judges": judges.names}

    def read(self, artefact: Artefact) -> Imitation:
        """An artefact's value, with every byte checked."""
        tensors = artefact.tensors("imitation.safetensors")
        arrays = {key: value.numpy() for key, value in tensors.items()}
        info = artefact.info
        known = (*name_and_scale(artefact), info["exposure"], tuple(info["judges"]))
        return Imitation(*known, **arrays, artefact=artefact)


KIND = _Imitation()


def get(
    ensemble: Ensemble,
    samples: Sequence[int] = range(SAMPLES),
    seed: int = 0,
    here: Here | None = None,
) -> Imitation:
    """Whom samples imitate: at hand, or computed now; a stopped run goes on.

    Raises :class:`BadValue` for an ensemble in latents, where a source has a single picture, and
    where sources own every codeword.
    """
    book = ensemble.codebook
    if not len(book.unowned(1)):
        raise BadValue(
            f"the sources of {ensemble.recipe.label} own every codeword of its code, so none is a "
            "placebo; choose more members"
        )
    spec = {
        "recipe": ensemble.recipe.label,
        "ensemble": ensemble.identity,
        "sampling": spec_of(ensemble.recipe.sampling),
        "seed": seed,
        "indices": sample_numbers(samples),
        "placebos": len(book.unowned(PLACEBOS)),
    }
    return KIND.get(ensemble, spec, here or Here())


def stored(recipe: Recipe, here: Here | None = None) -> Imitation | None:
    """What is at hand of a recipe with most samples, without its members; or None."""
    return KIND.stored(recipe, here or Here())


def publish(value: Imitation, here: Here | None = None) -> list[Artefact]:
    """Publishes whom samples imitate."""
    return KIND.publish([value.artefact], here or Here())


def origin(value: Imitation) -> str:
    """Where the numbers come from, in a sentence."""
    return KIND.origin([value.artefact])


# --- counted ---


def named(told: np.ndarray, N: int) -> np.ndarray:
    """The share of samples for which each of N sources is named, (..., N), of names (S, ...)."""
    return (told[..., None] == np.arange(N)).mean(axis=0)


@dataclass(frozen=True)
class Share:
    """How often one source, or all together, is named: shares of samples.

    ``taken`` with everybody in, ``ablated`` without the source, ``placebo`` where as many members
    and no source went. ``less`` is placebo less ablated, ``low`` to ``high`` its 95% interval over
    samples, ``p`` the chance that a codeword without meaning leaves the source named as rarely.
    """

    taken: float
    ablated: float
    placebo: float
    less: float
    low: float
    high: float
    p: float


def shares(value: Imitation, judge: str = "") -> list[Share]:
    """The share of every source, by one judge; intervals are a bootstrap over samples."""
    c = value.judge(judge)
    own, free = value.own[c], value.free[c]
    N = own.shape[1]
    gone = own == np.arange(N)
    kept = (free[..., None] == np.arange(N)).mean(axis=1)
    drawn = _resampled(kept - gone)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    ablated, placebo = gone.mean(axis=0), kept.mean(axis=0)
    # rarer counts as larger
    p = rank_p(-ablated, -named(free, N))
    taken = named(value.factual[c], N)
    rows = (taken, ablated, placebo, placebo - ablated, low, high, p)
    return [Share(*map(float, row)) for row in zip(*rows)]


def total(value: Imitation, judge: str = "", draws: int = 5000, seed: int = 0) -> Share:
    """The sum over sources: placebo shares add up to 1, ablated ones would if nothing changed.

    ``p`` is of codewords dealt out to the sources anew, owned and free ones alike.
    """
    c = value.judge(judge)
    own, free = value.own[c], value.free[c]
    N = own.shape[1]
    gone = (own == np.arange(N)).sum(axis=1)
    drawn = 1 - _resampled(gone[:, None].astype(float))[:, 0]
    every = named(np.concatenate([own, free], axis=1), N)
    rng = np.random.default_rng(seed)
    dealt = np.array(
        [every[rng.permutation(len(every))[:N], np.arange(N)].sum() for _ in range(draws)]
    )
    kept = float(gone.mean())
    # a hair above, so that the same sum in another order counts as reached
    p = float((dealt <= kept + 1e-9).sum() + 1) / (draws + 1)
    return Share(1.0, kept, 1.0, 1 - kept, *map(float, np.quantile(drawn, [0.025, 0.975])), p)


def _resampled(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Means (R, N) over bootstrap draws of the samples of values (S, N)."""
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=_RESAMPLES)
    return weights @ values / len(values)


def gains(value: Imitation, judge: str = "") -> np.ndarray:
    """Who is named more often when a source is left out: (N, N), rows are who was left out.

    Shares of samples, less those along placebos; rows add up to 0, and the diagonal is what the
    source itself loses.
    """
    c = value.judge(judge)
    N = value.own.shape[2]
    return named(value.own[c], N) - named(value.free[c], N).mean(axis=0)
