"""Differential ablation: a landscape predicted from one Jacobian (2.4), and the radius it screens for.

The Jacobian of a sample in the members' weights c is worked out by forward-mode
differentiation through the whole sampler. At each step a member is evaluated once on
the state; the n tangents of the state ride on that evaluation (see ``duals``).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from abc_lib.ground.devices import parse_bytes
from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue, positive_int
from abc_lib.ground.store import Artefact, Store, Workspace, stopwatch
from abc_lib.ground.tasks import job_count, run_blocks, run_tasks
from abc_lib.method.differential import Jacobians, _most_promising
from abc_lib.method.diffusion import ExogenousNoise
from abc_lib.method.distance import distance
from abc_lib.method.ensemble import Ensemble
from abc_lib.results.budget import block_size, samples_at_once

_KIND = "jacobian"


def _task(
    ensemble: Ensemble, seed: int, indices: list[int], workspace: Workspace, name: str
) -> int:
    factual, jacobians = ensemble.differentiate(ensemble.draw_noise(seed, indices))
    workspace.save(name, {"factual": factual.contiguous(), "jacobians": jacobians.contiguous()})
    return len(indices)


def _spec(ensemble: Ensemble, seed: int, indices: list[int]) -> dict:
    return {
        "recipe": ensemble.recipe.label,
        "ensemble": ensemble.identity,
        "sampling": spec_of(ensemble.recipe.sampling),
        "seed": seed,
        "indices": indices,
    }


def compute_jacobians(
    ensemble: Ensemble,
    indices: Iterable[int],
    seed: int = 0,
    store: Store | None = None,
    memory: int | str = "2GiB",
    n_jobs: int | None = None,
    progress: bool = True,
) -> Artefact:
    """Computes the Jacobians of some samples and writes them to the cache; a stopped run goes on where it was.

    ``memory`` bounds what all jobs together hold.
    """
    store = store or Store()
    indices = [int(i) for i in indices]
    if not indices or len(set(indices)) != len(indices) or min(indices) < 0:
        raise BadValue(
            "Jacobians are asked for by sample numbers: at least one, all different, from 0 on"
        )
    spec, label, device = _spec(ensemble, seed, indices), ensemble.recipe.label, ensemble.device

    def make(workspace: Workspace) -> Artefact:
        seconds = stopwatch()
        size = samples_at_once(ensemble, parse_bytes(memory), job_count(n_jobs, device))
        # No larger than what keeps all jobs busy.
        size = min(size, -(-len(indices) // job_count(n_jobs, device)))
        tasks = {
            f"jacobians-{size}-{start:06d}": (ensemble, seed, indices[start : start + size])
            for start in range(0, len(indices), size)
        }
        run_blocks(_task, tasks, workspace, device, f"Jacobians of {label}", n_jobs, progress)
        pieces = [workspace.load(name) for name in tasks]
        content = {
            key: torch.cat([piece[key] for piece in pieces]) for key in ("factual", "jacobians")
        }
        # An error of 2**-11 is nothing beside that of a prediction to first order, and half the bytes are kept.
        content["jacobians"] = content["jacobians"].half()
        info = {
            "seconds": round(seconds(), 1),
            "block": size,
            "model": digest(ensemble.recipe.model_spec),
            "members": ensemble.n,
        }
        return store.write(_KIND, label, spec, {"jacobians.safetensors": content}, info, device)

    return store.once(_KIND, label, spec, make, recompute=True)


def read_jacobians(artefact: Artefact) -> Jacobians:
    """An artefact's Jacobians, with every byte checked."""
    name, _, scale = artefact.spec["recipe"].rpartition("-")
    found = artefact.tensors("jacobians.safetensors")
    spec = artefact.spec
    return Jacobians(
        name,
        scale,
        spec["seed"],
        np.array(spec["indices"]),
        found["factual"],
        found["jacobians"].float(),
        [artefact],
    )


