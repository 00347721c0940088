"""Unattributable samples: those that every one of their counterfactuals equals, pixel for pixel
(3.5).

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
from functools import partial

import numpy as np
import torch

from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue, positive_int
from abc_lib.ground.here import Here
from abc_lib.ground.seeds import generator
from abc_lib.ground.store import Artefact, Workspace
from abc_lib.ground.tasks import run_blocks
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.recipe import Recipe
from abc_lib.method.space import THRESHOLD
from abc_lib.results.kind import Kind, name_and_scale
from abc_lib.training.budget import trajectories_side_by_side

__all__ = [
    "KIND",
    "MARGIN",
    "Unattributable",
    "get",
    "origin",
    "publish",
    "read",
    "stored",
    "verdicts",
]

MARGIN, FINE_MARGIN = 1e-3, 1e-9
"""how near the threshold a pixel may come before it is computed in float64, and before float64
cannot tell either
"""
_EQUAL, _DIFFERENT, _UNDECIDED = 0, 1, 2


@dataclass(frozen=True)
class Unattributable:
    """What became of each of S samples: ``witness`` (S,) is a data source whose counterfactual
    differs, -1 if there is none.

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
        from scipy import stats

        found = stats.binomtest(len(self.indices), len(self)).proportion_ci(level, "exact")
        return float(found.low), float(found.high)


def verdicts(a: torch.Tensor, b: torch.Tensor, margin: float) -> torch.Tensor:
    """Whether images (B, C, H, W) before the threshold become equal ones: 0 equal, 1 different, 2
    too near to tell, (B,) int64.
    """
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
    pairs: tuple[np.ndarray, np.ndarray],
    levels: torch.Tensor,
    margin: float,
    workspace: Workspace,
    name: str,
) -> int:
    """Compares samples, ``levels`` (B, C, H, W), with counterfactuals: ``pairs`` are (owner,
    source).
    """
    owner, source = pairs
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


class _Unattributable(Kind[Unattributable]):
    folder, title = "unattributable", "Unattributable samples"

    def build(self, model, spec, workspace, here):
        """Rounds of counterfactuals; a sample that differs from one of them is given up."""
        N, S, seed = model.codebook.num_sources, spec["samples"], spec["seed"]
        size, label = trajectories_side_by_side(model, here), model.recipe.label
        run = partial(run_blocks, workspace=workspace, device=model.device, here=here)
        factual = {
            f"factual-{size}-{start:07d}": (model, seed, np.arange(start, min(start + size, S)))
            for start in range(0, S, size)
        }
        pieces = run(_factual_task, factual, description=f"samples of {label}")
        levels = torch.cat([piece["levels"] for piece in pieces])
        order = torch.randperm(N, generator=generator("order of sources", label)).numpy()
        witness, tested = np.full(S, -1), np.zeros(S, dtype=np.int64)
        undecided, alive = np.zeros(S, dtype=bool), np.arange(S)
        again = compared = 0
        for first, last in _rounds(N):
            owner, source = np.repeat(alive, last - first), np.tile(order[first:last], len(alive))
            tasks = {}
            for k in range(0, len(owner), size):
                o, pairs = owner[k : k + size], (owner[k : k + size], source[k : k + size])
                name = f"round-{last}-{size}-{k:09d}"
                tasks[name] = model, seed, pairs, levels[o], spec["margin"]
            what = f"{label}: {len(alive)} samples, counterfactuals {first + 1} to {last}"
            pieces = run(_compare_task, tasks, description=what)
            found = np.zeros((0, last - first))
            if len(alive):
                verdict = [piece["verdicts"].numpy() for piece in pieces]
                found = np.concatenate(verdict).reshape(len(alive), -1)
            again += sum(int(piece["again"]) for piece in pieces)
            compared += len(owner)
            different = found == _DIFFERENT
            gone, at = different.any(axis=1), different.argmax(axis=1)
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
            "num_sources": N,
            "counterfactuals": compared,
            "in_float64": again,
            "recipe": digest(model.recipe.model_spec),
        }
        return files, info

    def read(self, artefact: Artefact) -> Unattributable:
        """An artefact's samples, with every byte checked."""
        tensors = artefact.tensors("samples.safetensors")
        shape = tensors["shape"].tolist()
        bits = np.unpackbits(tensors["factual"].numpy(), axis=1, count=int(np.prod(shape)))
        return Unattributable(
            *name_and_scale(artefact),
            artefact.spec["seed"],
            artefact.info["num_sources"],
            torch.from_numpy(bits).float().unflatten(1, shape),
            tensors["tested"].numpy(),
            tensors["witness"].numpy(),
            tensors["undecided"].numpy(),
            artefact,
        )

    def belongs(self, artefact: Artefact, recipe: Recipe) -> bool:
        """Whether it is of this very recipe."""
        return artefact.info["recipe"] == digest(recipe.model_spec)

    def size(self, artefact: Artefact) -> int:
        """How many samples were looked at."""
        return artefact.spec["samples"]


KIND = _Unattributable()


def get(
    ensemble: Ensemble,
    samples: int,
    seed: int = 0,
    margin: float = MARGIN,
    here: Here | None = None,
) -> Unattributable:
    """Which of the samples 0 .. ``samples`` - 1 under ``seed`` equal all their counterfactuals.

    From the store if known. A sample is given up at the end of the round in which a
    counterfactual of it differs. A stopped run goes on where it was; ``here.memory`` bounds
    activations and states of all jobs together. Raises :class:`BadValue` for an ensemble whose
    samples are not discrete.
    """
    recipe = ensemble.recipe
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
    return KIND.get(ensemble, spec, here or Here())


def stored(recipe: Recipe, seed: int = 0, here: Here | None = None) -> Unattributable | None:
    """What is at hand of a recipe's unattributable samples, without its members; or None.

    Of several the one of most samples.
    """
    _require_discrete(recipe)
    return KIND.stored(recipe, here or Here(), seed=seed)


def read(artefact: Artefact) -> Unattributable:
    """An artefact's samples, with every byte checked."""
    return KIND.read(artefact)


def publish(ensemble: Ensemble, samples: int, seed: int = 0, here: Here | None = None) -> Artefact:
    """Publishes which of the first samples equal all their counterfactuals."""
    here = here or Here()
    (artefact,) = KIND.publish([get(ensemble, samples, seed, here=here).artefact], here)
    return artefact


def origin(samples: Unattributable) -> str:
    """Where they come from, in a sentence."""
    return KIND.origin([samples.artefact])


def _require_discrete(recipe: Recipe) -> None:
    if not recipe.data.binarise:
        raise BadValue(
            f"samples of {recipe.name} are not discrete, so none equals its counterfactuals; "
            "compare their counterfactual radii "
            "with a threshold, or choose digits_binary_190 or mnist_binary_190"
        )
