"""Every counterfactual of a sample, exactly (2.1, 2.2).

All N counterfactuals of all samples start from the samples' own exogenous noise. They
are computed in blocks of trajectories; within a block every denoising step evaluates
each member once, on just the trajectories that keep it, and the first step, where all
trajectories of a sample are still one state, is computed once a sample.
"""

import numbers
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from ..datasets import TrainingSet
from ..diffusion import ExogenousNoise
from ..ensemble import Ensemble
from ..errors import BadValue, positive_int
from ..metrics import euclidean
from ..recipes import digest, spec_of
from ..store import Artefact, Store, Workspace, parquet_bytes, stopwatch
from ..tasks import Counter, job_count, run_tasks
from .budget import block_size, parse_bytes, samples_at_once
from .values import METRIC, Landscapes, attributed_positions, images_to_show, join, merge_landscapes, read_landscapes

_KIND = "landscape"
KEEP = 8
"""how many of a sample's counterfactuals, the farthest, are kept as images unless somebody says otherwise"""


def _factual_task(ensemble: Ensemble, noise: ExogenousNoise, tangent_steps: int, workspace: Workspace, name: str) -> int:
    if tangent_steps:
        pieces = ensemble.tangents(noise, (tangent_steps,), jacobians=False)
    else:
        pieces = {"factual": ensemble.sample(noise).contiguous()}
    workspace.save(name, pieces)
    return len(noise)


def _farthest_first(distances: np.ndarray) -> np.ndarray:
    """Positions by falling distance; equal distances by position."""
    return np.argsort(-distances, kind="stable")


def _block_task(
    ensemble: Ensemble, noise: ExogenousNoise, moving: dict[str, torch.Tensor], tangent_steps: int, owner: np.ndarray,
    source: np.ndarray, keep: int, chosen: tuple[int, ...], everything: bool, workspace: Workspace, name: str,
) -> int:
    """One block: counterfactuals of ``noise[owner]`` without ``source``, saved as a piece."""
    images = ensemble.sample_hybrid(noise, ensemble.codebook.leave_one_out(source), torch.from_numpy(owner), moving, tangent_steps)
    distances = euclidean(images, moving["factual"][owner]).numpy()
    if everything:
        kept = np.arange(len(owner))
    else:
        # The farthest of a sample are among the farthest of each of its blocks.
        mine = [np.flatnonzero(owner == o) for o in np.unique(owner)]
        top = [m[_farthest_first(distances[m])[:keep]] for m in mine]
        kept = np.unique(np.concatenate([*top, np.flatnonzero(np.isin(source, chosen))]))
    workspace.save(name, {
        "distances": torch.from_numpy(distances),
        "kept": torch.from_numpy(kept.astype(np.int64)),
        "images": images[torch.from_numpy(kept)].contiguous(),
    })
    return len(owner)


def _spec(
    ensemble: Ensemble, seed: int, indices: list[int], keep: int, chosen: tuple[int, ...], everything: bool, tangent_steps: int = 0,
) -> dict:
    # exact landscapes are named as they were before there were others
    hybrid = {"tangent_steps": int(tangent_steps)} if tangent_steps else {}
    return hybrid | {
        "recipe": ensemble.recipe.label, "ensemble": ensemble.identity, "sampling": spec_of(ensemble.recipe.sampling),
        "seed": seed, "indices": indices, "metric": METRIC, "keep": keep, "chosen": list(chosen), "everything": everything,
    }


