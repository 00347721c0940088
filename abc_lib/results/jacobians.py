"""Jacobians of samples in the members' weights, and the radius that they screen for (2.4)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from abc_lib.ground.digests import digest
from abc_lib.ground.errors import BadValue, positive_int
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact, Workspace
from abc_lib.ground.tasks import run_blocks, run_tasks
from abc_lib.method.differential import Jacobians, most_promising
from abc_lib.method.diffusion import ExogenousNoise
from abc_lib.method.distance import distance
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.recipe import Recipe
from abc_lib.results.kind import BySample, fresh_rows, name_and_scale, sample_numbers
from abc_lib.training.budget import samples_side_by_side, trajectories_side_by_side

__all__ = [
    "KIND",
    "Jacobians",
    "Screened",
    "compute",
    "find",
    "get",
    "merge",
    "origin",
    "publish",
    "read",
    "screened_radius",
    "stored",
]


class _Jacobians(BySample[Jacobians]):
    folder, title = "jacobian", "Jacobians"

    def build(self, model, spec, workspace, here):
        """Samples and Jacobians in blocks, as many side by side as the memory holds."""
        indices, seed = spec["indices"], spec["seed"]
        size = samples_side_by_side(model, len(indices), here)
        tasks = {
            f"jacobians-{size}-{start:06d}": (model, seed, indices[start : start + size])
            for start in range(0, len(indices), size)
        }
        what = f"Jacobians of {model.recipe.label}"
        pieces = run_blocks(_task, tasks, workspace, model.device, here, what)
        content = {
            key: torch.cat([piece[key] for piece in pieces]) for key in ("factual", "jacobians")
        }
        # An error of 2**-11 is nothing beside that of a prediction to first order, and half the
        # bytes are kept.
        content["jacobians"] = content["jacobians"].half()
        info = {"block": size, "model": digest(model.recipe.model_spec), "members": model.n}
        return {"jacobians.safetensors": content}, info

    def read(self, artefact: Artefact) -> Jacobians:
        """An artefact's Jacobians, with every byte checked."""
        tensors, spec = artefact.tensors("jacobians.safetensors"), artefact.spec
        return Jacobians(
            *name_and_scale(artefact),
            spec["seed"],
            np.array(spec["indices"]),
            tensors["factual"],
            tensors["jacobians"].float(),
            [artefact],
        )

    def merge(self, artefacts: list[Artefact]) -> Jacobians | None:
        """The samples of several artefacts of one ensemble and seed, each once, by index."""
        parts = []
        for artefact, rows in fresh_rows(artefacts):
            parts.append(self.read(artefact).only(artefact.spec["indices"][row] for row in rows))
        if not parts:
            return None
        first = parts[0]
        joined = Jacobians(
            first.name,
            first.scale,
            first.seed,
            np.concatenate([part.indices for part in parts]),
            torch.cat([part.factual for part in parts]),
            torch.cat([part.jacobians for part in parts]),
            [artefact for part in parts for artefact in part.artefacts],
        )
        return joined.only(sorted(joined.indices))

    def words(self, artefact: Artefact) -> str:
        """Of how many samples."""
        return f"of {self.size(artefact)} samples"


KIND = _Jacobians()


def _task(
    ensemble: Ensemble, seed: int, indices: list[int], workspace: Workspace, name: str
) -> int:
    factual, jacobians = ensemble.differentiate(ensemble.draw_noise(seed, indices))
    piece = {"factual": factual.contiguous(), "jacobians": jacobians.contiguous()}
    workspace.save(name, piece)
    return len(indices)


def compute(
    ensemble: Ensemble, indices: Iterable[int], seed: int = 0, here: Here | None = None
) -> Artefact:
    """Computes the Jacobians of some samples into the cache; a stopped run goes on where it was.

    ``here.memory`` bounds what all jobs together hold. Raises :class:`BadValue` for no samples
    and for numbers that repeat or are negative.
    """
    spec = KIND.spec(ensemble, seed, sample_numbers(indices, "Jacobians"))
    return KIND.compute(ensemble, spec, (here or Here()).anew())


def find(ensemble: Ensemble, seed: int = 0, here: Here | None = None) -> Jacobians | None:
    """All Jacobians of this very ensemble under ``seed`` that are at hand, or None."""
    return KIND.find(ensemble, KIND.spec(ensemble, seed, []), here or Here())


