"""Every counterfactual of a sample, exactly (2.1, 2.2).

All N counterfactuals of all samples start from the samples' own exogenous noise. They
are computed in blocks of trajectories; within a block every denoising step evaluates
each member once, on just the trajectories that keep it, and the first step, where all
trajectories of a sample are still one state, is computed once a sample.
"""

import dataclasses
import io
import numbers
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from abc_lib.ground.devices import parse_bytes
from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import (
    ArtefactError,
    BadValue,
    DataCorrupt,
    DataMissing,
    NotAvailable,
    positive_int,
)
from abc_lib.ground.store import Artefact, Store, Workspace, parquet_bytes, stopwatch
from abc_lib.ground.tasks import Counter, job_count, run_tasks
from abc_lib.images.training_set import TrainingSet, available, training_set
from abc_lib.method.diffusion import ExogenousNoise
from abc_lib.method.distance import distance
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.landscape import METRIC, Landscapes, _select, join
from abc_lib.method.recipe import Recipe
from abc_lib.metrics.base import Metric
from abc_lib.results.budget import block_size, samples_at_once

_KIND = "landscape"
KEEP = 8
"""how many of a sample's counterfactuals, the farthest, are kept as images unless somebody says otherwise"""


def _factual_task(
    ensemble: Ensemble, noise: ExogenousNoise, tangent_steps: int, workspace: Workspace, name: str
) -> int:
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
    ensemble: Ensemble,
    noise: ExogenousNoise,
    moving: dict[str, torch.Tensor],
    tangent_steps: int,
    owner: np.ndarray,
    source: np.ndarray,
    keep: int,
    chosen: tuple[int, ...],
    everything: bool,
    workspace: Workspace,
    name: str,
) -> int:
    """One block: counterfactuals of ``noise[owner]`` without ``source``, saved as a piece."""
    images = ensemble.sample_hybrid(
        noise,
        ensemble.codebook.leave_one_out(source),
        torch.from_numpy(owner),
        moving,
        tangent_steps,
    )
    distances = distance(images, moving["factual"][owner]).numpy()
    if everything:
        kept = np.arange(len(owner))
    else:
        # The farthest of a sample are among the farthest of each of its blocks.
        mine = [np.flatnonzero(owner == o) for o in np.unique(owner)]
        top = [m[_farthest_first(distances[m])[:keep]] for m in mine]
        kept = np.unique(np.concatenate([*top, np.flatnonzero(np.isin(source, chosen))]))
    workspace.save(
        name,
        {
            "distances": torch.from_numpy(distances),
            "kept": torch.from_numpy(kept.astype(np.int64)),
            "images": images[torch.from_numpy(kept)].contiguous(),
        },
    )
    return len(owner)