def compute_landscapes(
    ensemble: Ensemble,
    indices: Iterable[int],
    seed: int = 0,
    store: Store | None = None,
    keep: int = KEEP,
    chosen: Iterable[int] = (),
    all_images: bool = False,
    memory: int | str = "2GiB",
    n_jobs: int | None = None,
    progress: bool = True,
    images: TrainingSet | None = None,
    tangent_steps: int = 0,
) -> Artefact:
    """Computes the landscapes of some samples and writes them to the cache; a stopped run goes on where it was.

    ``keep`` farthest counterfactuals of each sample, those without the ``chosen``
    sources, or all of them (``all_images``) are stored as images; distances are stored
    for all. ``memory`` bounds what all jobs together hold of activations and
    states, whatever N is. ``images`` is the training set that attributed images are shown from,
    by default the recipe's if it is on this machine.

    With ``tangent_steps`` k > 0 the landscapes are hybrid: tangents carry all
    counterfactuals through the first k steps, and only the rest is computed for each.
    That saves about k / T of the work and is not exact: see the chapter on differential
    ablation for the error that was measured.
    """
    store = store or Store()
    whole, steps = isinstance(tangent_steps, numbers.Integral) and not isinstance(tangent_steps, bool), ensemble.recipe.sampling.steps
    if not whole or not 0 <= tangent_steps <= steps:
        raise BadValue(f"tangents can be carried through 0 to {steps} steps, not {tangent_steps}")
    indices = [int(i) for i in indices]
    if len(set(indices)) != len(indices) or any(i < 0 for i in indices):
        raise BadValue("sample indices must be different whole numbers from 0 on")
    if not indices:
        raise BadValue("no samples were asked for; give at least one index")
    positive_int("keep", keep)
    book = ensemble.codebook
    chosen = tuple(sorted(set(int(s) for s in chosen)))
    if chosen and not (0 <= chosen[0] and chosen[-1] < book.num_sources):
        raise BadValue(f"chosen sources must be in 0..{book.num_sources - 1}")
    keep = min(keep, book.num_sources)
    spec, label = _spec(ensemble, seed, indices, keep, chosen, all_images, tangent_steps), ensemble.recipe.label
    return store.once(
        _KIND, label, spec, lambda workspace: _compute(ensemble, indices, seed, store, spec, workspace, parse_bytes(memory), n_jobs, progress, images),
        recompute=True)


