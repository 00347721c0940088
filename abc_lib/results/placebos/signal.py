"""Several codes over one training set: which sources matter, by more than chance.

An ensemble of n members cannot tell N >> n sources apart: a landscape has n degrees of freedom,
and a source is confounded with the chance of its codeword. Other codes, with members trained
anew, confound it with other chance. Here R of them are one value.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue, positive_int
from abc_lib.ground.here import Here
from abc_lib.ground.seeds import derive
from abc_lib.ground.store import Artefact
from abc_lib.images.training_set import training_set
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.recipe import Recipe
from abc_lib.results.kind import Kind, name_and_scale, sample_numbers
from abc_lib.results.measures.significance import combined_p, fitted, standardised
from abc_lib.results.placebos import evidence
from abc_lib.results.placebos.evidence import STATISTICS, Evidence
from abc_lib.training.budget import trajectories_side_by_side
from abc_lib.training.ensembles import get_ensemble

__all__ = [
    "KIND",
    "NAMES",
    "Signal",
    "get",
    "of",
    "origin",
    "publish",
    "read",
    "recipes_of",
    "stored",
]

NAMES = (*STATISTICS, "fitted")
"""the statistics of a signal; "fitted" is "away", fitted to which members go"""
STRENGTHS = (0.01, 0.03, 0.1, 0.3)
"""planted effects: by which share members that saw a source pull towards it"""
PLANTED_CODES, PLANTED_PLACEBOS = 4, 99
"""in so many of the codes effects are planted, and held against so many placebos"""
DRAWS = 5000
"""draws of codewords for a combined p-value; more where there are more sources than 125"""


@dataclass(frozen=True)
class Signal:
    """What R codes, each ``code`` (n, weight), say of S samples and N sources by K :data:`NAMES`.

    ``scores`` (K, R, S, N) are in units of the spread over placebos. ``p_values`` (K, L, S, N)
    are of the mean over the first ``codes[l]`` codes, and ``placebo_p`` the same of codewords
    that no source owns, each put in a source's place. ``distances`` (R, S, N) and ``placebos``
    (R, S, P) are landscapes and placebo landscapes. ``nearest`` (R, S) is the source of the image
    that a code's sample lies nearest to, ``factual`` (R, S, C, H, W) the samples. ``planted_p``
    (K, T, J, S) are p-values of a source whose members pull towards it by ``strengths[t]``,
    from the first 1 to J codes together, and ``planted_moved`` (T, J, S) how far the sample moved
    when they were taken away.
    """

    name: str
    scale: str
    exposure: float
    code: tuple[int, int]
    codes: tuple[int, ...]
    strengths: tuple[float, ...]
    scores: np.ndarray
    p_values: np.ndarray
    placebo_p: np.ndarray
    distances: np.ndarray
    placebos: np.ndarray
    nearest: np.ndarray
    factual: np.ndarray
    planted_p: np.ndarray
    planted_moved: np.ndarray
    artefact: Artefact

    def of(self, statistic: str) -> int:
        """Where a statistic stands among the K."""
        return NAMES.index(statistic)


def recipes_of(recipe: Recipe, count: int) -> list[Recipe]:
    """The recipe with ``count`` codes, each with its own seed, and members of that seed."""
    return [
        recipe.replace(code={"seed": r}, training={"seed": r})
        for r in range(positive_int("count", count))
    ]


def _ladder(count: int) -> tuple[int, ...]:
    return (*(2**k for k in range(20) if 2**k < count), count)


def _with_fitted(own: np.ndarray, free: np.ndarray, words: np.ndarray, others: np.ndarray):
    """Statistics (K, S, N) and (K, S, P, N) of one code, with the fitted one as the last.

    ``words`` (N, n) are the sources' codewords, ``others`` (P, n) those that nobody owns.
    """
    k = list(STATISTICS).index("away")
    fits = [fitted(own[k, :, j], free[k, :, :, j], words[j], others) for j in range(len(words))]
    one, rest = (np.stack(each, axis=-1)[None] for each in zip(*fits, strict=True))
    return np.concatenate([own, one]), np.concatenate([free, rest])


def _together(
    parts: list[Evidence], ensembles: list[Ensemble], seed: int
) -> dict[str, torch.Tensor]:
    books = [ensemble.codebook for ensemble in ensembles]
    every = [
        _with_fitted(part.own, part.free, book.words, book.unowned(part.free.shape[2]))
        for part, book in zip(parts, books, strict=True)
    ]
    own, free = standardised(*(np.stack(each, axis=1) for each in zip(*every, strict=True)))
    K, R, S, N = own.shape
    ladder, draws = _ladder(R), max(DRAWS, 40 * N)
    rng = np.random.default_rng(derive("signal", seed))
    # A placebo in every source's place, and the other placebos to hold it against.
    order = np.stack([rng.permutation(free.shape[3])[:N] for _ in range(R)])
    order = np.resize(order, (R, N))
    p_values, placebo_p = np.empty((K, len(ladder), S, N)), np.empty((K, len(ladder), S, N))
    for k in range(K):
        for s in range(S):
            p_values[k, :, s] = combined_p(own[k, :, s], free[k, :, s], ladder, draws, rng)
            some = np.take_along_axis(free[k, :, s], order[:, None], axis=1)[:, 0]
            others = _all_but(free[k, :, s], order)
            placebo_p[k, :, s] = combined_p(some, others, ladder, draws, rng)
    moved = NAMES.index("moved")
    return {
        "scores": torch.from_numpy(own).half(),
        "p_values": torch.from_numpy(p_values).float(),
        "placebo_p": torch.from_numpy(placebo_p).float(),
        "distances": torch.from_numpy(np.stack([part.own[moved] for part in parts])),
        "placebos": torch.from_numpy(np.stack([part.free[moved, :, :, 0] for part in parts])),
        "nearest": torch.from_numpy(np.stack([part.nearest for part in parts])),
        "factual": torch.from_numpy(np.stack([part.factual for part in parts])).half(),
    }


def _all_but(free: np.ndarray, order: np.ndarray) -> np.ndarray:
    """``free`` (R, P, N) without codeword ``order[r, j]`` for source j, (R, P - 1, N)."""
    R, P, N = free.shape
    keep = np.arange(P)[None, :, None] != order[:, None]
    return free.transpose(0, 2, 1)[keep.transpose(0, 2, 1)].reshape(R, N, P - 1).transpose(0, 2, 1)


def _planted(ensembles: list[Ensemble], spec: dict, workspace, here: Here) -> dict:
    """p-values of planted sources, a sample and a strength at a time."""
    recipe = ensembles[0].recipe
    images = training_set(recipe.data)
    book = ensembles[0].codebook
    placebos = len(book.unowned(min(book.num_sources, PLANTED_PLACEBOS)))
    chance = np.random.default_rng(derive("planted", spec["seed"]))
    sources = chance.integers(book.num_sources, size=len(spec["indices"]))
    rng = np.random.default_rng(derive("planted draws", spec["seed"]))
    p = np.empty((len(NAMES), len(spec["strengths"]), len(ensembles), len(sources)))
    moved = np.empty(p.shape[1:])
    for t, strength in enumerate(spec["strengths"]):
        for s, source in enumerate(sources):
            own, free = [], []
            for j, ensemble in enumerate(ensembles):
                name = f"planted-{t}-{s:06d}-{j}"
                if not workspace.has(name):
                    pulled = evidence.planted(ensemble, images, int(source), strength)
                    size = trajectories_side_by_side(ensemble, here)
                    noise = ensemble.draw_noise(spec["seed"], [spec["indices"][s]])
                    which = images, int(source), placebos, size
                    workspace.save(name, evidence.planted_statistics(pulled, noise, *which))
                piece = workspace.need(name)
                one, rest = piece["own"].numpy()[:, None], piece["free"].numpy()[:, None]
                words = ensemble.codebook.words[[source]]
                one, rest = _with_fitted(one, rest, words, ensemble.codebook.unowned(placebos))
                own.append(one[:, 0])
                free.append(rest[:, 0])
            own, free = np.stack(own, axis=1), np.stack(free, axis=1)
            moved[t, :, s] = own[NAMES.index("moved"), :, 0]
            own, free = standardised(own, free)
            counts = range(1, len(ensembles) + 1)
            for k in range(len(NAMES)):
                p[k, t, :, s] = combined_p(own[k], free[k], counts, DRAWS, rng)[:, 0]
    return {
        "planted_p": torch.from_numpy(p).float(),
        "planted_moved": torch.from_numpy(moved).float(),
    }


class _Signal(Kind[Signal]):
    folder, title = "signal", "Signal"

    def build(self, model, spec, workspace, here):
        """The evidence of every code is an artefact of its own; effects are planted last."""
        ensembles = [
            get_ensemble(recipe, here)
            for recipe in recipes_of(model.recipe, len(spec["ensembles"]))
        ]
        parts = [evidence.get(one, spec["indices"], spec["seed"], here) for one in ensembles]
        tensors = _together(parts, ensembles, spec["seed"])
        tensors |= _planted(ensembles[:PLANTED_CODES], spec, workspace, here)
        info = {
            "model": digest(model.recipe.model_spec),
            "exposure": model.recipe.exposure,
            "code": [model.codebook.n, model.codebook.weight],
            "codes": list(_ladder(len(parts))),
            "strengths": spec["strengths"],
        }
        tensors = {key: value.contiguous() for key, value in tensors.items()}
        return {"signal.safetensors": tensors}, info

    def size(self, artefact: Artefact) -> int:
        """By codes first, then by samples."""
        return len(artefact.spec["ensembles"]) * 10**6 + len(artefact.spec["indices"])

    def read(self, artefact: Artefact) -> Signal:
        """An artefact's value, with every byte checked."""
        tensors = artefact.tensors("signal.safetensors")
        arrays = {key: value.double().numpy() for key, value in tensors.items()}
        arrays["nearest"] = tensors["nearest"].numpy()
        info = artefact.info
        return Signal(
            *name_and_scale(artefact),
            info["exposure"],
            tuple(info["code"]),
            tuple(info["codes"]),
            tuple(info["strengths"]),
            **arrays,
            artefact=artefact,
        )

    def words(self, artefact: Artefact) -> str:
        """Samples, codes, and at which exposure."""
        return (
            f"{len(artefact.spec['indices'])} samples of {len(artefact.spec['ensembles'])} codes "
            f"whose members saw each image {artefact.info['exposure']:,.0f} times"
        )