def get(
    ensemble: Ensemble, indices: Iterable[int], seed: int = 0, here: Here | None = None
) -> Jacobians:
    """The Jacobians of the samples with these numbers: those at hand, the missing ones computed."""
    here, numbers = here or Here(), [int(i) for i in indices]
    wanted = KIND.spec(ensemble, seed, list(dict.fromkeys(numbers)))
    artefacts, missing = KIND.at_hand(ensemble, wanted, here)
    if missing or not numbers:
        artefacts = [*artefacts, compute(ensemble, missing, seed, here)]
    return merge(artefacts).only(numbers)


def stored(recipe: Recipe, here: Here | None = None) -> Jacobians | None:
    """Jacobians of an ensemble that are at hand, without its members, chosen as landscapes are."""
    return KIND.stored(recipe, here or Here())


def read(artefact: Artefact) -> Jacobians:
    """An artefact's Jacobians, with every byte checked."""
    return KIND.read(artefact)


def merge(artefacts: list[Artefact]) -> Jacobians | None:
    """The samples of several artefacts of one ensemble and seed, each once, by index."""
    return KIND.merge(artefacts)


def publish(
    ensemble: Ensemble, samples: int, seed: int = 0, here: Here | None = None
) -> list[Artefact]:
    """Publishes Jacobians of the first samples, computing what is missing."""
    here, wanted = here or Here(), KIND.spec(ensemble, seed, list(range(samples)))
    return KIND.publish_missing(
        ensemble, wanted, here, lambda missing: compute(ensemble, missing, seed, here)
    )


def origin(jacobians: Jacobians) -> str:
    """Where the Jacobians come from, in a sentence."""
    return KIND.origin(jacobians.artefacts)


@dataclass(frozen=True)
class Screened:
    """Lower bounds on the radii of S samples from their k most promising counterfactuals.

    ``sources`` (S, k) by falling predicted distance, ``distances`` (S, k) exact.
    """

    indices: np.ndarray
    sources: np.ndarray
    distances: np.ndarray

    @property
    def radii(self) -> np.ndarray:
        """The largest exact distance of each sample, (S,): at most its counterfactual radius."""
        return self.distances.max(axis=1)


def _screen_task(
    ensemble: Ensemble,
    noise: ExogenousNoise,
    factual: torch.Tensor,
    owner: np.ndarray,
    source: np.ndarray,
    start: int,
) -> tuple[int, np.ndarray]:
    c = ensemble.codebook.leave_one_out(source)
    images = ensemble.sample(noise, c, torch.from_numpy(owner))
    return start, distance(images, factual[owner]).numpy()


def screened_radius(
    ensemble: Ensemble, jacobians: Jacobians, k: int, here: Here | None = None
) -> Screened:
    """Ranks counterfactuals by the differential prediction, computes each sample's top ``k``
    exactly.

    The largest is a lower bound on the counterfactual radius, and is the radius for k = N.
    It costs k instead of N counterfactuals, and the Jacobian.
    """
    here, N = here or Here(), ensemble.codebook.num_sources
    positive_int("k", k)
    if k > N:
        raise BadValue(
            f"k is {k}, but {ensemble.recipe.name} has only {N} sources; choose k of at most {N}"
        )
    sources = most_promising(jacobians.landscape(ensemble.codebook))[:, :k]
    noise = ensemble.draw_noise(jacobians.seed, jacobians.indices)
    size = trajectories_side_by_side(ensemble, here)
    starts = list(range(0, sources.size, size))

    def task(start: int) -> tuple:
        flat = np.arange(start, min(start + size, sources.size))
        mine, owner = np.unique(flat // k, return_inverse=True)
        source = sources.reshape(-1)[flat]
        return ensemble, noise[mine], jacobians.factual[mine], owner, source, start

    distances = np.empty(sources.size)
    for start, part in run_tasks(
        _screen_task,
        (task(start) for start in starts),
        len(starts),
        ensemble.device,
        here,
        total=len(starts),
        description=f"screening {ensemble.recipe.label}",
        unit="block",
    ):
        distances[start : start + len(part)] = part
    return Screened(jacobians.indices, sources, distances.reshape(sources.shape))
