"""Unattributable samples: those that every one of their counterfactuals equals, pixel for pixel (3.5).

They can only be expected where samples are discrete, as those of a binarised ensemble are.
Whether two of them are equal must not hang on how many trajectories went side by side, or on
which instructions added them up, so it is not decided by comparing whatever came out. What the
sampler arrives at before the threshold is known to about 1e-5 in float32; a pixel that comes to
lie within ``MARGIN`` of the threshold therefore decides nothing, and its trajectories are computed
again in float64. All others have the same colour on every machine.

Most samples differ from one of their first few counterfactuals. Those are computed first, and
only samples that still equal all of theirs go on to the next round, of twice as many.
"""

import copy
import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from abc_lib.ground.devices import parse_bytes
from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue, positive_int
from abc_lib.ground.seeds import generator
from abc_lib.ground.store import Artefact, Store, Workspace, stopwatch
from abc_lib.ground.tasks import job_count, run_blocks
from abc_lib.images.registry import get_recipe
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.recipe import Recipe
from abc_lib.method.space import THRESHOLD
from abc_lib.results.budget import block_size

MARGIN, FINE_MARGIN = 1e-3, 1e-9
"""how near the threshold a pixel may come before it is computed in float64, and before float64 cannot tell either"""
_KIND = "unattributable"
_EQUAL, _DIFFERENT, _UNDECIDED = 0, 1, 2


@dataclass(frozen=True)
class Unattributable:
    """What became of each of S samples: ``witness`` (S,) is a data source whose counterfactual differs, -1 if there is none.

    ``tested`` (S,) counts the sources up to there. ``undecided`` (S,) marks samples with a
    counterfactual that float64 could not tell from them either; they are not counted as
    unattributable. ``factual`` (S, C, H, W) are the samples, 0 or 1.
    """

    name: str
    scale: str
    seed: int
    num_sources: int
    factual: torch.Tensor
    tested: np.ndarray
    witness: np.ndarray
    undecided: np.ndarray
    artefact: Artefact

    def __len__(self) -> int:
        return len(self.witness)

    @property
    def indices(self) -> np.ndarray:
        """The numbers of the unattributable samples, ascending."""
        return np.flatnonzero((self.witness < 0) & ~self.undecided)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Clopper and Pearson's interval of the share of unattributable samples."""
        found = stats.binomtest(len(self.indices), len(self)).proportion_ci(level, "exact")
        return float(found.low), float(found.high)


def verdicts(a: torch.Tensor, b: torch.Tensor, margin: float) -> torch.Tensor:
    """Whether images (B, C, H, W) before the threshold become equal ones: 0 equal, 1 different, 2 too near to tell, (B,) int64."""
    sure = ((a - THRESHOLD).abs() > margin) & ((b - THRESHOLD).abs() > margin)
    differ = (a > THRESHOLD) != (b > THRESHOLD)
    different, decided = (sure & differ).flatten(1).any(1), sure.flatten(1).all(1)
    return torch.where(different, _DIFFERENT, torch.where(decided, _EQUAL, _UNDECIDED))


def _levels(
    ensemble: Ensemble,
    seed: int,
    indices: np.ndarray,
    owner: np.ndarray,
    c: np.ndarray | None,
    dtype=None,
) -> torch.Tensor:
    """Decoded samples before the threshold, (B, C, H, W), on the CPU."""
    noise = ensemble.draw_noise(seed, indices).to("cpu", dtype)
    return ensemble.space.decode(ensemble.denoise(noise, c, torch.from_numpy(owner))).cpu()


def _double(ensemble: Ensemble) -> Ensemble:
    return dataclasses.replace(
        ensemble, members=[copy.deepcopy(member).double() for member in ensemble.members]
    )


def _factual_task(
    ensemble: Ensemble, seed: int, indices: np.ndarray, workspace: Workspace, name: str
) -> int:
    workspace.save(
        name,
        {"levels": _levels(ensemble, seed, indices, np.arange(len(indices)), None).contiguous()},
    )
    return len(indices)


def _compare_task(
    ensemble: Ensemble,
    seed: int,
    owner: np.ndarray,
    source: np.ndarray,
    levels: torch.Tensor,
    margin: float,
    workspace: Workspace,
    name: str,
) -> int:
    """Compares samples ``owner`` (B,), ``levels`` (B, C, H, W), with their counterfactuals without ``source`` (B,)."""
    mine, local = np.unique(owner, return_inverse=True)
    c = ensemble.codebook.leave_one_out(source)
    found = verdicts(levels, _levels(ensemble, seed, mine, local, c), margin)
    again = (found == _UNDECIDED).nonzero().squeeze(1).numpy()
    if len(again):
        fine, (few, place) = _double(ensemble), np.unique(owner[again], return_inverse=True)
        exact = _levels(fine, seed, few, np.arange(len(few)), None, torch.float64)[place]
        found[again] = verdicts(
            exact, _levels(fine, seed, few, place, c[again], torch.float64), FINE_MARGIN
        )
    workspace.save(name, {"verdicts": found, "again": torch.tensor(len(again))})
    return len(owner)


def _rounds(N: int) -> list[tuple[int, int]]:
    """From which to which source each round goes: 2, 2, 4, 8, ... of them."""
    ends = [2]
    while ends[-1] < N:
        ends.append(2 * ends[-1])
    ends = [min(end, N) for end in ends]
    return list(zip([0, *ends], ends))