def _compute(ensemble, indices, seed, store, spec, workspace, memory, n_jobs, progress, images) -> Artefact:
    recipe, book, device = ensemble.recipe, ensemble.codebook, ensemble.device
    N, seconds = book.num_sources, stopwatch()
    size = block_size(ensemble, memory, job_count(n_jobs, device))
    noise = ensemble.draw_noise(seed, indices)
    common = {"device": device, "n_jobs": n_jobs, "progress": progress}

    # Work already done is found by its name, which has the size of its block: blocks of
    # another size, from a run with another budget, are not mixed with these.
    tangent_steps = spec.get("tangent_steps", 0)
    jobs = job_count(n_jobs, device)
    width = min(samples_at_once(ensemble, memory, jobs), -(-len(indices) // jobs)) if tangent_steps else size
    samples = [(start, f"factual-{width}-{start:06d}") for start in range(0, len(indices), width)]
    todo = [(start, name) for start, name in samples if not workspace.has(name)]
    tasks = ((ensemble, noise[range(start, min(start + width, len(indices)))], tangent_steps, workspace, name) for start, name in todo)
    if todo:
        for _ in run_tasks(_factual_task, tasks, len(todo), total=len(todo), description=f"samples of {recipe.label}",
                           unit="block", **common):
            pass
    pieces = [workspace.load(name) for _, name in samples]
    moving = {key: torch.cat([piece[key] for piece in pieces]) for key in pieces[0]}
    factual = moving["factual"]

    starts = list(range(0, len(indices) * N, size))
    names = [f"block-{size}-{start:09d}" for start in starts]
    owners = [np.arange(start, min(start + size, len(indices) * N)) // N for start in starts]
    sources = [np.arange(start, min(start + size, len(indices) * N)) % N for start in starts]
    blocks = list(zip(owners, sources, names))
    todo = [block for block in blocks if not workspace.has(block[2])]
    finished = sum(len(owner) for owner, _, _ in blocks) - sum(len(owner) for owner, _, _ in todo)

    def task(owner, source, name):
        mine, local = np.unique(owner, return_inverse=True)
        return (ensemble, noise[mine], {key: value[mine] for key, value in moving.items()}, tangent_steps, local, source,
                spec["keep"], tuple(spec["chosen"]), spec["everything"], workspace, name)

    if todo:
        counter = Counter(finished)
        for count in run_tasks(_block_task, (task(*block) for block in todo), len(todo), total=len(indices) * N,
                               description=f"counterfactuals of {recipe.label}", unit="cf", poll=counter, **common):
            counter.done += count
    return _assemble(ensemble, store, spec, workspace, names, owners, sources, factual, images, seconds, size)


def _assemble(ensemble, store, spec, workspace, names, owners, sources, factual, images, seconds, size) -> Artefact:
    recipe, N = ensemble.recipe, ensemble.codebook.num_sources
    # Rounded before they are ranked: the stored distances give the stored order.
    distances = np.concatenate([workspace.load(name)["distances"].numpy() for name in names]).reshape(-1, N).astype(np.float32)
    order = [_farthest_first(row)[: spec["keep"]] for row in distances]
    wanted = [list(row) + [s for s in spec["chosen"] if s not in row] for row in order]
    width = max(map(len, wanted))
    # A chosen source can be among the farthest of some samples only: fill up with the next farthest kept one, the first.
    wanted = np.array([row + [row[0]] * (width - len(row)) for row in wanted], dtype=np.int64)
    kept = torch.zeros(*wanted.shape, *factual.shape[1:])
    for owner, source, name in zip(owners, sources, names):
        piece = workspace.load(name)
        for position, image in zip(piece["kept"].tolist(), piece["images"]):
            o, s = owner[position], source[position]
            for slot in np.flatnonzero(wanted[o] == s):
                kept[o, slot] = image
    table = pd.DataFrame({
        "sample": np.repeat(np.array(spec["indices"], dtype=np.int32), N),
        "source": np.tile(np.arange(N, dtype=np.int32), len(distances)),
        "distance": distances.reshape(-1),
    })
    files = {
        "distances.parquet": parquet_bytes(table),
        "images.safetensors": {"factual": factual, "kept": kept, "kept_sources": torch.from_numpy(wanted)},
    }
    images = images_to_show(recipe) if images is None else images
    if images is not None:
        shown = attributed_positions(images, wanted[:, 0], factual)
        files["attributed.safetensors"] = {
            "images": images.images[shown].clone(), "labels": images.labels[shown].clone(),
            "where": images.where[shown].clone(),
        }
    if spec["everything"]:
        for o, index in enumerate(spec["indices"]):
            files[f"all-{index:06d}.safetensors"] = _AllImages(workspace, names, owners, o)
    # Evaluations are counted as if every trajectory made its first step alone.
    info = {"seconds": round(seconds(), 1), "block": size, "num_sources": N, "model": digest(recipe.model_spec),
            "member_evaluations": int(len(distances) * N * (ensemble.n - ensemble.codebook.weight) * recipe.sampling.steps)}
    return store.write(_KIND, recipe.label, spec, files, info, ensemble.device)


@dataclass
class _AllImages:
    """One sample's N counterfactual images, gathered only when they are written."""

    workspace: Workspace
    names: list[str]
    owners: list[np.ndarray]
    sample: int

    def __call__(self) -> dict[str, torch.Tensor]:
        parts = [self.workspace.load(name)["images"][torch.from_numpy(owner == self.sample)]
                 for name, owner in zip(self.names, self.owners) if (owner == self.sample).any()]
        return {"counterfactuals": torch.cat(parts)}


def find_landscapes(
    ensemble: Ensemble, seed: int = 0, store: Store | None = None, keep: int = 1, recompute: bool = False,
    chosen: Iterable[int] = (), all_images: bool = False, tangent_steps: int = 0,
) -> Landscapes | None:
    """All landscapes of this very ensemble under ``seed`` that are published or in the cache, or None.

    Only those count that kept at least the images asked for, and exact ones are never mixed with
    hybrid ones; ``recompute`` passes over published ones.
    """
    store = store or Store()
    if recompute:
        store = Store(store.cache, None)
    keep = min(keep, ensemble.codebook.num_sources)
    like = _spec(ensemble, seed, [], 0, (), False)
    alike = [
        artefact for artefact in store.find_all(_KIND, ensemble.recipe.label)
        if all(artefact.spec[key] == like[key] for key in ("ensemble", "sampling", "seed", "metric"))
        and artefact.spec["keep"] >= keep and set(chosen) <= set(artefact.spec["chosen"])
        and artefact.spec["everything"] >= all_images and artefact.spec.get("tangent_steps", 0) == tangent_steps
    ]
    return merge_landscapes(alike)


def get_landscapes(
    ensemble: Ensemble, num_samples: int, seed: int = 0, store: Store | None = None, recompute: bool = False, keep: int | None = None,
    chosen: Iterable[int] = (), all_images: bool = False, tangent_steps: int = 0, **options,
) -> Landscapes:
    """The landscapes of samples 0 .. num_samples - 1: published or cached ones first, the missing ones computed.

    ``recompute`` passes over published ones, ``keep`` over those with fewer kept images; by default
    all count, and what is computed keeps eight. ``options`` go to :func:`compute_landscapes`.
    """
    positive_int("num_samples", num_samples)
    store = store or Store()
    chosen = tuple(chosen)
    found = find_landscapes(ensemble, seed, store, keep or 1, recompute, chosen, all_images, tangent_steps)
    have = set() if found is None else set(found.indices.tolist())
    missing = [i for i in range(num_samples) if i not in have]
    parts = [] if found is None else [found]
    if missing:
        parts.append(read_landscapes(compute_landscapes(ensemble, missing, seed, store, keep or KEEP, chosen, all_images,
                                                        tangent_steps=tangent_steps, **options)))
    return join(parts, list(range(num_samples)))