KIND = _Signal()


def get(
    recipe: Recipe,
    codes: int,
    samples: Iterable[int] = range(20),
    seed: int = 0,
    strengths: Iterable[float] = STRENGTHS,
    here: Here | None = None,
) -> Signal:
    """What ``codes`` codes say of samples: at hand, or trained, sampled and computed now.

    The codes' ensembles are trained where they are missing. Effects of ``strengths`` are planted,
    which takes as long as the rest; none are for (). A stopped run goes on where it was.
    Raises :class:`BadValue` for fewer than two codes or an ensemble in latents.
    """
    here = here or Here()
    if positive_int("codes", codes) < 2:
        raise BadValue("one code says what the page on memory shows; give two codes or more")
    ensembles = [get_ensemble(each, here) for each in recipes_of(recipe, codes)]
    spec = {
        "recipe": recipe.label,
        "ensembles": [each.identity for each in ensembles],
        "sampling": spec_of(recipe.sampling),
        "seed": seed,
        "indices": sample_numbers(samples),
        "statistics": list(NAMES),
        "strengths": [float(strength) for strength in strengths],
    }
    return KIND.get(ensembles[0], spec, here)


def stored(recipe: Recipe, here: Here | None = None) -> Signal | None:
    """What is at hand of a recipe with most codes, without any members; or None."""
    return KIND.stored(recipe, here or Here())


def of(recipe: Recipe, codes: int = 2, here: Here | None = None) -> Signal:
    """What is at hand of a recipe; else ``codes`` codes are trained and measured now."""
    known = stored(recipe, here)
    return get(recipe, codes, here=here) if known is None else known


def read(artefact: Artefact) -> Signal:
    """An artefact's value, with every byte checked."""
    return KIND.read(artefact)


def publish(value: Signal, here: Here | None = None) -> list[Artefact]:
    """Publishes what several codes say; their members stay where they are."""
    return KIND.publish([value.artefact], here or Here())


def origin(value: Signal) -> str:
    """Where the numbers come from, in a sentence."""
    return KIND.origin([value.artefact])