def find_unattributable(
    ensemble: Ensemble,
    samples: int,
    seed: int = 0,
    store: Store | None = None,
    memory: int | str = "2GiB",
    n_jobs: int | None = None,
    progress: bool = True,
    margin: float = MARGIN,
) -> Unattributable:
    """Which of the samples 0 .. ``samples`` - 1 under ``seed`` equal all their counterfactuals; from the store if known.

    A sample is given up at the end of the round in which a counterfactual of it differs. A
    stopped run goes on where it was; ``memory`` bounds activations and states of all jobs
    together. Raises :class:`BadValue` for an ensemble whose samples are not discrete.
    """
    recipe, store = ensemble.recipe, store or Store()
    positive_int("samples", samples)
    _require_discrete(recipe)
    spec = {
        "recipe": recipe.label,
        "ensemble": ensemble.identity,
        "sampling": spec_of(recipe.sampling),
        "seed": seed,
        "samples": samples,
        "margin": margin,
    }
    return read_unattributable(
        store.once(
            _KIND,
            recipe.label,
            spec,
            lambda workspace: _find(
                ensemble, spec, store, workspace, parse_bytes(memory), n_jobs, progress
            ),
        )
    )


def _require_discrete(recipe: Recipe) -> None:
    if not recipe.data.binarise:
        raise BadValue(
            f"samples of {recipe.name} are not discrete, so none equals its counterfactuals; compare their counterfactual radii "
            "with a threshold, or choose digits_binary_190 or mnist_binary_190"
        )


def _find(
    ensemble: Ensemble,
    spec: dict,
    store: Store,
    workspace: Workspace,
    memory: int,
    n_jobs,
    progress: bool,
) -> Artefact:
    N, S, seed, seconds = ensemble.codebook.num_sources, spec["samples"], spec["seed"], stopwatch()
    size = block_size(ensemble, memory, job_count(n_jobs, ensemble.device))
    label = ensemble.recipe.label

    def blocks(function, tasks: dict[str, tuple], what: str) -> list[dict[str, torch.Tensor]]:
        run_blocks(function, tasks, workspace, ensemble.device, what, n_jobs, progress)
        return [workspace.load(name) for name in tasks]

    starts = range(0, S, size)
    pieces = blocks(
        _factual_task,
        {
            f"factual-{size}-{start:07d}": (ensemble, seed, np.arange(start, min(start + size, S)))
            for start in starts
        },
        f"samples of {label}",
    )
    levels = torch.cat([piece["levels"] for piece in pieces])
    order = torch.randperm(N, generator=generator("order of sources", label)).numpy()
    witness, tested, undecided = (
        np.full(S, -1),
        np.zeros(S, dtype=np.int64),
        np.zeros(S, dtype=bool),
    )
    alive, again, compared = np.arange(S), 0, 0
    for first, last in _rounds(N):
        owner, source = np.repeat(alive, last - first), np.tile(order[first:last], len(alive))
        tasks = {
            f"round-{last}-{size}-{k:09d}": (
                ensemble,
                seed,
                owner[k : k + size],
                source[k : k + size],
                levels[owner[k : k + size]],
                spec["margin"],
            )
            for k in range(0, len(owner), size)
        }
        pieces = blocks(
            _compare_task,
            tasks,
            f"{label}: {len(alive)} samples, counterfactuals {first + 1} to {last}",
        )
        found = (
            np.concatenate([piece["verdicts"].numpy() for piece in pieces]).reshape(len(alive), -1)
            if len(alive)
            else np.zeros((0, last - first))
        )
        again, compared = (
            again + sum(int(piece["again"]) for piece in pieces),
            compared + len(owner),
        )
        different = found == _DIFFERENT
        gone = different.any(axis=1)
        at = different.argmax(axis=1)
        witness[alive[gone]] = order[first + at[gone]]
        tested[alive] = np.where(gone, first + at + 1, last)
        undecided[alive] |= (found == _UNDECIDED).any(axis=1)
        alive = alive[~gone]
    undecided &= witness < 0
    packed = np.packbits((levels > THRESHOLD).flatten(1).numpy(), axis=1)
    files = {
        "samples.safetensors": {
            "factual": torch.from_numpy(packed),
            "shape": torch.tensor(levels.shape[1:]),
            "witness": torch.from_numpy(witness),
            "tested": torch.from_numpy(tested),
            "undecided": torch.from_numpy(undecided),
        }
    }
    info = {
        "seconds": round(seconds(), 1),
        "num_sources": N,
        "counterfactuals": compared,
        "in_float64": again,
        "recipe": digest(ensemble.recipe.model_spec),
    }
    return store.write(_KIND, label, spec, files, info, ensemble.device)


def read_unattributable(artefact: Artefact) -> Unattributable:
    """An artefact's samples, with every byte checked."""
    found, (name, _, scale) = (
        artefact.tensors("samples.safetensors"),
        artefact.spec["recipe"].rpartition("-"),
    )
    shape = found["shape"].tolist()
    bits = np.unpackbits(found["factual"].numpy(), axis=1, count=int(np.prod(shape)))
    return Unattributable(
        name,
        scale,
        artefact.spec["seed"],
        artefact.info["num_sources"],
        torch.from_numpy(bits).float().unflatten(1, shape),
        found["tested"].numpy(),
        found["witness"].numpy(),
        found["undecided"].numpy(),
        artefact,
    )


def stored_unattributable(
    recipe: str | Recipe, scale: str = "laptop", seed: int = 0, store: Store | None = None
) -> Unattributable | None:
    """What is published or in the cache of a recipe's unattributable samples, without its members; of several the most samples; or None."""
    recipe = get_recipe(recipe, scale) if isinstance(recipe, str) else recipe
    _require_discrete(recipe)
    found = [
        a
        for a in (store or Store()).find_all(_KIND, recipe.label)
        if a.spec["seed"] == seed
        and a.spec["sampling"] == spec_of(recipe.sampling)
        and a.info["recipe"] == digest(recipe.model_spec)
    ]
    most = max(found, key=lambda a: a.spec["samples"], default=None)
    return most and read_unattributable(most)