def _spec(
    ensemble: Ensemble,
    seed: int,
    indices: list[int],
    keep: int,
    chosen: tuple[int, ...],
    everything: bool,
    tangent_steps: int = 0,
) -> dict:
    # exact landscapes are named as they were before there were others
    hybrid = {"tangent_steps": int(tangent_steps)} if tangent_steps else {}
    return hybrid | {
        "recipe": ensemble.recipe.label,
        "ensemble": ensemble.identity,
        "sampling": spec_of(ensemble.recipe.sampling),
        "seed": seed,
        "indices": indices,
        "metric": METRIC,
        "keep": keep,
        "chosen": list(chosen),
        "everything": everything,
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
    whole, steps = (
        isinstance(tangent_steps, numbers.Integral) and not isinstance(tangent_steps, bool),
        ensemble.recipe.sampling.steps,
    )
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
    spec, label = (
        _spec(ensemble, seed, indices, keep, chosen, all_images, tangent_steps),
        ensemble.recipe.label,
    )
    return store.once(
        _KIND,
        label,
        spec,
        lambda workspace: _compute(
            ensemble,
            indices,
            seed,
            store,
            spec,
            workspace,
            parse_bytes(memory),
            n_jobs,
            progress,
            images,
        ),
        recompute=True,
    )


def _compute(
    ensemble, indices, seed, store, spec, workspace, memory, n_jobs, progress, images
) -> Artefact:
    recipe, book, device = ensemble.recipe, ensemble.codebook, ensemble.device
    N, seconds = book.num_sources, stopwatch()
    size = block_size(ensemble, memory, job_count(n_jobs, device))
    noise = ensemble.draw_noise(seed, indices)
    common = {"device": device, "n_jobs": n_jobs, "progress": progress}

    # Work already done is found by its name, which has the size of its block: blocks of
    # another size, from a run with another budget, are not mixed with these.
    tangent_steps = spec.get("tangent_steps", 0)
    jobs = job_count(n_jobs, device)
    width = (
        min(samples_at_once(ensemble, memory, jobs), -(-len(indices) // jobs))
        if tangent_steps
        else size
    )
    samples = [(start, f"factual-{width}-{start:06d}") for start in range(0, len(indices), width)]
    todo = [(start, name) for start, name in samples if not workspace.has(name)]
    tasks = (
        (
            ensemble,
            noise[range(start, min(start + width, len(indices)))],
            tangent_steps,
            workspace,
            name,
        )
        for start, name in todo
    )
    if todo:
        for _ in run_tasks(
            _factual_task,
            tasks,
            len(todo),
            total=len(todo),
            description=f"samples of {recipe.label}",
            unit="block",
            **common,
        ):
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
        return (
            ensemble,
            noise[mine],
            {key: value[mine] for key, value in moving.items()},
            tangent_steps,
            local,
            source,
            spec["keep"],
            tuple(spec["chosen"]),
            spec["everything"],
            workspace,
            name,
        )

    if todo:
        counter = Counter(finished)
        for count in run_tasks(
            _block_task,
            (task(*block) for block in todo),
            len(todo),
            total=len(indices) * N,
            description=f"counterfactuals of {recipe.label}",
            unit="cf",
            poll=counter,
            **common,
        ):
            counter.done += count
    return _assemble(
        ensemble, store, spec, workspace, names, owners, sources, factual, images, seconds, size
    )


def _assemble(
    ensemble, store, spec, workspace, names, owners, sources, factual, images, seconds, size
) -> Artefact:
    recipe, N = ensemble.recipe, ensemble.codebook.num_sources
    # Rounded before they are ranked: the stored distances give the stored order.
    distances = (
        np.concatenate([workspace.load(name)["distances"].numpy() for name in names])
        .reshape(-1, N)
        .astype(np.float32)
    )
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
    table = pd.DataFrame(
        {
            "sample": np.repeat(np.array(spec["indices"], dtype=np.int32), N),
            "source": np.tile(np.arange(N, dtype=np.int32), len(distances)),
            "distance": distances.reshape(-1),
        }
    )
    files = {
        "distances.parquet": parquet_bytes(table),
        "images.safetensors": {
            "factual": factual,
            "kept": kept,
            "kept_sources": torch.from_numpy(wanted),
        },
    }
    images = images_to_show(recipe) if images is None else images
    if images is not None:
        shown = attributed_positions(images, wanted[:, 0], factual)
        files["attributed.safetensors"] = {
            "images": images.images[shown].clone(),
            "labels": images.labels[shown].clone(),
            "where": images.where[shown].clone(),
        }
    if spec["everything"]:
        for o, index in enumerate(spec["indices"]):
            files[f"all-{index:06d}.safetensors"] = _AllImages(workspace, names, owners, o)
    # Evaluations are counted as if every trajectory made its first step alone.
    info = {
        "seconds": round(seconds(), 1),
        "block": size,
        "num_sources": N,
        "model": digest(recipe.model_spec),
        "member_evaluations": int(
            len(distances) * N * (ensemble.n - ensemble.codebook.weight) * recipe.sampling.steps
        ),
    }
    return store.write(_KIND, recipe.label, spec, files, info, ensemble.device)


@dataclass
class _AllImages:
    """One sample's N counterfactual images, gathered only when they are written."""

    workspace: Workspace
    names: list[str]
    owners: list[np.ndarray]
    sample: int

    def __call__(self) -> dict[str, torch.Tensor]:
        parts = [
            self.workspace.load(name)["images"][torch.from_numpy(owner == self.sample)]
            for name, owner in zip(self.names, self.owners)
            if (owner == self.sample).any()
        ]
        return {"counterfactuals": torch.cat(parts)}


def find_landscapes(
    ensemble: Ensemble,
    seed: int = 0,
    store: Store | None = None,
    keep: int = 1,
    recompute: bool = False,
    chosen: Iterable[int] = (),
    all_images: bool = False,
    tangent_steps: int = 0,
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
        artefact
        for artefact in store.find_all(_KIND, ensemble.recipe.label)
        if all(
            artefact.spec[key] == like[key] for key in ("ensemble", "sampling", "seed", "metric")
        )
        and artefact.spec["keep"] >= keep
        and set(chosen) <= set(artefact.spec["chosen"])
        and artefact.spec["everything"] >= all_images
        and artefact.spec.get("tangent_steps", 0) == tangent_steps
    ]
    return merge_landscapes(alike)


def get_landscapes(
    ensemble: Ensemble,
    num_samples: int,
    seed: int = 0,
    store: Store | None = None,
    recompute: bool = False,
    keep: int | None = None,
    chosen: Iterable[int] = (),
    all_images: bool = False,
    tangent_steps: int = 0,
    **options,
) -> Landscapes:
    """The landscapes of samples 0 .. num_samples - 1: published or cached ones first, the missing ones computed.

    ``recompute`` passes over published ones, ``keep`` over those with fewer kept images; by default
    all count, and what is computed keeps eight. ``options`` go to :func:`compute_landscapes`.
    """
    positive_int("num_samples", num_samples)
    store = store or Store()
    chosen = tuple(chosen)
    found = find_landscapes(
        ensemble, seed, store, keep or 1, recompute, chosen, all_images, tangent_steps
    )
    have = set() if found is None else set(found.indices.tolist())
    missing = [i for i in range(num_samples) if i not in have]
    parts = [] if found is None else [found]
    if missing:
        parts.append(
            read_landscapes(
                compute_landscapes(
                    ensemble,
                    missing,
                    seed,
                    store,
                    keep or KEEP,
                    chosen,
                    all_images,
                    tangent_steps=tangent_steps,
                    **options,
                )
            )
        )
    return join(parts, list(range(num_samples)))


_AT_ONCE = 1024


def attributed_image(images: TrainingSet, source: int, sample: torch.Tensor) -> int:
    """The position in ``images`` of a source's image that is nearest to a sample (as shown in figure 4)."""
    mine = torch.nonzero(images.sources == source).squeeze(1)
    if len(mine) == 0:
        raise BadValue(f"source {source} owns no image of this training set")
    # In parts, because a source may own more image files than memory holds.
    return int(
        mine[
            torch.cat(
                [distance(images.images[part], sample) for part in mine.split(_AT_ONCE)]
            ).argmin()
        ]
    )


def attributed_positions(
    images: TrainingSet, sources: np.ndarray, samples: torch.Tensor
) -> list[int]:
    return [
        attributed_image(images, int(source), sample) for source, sample in zip(sources, samples)
    ]


def images_to_show(recipe: Recipe) -> TrainingSet | None:
    """The recipe's training set if it is on this machine and sound: pictures of it are welcome but not needed."""
    if not available(recipe.data.family, recipe.data.split):
        return None
    try:
        return training_set(recipe.data)
    except (DataMissing, DataCorrupt, NotAvailable) as error:
        print(f"training images are not shown: {error}")
        return None


def with_attributed_images(landscapes: Landscapes, images: TrainingSet) -> Landscapes:
    """The same landscapes with the training images that attribution points to filled in."""
    shown = attributed_positions(images, landscapes.attributed_sources, landscapes.factual)
    return dataclasses.replace(
        landscapes,
        attributed_images=images.images[shown],
        attributed_labels=images.labels[shown].numpy(),
    )


def read_landscapes(artefact: Artefact) -> Landscapes:
    """An artefact's landscapes, with every byte checked."""
    spec = artefact.spec
    name, _, scale = spec["recipe"].rpartition("-")
    table = pd.read_parquet(io.BytesIO(artefact.read("distances.parquet")))
    N = artefact.info["num_sources"]
    found = artefact.tensors("images.safetensors")
    shown = (
        artefact.tensors("attributed.safetensors")
        if "attributed.safetensors" in artefact.manifest["files"]
        else None
    )
    return Landscapes(
        name,
        scale,
        spec["seed"],
        np.array(spec["indices"]),
        found["factual"],
        table["distance"].to_numpy(np.float64).reshape(-1, N),
        found["kept_sources"].numpy(),
        found["kept"],
        shown and shown["images"],
        shown and shown["labels"].numpy(),
        [artefact],
        spec.get("tangent_steps", 0),
    )


def read_all_images(artefact: Artefact, index: int) -> torch.Tensor:
    """All N counterfactuals of sample ``index``, (N, C, H, W), if they were asked for when it was computed."""
    name = f"all-{index:06d}.safetensors"
    if name not in artefact.manifest["files"]:
        raise ArtefactError(
            f"{artefact.path} does not hold every image of sample {index}; compute it with all_images=True"
        )
    return artefact.tensors(name)["counterfactuals"]


def merge_landscapes(artefacts: list[Artefact]) -> Landscapes | None:
    """The samples of several artefacts of one ensemble and seed, each once, by index; None if there are none."""
    parts, seen = [], set()
    for artefact in artefacts:
        fresh = [row for row, i in enumerate(artefact.spec["indices"]) if i not in seen]
        if fresh:
            seen.update(artefact.spec["indices"])
            parts.append(_select(read_landscapes(artefact), fresh))
    return join(parts, sorted(seen)) if parts else None


def metric_radii(
    ensemble: Ensemble,
    landscapes: Landscapes,
    metric: Metric,
    store: Store | None = None,
    **options,
) -> np.ndarray:
    """Counterfactual radii (S,) of the same samples, measured by another metric (C.6).

    The farthest counterfactual may be another one than in Euclidean distance, so all of
    them are looked at: those that were not kept are computed again, as exactly or as
    hybrid as ``landscapes`` are. ``options`` go to :func:`compute_landscapes`.
    """
    indices = landscapes.indices.tolist()
    artefact = compute_landscapes(
        ensemble,
        indices,
        landscapes.seed,
        store,
        1,
        all_images=True,
        tangent_steps=landscapes.tangent_steps,
        **options,
    )
    factual = read_landscapes(artefact).factual
    return np.array(
        [
            float(metric.pairwise(factual[row : row + 1], read_all_images(artefact, index)).max())
            for row, index in enumerate(indices)
        ]
    )


def kept_radii(landscapes: Landscapes, metric: Metric) -> np.ndarray:
    """By another metric, how far the farthest of a sample's *kept* counterfactuals lies: at most the radius, which
    :func:`metric_radii` has the patience for. One number for each sample of which as many are kept as of any."""
    kept = np.array([len(set(row)) for row in landscapes.kept_sources.tolist()])
    return np.array(
        [
            float(
                metric.pairwise(
                    landscapes.factual[row : row + 1], landscapes.kept_images[row]
                ).max()
            )
            for row in np.flatnonzero(kept == kept.max())
        ]
    )


@dataclass(frozen=True)
class Check:
    """A stored distance beside the same one computed now."""

    index: int
    source: int
    stored: float
    now: float

    @property
    def difference(self) -> float:
        """Absolute difference of the two."""
        return abs(self.stored - self.now)


def regenerate(ensemble: Ensemble, landscapes: Landscapes, rows: Iterable[int]) -> list[Check]:
    """Samples some factuals and their farthest counterfactuals again, in the way of the landscapes, and measures their distance."""
    rows = list(rows)
    noise = ensemble.draw_noise(landscapes.seed, landscapes.indices[rows])
    sources = landscapes.attributed_sources[rows]
    k = landscapes.tangent_steps
    moving = (
        ensemble.tangents(noise, (k,), jacobians=False)
        if k
        else {"factual": ensemble.sample(noise)}
    )
    factual = moving["factual"]
    counterfactual = ensemble.sample_hybrid(
        noise, ensemble.codebook.leave_one_out(sources), torch.arange(len(rows)), moving, k
    )
    now = distance(factual, counterfactual).tolist()
    stored = landscapes.radii[rows].tolist()
    return [
        Check(int(landscapes.indices[r]), int(s), a, b)
        for r, s, a, b in zip(rows, sources, stored, now)
    ]