def merge_jacobians(artefacts: list[Artefact]) -> Jacobians | None:
    """The samples of several artefacts of one ensemble and seed, each once, by index; None if there are none."""
    parts, seen = [], set()
    for artefact in artefacts:
        fresh = [i for i in artefact.spec["indices"] if i not in seen]
        if fresh:
            seen.update(fresh)
            parts.append(read_jacobians(artefact).only(fresh))
    if not parts:
        return None
    return Jacobians(
        parts[0].name,
        parts[0].scale,
        parts[0].seed,
        np.concatenate([p.indices for p in parts]),
        torch.cat([p.factual for p in parts]),
        torch.cat([p.jacobians for p in parts]),
        [a for p in parts for a in p.artefacts],
    ).only(sorted(seen))


def find_jacobians(
    ensemble: Ensemble, seed: int = 0, store: Store | None = None, recompute: bool = False
) -> Jacobians | None:
    """All Jacobians of this very ensemble under ``seed`` that are published or in the cache, or None.

    ``recompute`` passes over published ones.
    """
    store = store or Store()
    if recompute:
        store = Store(store.cache, None)
    like = _spec(ensemble, seed, [])
    return merge_jacobians(
        [
            a
            for a in store.find_all(_KIND, ensemble.recipe.label)
            if all(a.spec[key] == like[key] for key in ("ensemble", "sampling", "seed"))
        ]
    )


def get_jacobians(
    ensemble: Ensemble,
    indices: Iterable[int],
    seed: int = 0,
    store: Store | None = None,
    recompute: bool = False,
    **options,
) -> Jacobians:
    """The Jacobians of the samples with these numbers: published or cached ones first, the missing ones computed.

    ``options`` go to :func:`compute_jacobians`.
    """
    store = store or Store()
    indices = [int(i) for i in indices]
    found = find_jacobians(ensemble, seed, store, recompute)
    have = set() if found is None else set(found.indices.tolist())
    missing = [i for i in dict.fromkeys(indices) if i not in have]
    artefacts = [] if found is None else list(found.artefacts)
    if missing or not indices:
        artefacts.append(compute_jacobians(ensemble, missing, seed, store, **options))
    return merge_jacobians(artefacts).only(indices)


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
):
    images = ensemble.sample(
        noise, ensemble.codebook.leave_one_out(source), torch.from_numpy(owner)
    )
    return start, distance(images, factual[owner]).numpy()


def screened_radius(
    ensemble: Ensemble,
    jacobians: Jacobians,
    k: int,
    memory: int | str = "2GiB",
    n_jobs: int | None = None,
    progress: bool = True,
) -> Screened:
    """Ranks the counterfactuals by the differential prediction and computes only the top ``k`` of each sample exactly.

    The largest is a lower bound on the counterfactual radius, and is the radius for k = N.
    It costs k instead of N counterfactuals, and the Jacobian.
    """
    N, device = ensemble.codebook.num_sources, ensemble.device
    positive_int("k", k)
    if k > N:
        raise BadValue(
            f"k is {k}, but {ensemble.recipe.name} has only {N} sources; choose k of at most {N}"
        )
    sources = _most_promising(jacobians.landscape(ensemble.codebook))[:, :k]
    noise = ensemble.draw_noise(jacobians.seed, jacobians.indices)
    size = block_size(ensemble, parse_bytes(memory), job_count(n_jobs, device))
    starts = list(range(0, sources.size, size))

    def task(start: int):
        flat = np.arange(start, min(start + size, sources.size))
        mine, owner = np.unique(flat // k, return_inverse=True)
        return (
            ensemble,
            noise[mine],
            jacobians.factual[mine],
            owner,
            sources.reshape(-1)[flat],
            start,
        )

    distances = np.empty(sources.size)
    for start, part in run_tasks(
        _screen_task,
        (task(s) for s in starts),
        len(starts),
        device=device,
        total=len(starts),
        description=f"screening {ensemble.recipe.label}",
        unit="block",
        n_jobs=n_jobs,
        progress=progress,
    ):
        distances[start : start + len(part)] = part
    return Screened(jacobians.indices, sources, distances.reshape(sources.shape))
