"""Landscapes: every counterfactual of a sample, exactly or hybrid (2.1, 2.2, 2.4).

All N counterfactuals of all samples start from the samples' own exogenous noise. They
are computed in blocks of trajectories; within a block every denoising step evaluates
each member once, on just the trajectories that keep it, and the first step, where all
trajectories of a sample are still one state, is computed once a sample.
"""

import dataclasses
import numbers
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from abc_lib.ground.digests import digest
from abc_lib.ground.errors import ArtefactError, BadValue, positive_int
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact, Workspace, parquet_bytes
from abc_lib.ground.tasks import run_blocks
from abc_lib.images.training_set import (
    TrainingSet,
    as_shown,
    attributed_image,
    shown_images,
    training_set_at_hand,
)
from abc_lib.method.diffusion import ExogenousNoise
from abc_lib.method.distance import distance
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.landscape import METRIC, Landscapes, counterfactuals, join
from abc_lib.method.recipe import Recipe
from abc_lib.metrics.base import Metric
from abc_lib.results.kind import BySample, fresh_rows, name_and_scale, sample_numbers
from abc_lib.training.budget import samples_side_by_side, trajectories_side_by_side

__all__ = [
    "DEFAULT_SAMPLES",
    "KEEP",
    "KIND",
    "Check",
    "Landscapes",
    "attributed_image",
    "compute",
    "counterfactuals",
    "find",
    "get",
    "kept_radii",
    "merge",
    "metric_radii",
    "origin",
    "publish",
    "read",
    "read_all_images",
    "regenerate",
    "stored",
]

DEFAULT_SAMPLES = 12
"""how many samples are computed when none are at hand and nobody says how many"""
KEEP = 8
"""how many of a sample's counterfactuals, the farthest, are kept as images unless told otherwise"""
SHOWN = 8
"""Samples that are published with several counterfactuals as images. The others show one: a
hundred of each would be megabytes."""


class _Landscapes(BySample[Landscapes]):
    folder, title = "landscape", "Landscapes"
    same = ("ensemble", "sampling", "seed", "metric")

    def spec_for(
        self,
        ensemble: Ensemble,
        seed: int,
        indices: list[int],
        keep: int = 0,
        chosen: tuple[int, ...] = (),
        everything: bool = False,
        tangent_steps: int = 0,
    ) -> dict:
        """The spec of landscapes; exact ones are named as they were before there were others."""
        hybrid = {"tangent_steps": int(tangent_steps)} if tangent_steps else {}
        kept = {"keep": keep, "chosen": list(chosen), "everything": everything}
        return self.spec(ensemble, seed, indices, metric=METRIC, **kept, **hybrid)

    def accepts(self, spec: dict, wanted: dict) -> bool:
        """Landscapes that kept at least the images asked for; exact and hybrid ones never mix."""
        return (
            spec["keep"] >= wanted.get("keep", 0)
            and set(wanted.get("chosen", ())) <= set(spec["chosen"])
            and spec["everything"] >= wanted.get("everything", False)
            and spec.get("tangent_steps", 0) == wanted.get("tangent_steps", 0)
        )

    def build(self, model, spec, workspace, here, images=None):
        """Samples first, then all their counterfactuals in blocks, then the farthest as images."""
        recipe, N = model.recipe, model.codebook.num_sources
        moving = _factuals(model, spec, workspace, here)
        factual = moving["factual"]
        names, owners, size = _blocks(model, spec, moving, workspace, here)
        # Rounded before they are ranked: the stored distances give the stored order.
        pieces = [workspace.need(name)["distances"].numpy() for name in names]
        distances = np.concatenate(pieces).reshape(-1, N).astype(np.float32)
        wanted = _kept_sources(distances, spec)
        kept = _kept_images(workspace, owners, wanted, factual, N)
        files = {
            "distances.parquet": parquet_bytes(_table(spec["indices"], distances)),
            "images.safetensors": {
                # Shown, not measured: half precision is finer than a screen.
                "factual": factual.half(),
                "kept": kept.half(),
                "kept_sources": torch.from_numpy(wanted),
            },
        }
        images = training_set_at_hand(recipe.data) if images is None else images
        if images is not None:
            files["attributed.safetensors"] = shown_images(images, wanted[:, 0], factual)
        if spec["everything"]:
            for o, index in enumerate(spec["indices"]):
                files[f"all-{index:06d}.safetensors"] = _AllImages(workspace, owners, o, N)
        # Evaluations are counted as if every trajectory made its first step alone.
        left = model.n - model.codebook.weight
        info = {
            "block": size,
            "num_sources": N,
            "model": digest(recipe.model_spec),
            "member_evaluations": int(distances.size * left * recipe.sampling.steps),
        }
        return files, info

    def read(self, artefact: Artefact) -> Landscapes:
        """An artefact's landscapes, with every byte checked."""
        spec = artefact.spec
        table = artefact.table("distances.parquet")
        distances = table["distance"].to_numpy(np.float64)
        images = artefact.tensors("images.safetensors")
        shown = None
        if "attributed.safetensors" in artefact.manifest["files"]:
            shown = artefact.tensors("attributed.safetensors")
        return Landscapes(
            *name_and_scale(artefact),
            spec["seed"],
            np.array(spec["indices"]),
            images["factual"].float(),
            distances.reshape(-1, artefact.info["num_sources"]),
            images["kept_sources"].numpy(),
            images["kept"].float(),
            shown and as_shown(shown["images"]),
            shown and shown["labels"].numpy(),
            [artefact],
            spec.get("tangent_steps", 0),
        )

    def completed(self, found: Landscapes, recipe: Recipe) -> Landscapes:
        """With the training images that attribution points to, if they are at hand by now."""
        lacking = found.attributed_images is None
        images = training_set_at_hand(recipe.data) if lacking else None
        if images is None:
            return found
        shown = shown_images(images, found.attributed_sources, found.factual)
        return dataclasses.replace(
            found,
            attributed_images=as_shown(shown["images"]),
            attributed_labels=shown["labels"].numpy(),
        )

    def merge(self, artefacts: list[Artefact]) -> Landscapes | None:
        """The samples of several artefacts of one ensemble and seed, each once, by index."""
        parts = [self.read(artefact).select(rows) for artefact, rows in fresh_rows(artefacts)]
        indices = sorted(int(i) for part in parts for i in part.indices)
        return join(parts, indices) if parts else None

    def words(self, artefact: Artefact) -> str:
        """Samples, and counterfactuals of each."""
        sources = artefact.info["num_sources"]
        return f"{self.size(artefact)} samples with {sources:,} counterfactuals each"


KIND = _Landscapes()


# --- the verbs ---


def compute(
    ensemble: Ensemble,
    indices: Iterable[int],
    seed: int = 0,
    keep: int = KEEP,
    chosen: Iterable[int] = (),
    all_images: bool = False,
    images: TrainingSet | None = None,
    tangent_steps: int = 0,
    here: Here | None = None,
) -> Artefact:
    """Computes the landscapes of some samples into the cache; a stopped run goes on where it was.

    ``keep`` farthest counterfactuals of each sample, those without the ``chosen``
    sources, or all of them (``all_images``) are stored as images; distances are stored
    for all. ``here.memory`` bounds what all jobs together hold of activations and
    states, whatever N is. ``images`` is the training set that attributed images are shown
    from, by default the recipe's if it is on this machine.

    With ``tangent_steps`` k > 0 the landscapes are hybrid: tangents carry all
    counterfactuals through the first k steps, and only the rest is computed for each.
    That saves about k / T of the work and is not exact: see the chapter on differential
    ablation for the error that was measured.

    Raises :class:`BadValue` for samples, sources or steps that cannot be.
    """
    here = here or Here()
    whole = isinstance(tangent_steps, numbers.Integral) and not isinstance(tangent_steps, bool)
    steps = ensemble.recipe.sampling.steps
    if not whole or not 0 <= tangent_steps <= steps:
        raise BadValue(f"tangents can be carried through 0 to {steps} steps, not {tangent_steps}")
    numbers_asked = sample_numbers(indices)
    positive_int("keep", keep)
    N = ensemble.codebook.num_sources
    chosen = tuple(sorted({int(s) for s in chosen}))
    if chosen and not (0 <= chosen[0] and chosen[-1] < N):
        raise BadValue(f"chosen sources must be in 0..{N - 1}")
    kept = (min(keep, N), chosen, all_images, tangent_steps)
    spec = KIND.spec_for(ensemble, seed, numbers_asked, *kept)
    return KIND.compute(ensemble, spec, here.anew(), images=images)


def find(
    ensemble: Ensemble,
    seed: int = 0,
    keep: int = 1,
    chosen: Iterable[int] = (),
    all_images: bool = False,
    tangent_steps: int = 0,
    here: Here | None = None,
) -> Landscapes | None:
    """All landscapes of this very ensemble under ``seed`` that are at hand, or None.

    Only those count that kept at least the images asked for, and exact ones are never mixed
    with hybrid ones. Where attributed images were not at hand when landscapes were computed, and
    are now, they are filled in.
    """
    keep = min(keep, ensemble.codebook.num_sources)
    wanted = KIND.spec_for(ensemble, seed, [], keep, tuple(chosen), all_images, tangent_steps)
    return KIND.find(ensemble, wanted, here or Here())


def get(
    ensemble: Ensemble,
    num_samples: int | None = None,
    seed: int = 0,
    keep: int | None = None,
    chosen: Iterable[int] = (),
    all_images: bool = False,
    images: TrainingSet | None = None,
    tangent_steps: int = 0,
    here: Here | None = None,
) -> Landscapes:
    """The landscapes of samples 0 .. num_samples - 1: those at hand, the missing ones computed.

    ``num_samples=None`` takes all samples that are at hand, or computes 12. ``keep`` passes over
    those with fewer kept images; by default all count, and what is computed keeps eight. Other
    arguments as :func:`compute`.
    """
    here = here or Here()
    if num_samples is not None:
        positive_int("num_samples", num_samples)
    chosen, how = tuple(chosen), {"all_images": all_images, "tangent_steps": tangent_steps}
    known = find(ensemble, seed, keep or 1, chosen, **how, here=here)
    there = [] if known is None else known.indices.tolist()
    wanted = range(num_samples or DEFAULT_SAMPLES) if num_samples or not there else there
    missing = sorted(set(wanted) - set(there))
    parts = [] if known is None else [known]
    if missing:
        made = compute(
            ensemble, missing, seed, keep or KEEP, chosen, images=images, **how, here=here
        )
        parts.append(KIND.read(made))
    return join(parts, wanted)


def stored(recipe: Recipe, here: Here | None = None) -> Landscapes | None:
    """Exact landscapes of an ensemble that are at hand, without loading its members; or None.

    If several ensembles of this recipe were trained, the published one counts, else the
    one with most samples.
    """
    return KIND.stored(recipe, here or Here())


def read(artefact: Artefact) -> Landscapes:
    """An artefact's landscapes, with every byte checked."""
    return KIND.read(artefact)


def merge(artefacts: list[Artefact]) -> Landscapes | None:
    """The samples of several artefacts of one ensemble and seed, each once, by index."""
    return KIND.merge(artefacts)


def publish(
    ensemble: Ensemble, samples: int, seed: int = 0, here: Here | None = None
) -> list[Artefact]:
    """Publishes exact landscapes of the first samples, computing what is missing.

    A few show several counterfactuals as images, the others the farthest only.
    """
    here = here or Here()
    made = []
    for part, keep in ((range(min(samples, SHOWN)), KEEP), (range(SHOWN, samples), 1)):
        least = min(keep, ensemble.codebook.num_sources)
        wanted = KIND.spec_for(ensemble, seed, list(part), least)

        def missing(indices: list[int], keep: int = keep) -> Artefact:
            return compute(ensemble, indices, seed, keep, here=here)

        made += KIND.publish_missing(ensemble, wanted, here, missing)
    return made


def origin(landscapes: Landscapes) -> str:
    """Where the landscapes' numbers come from, in a sentence."""
    return KIND.origin(landscapes.artefacts)


# --- how they are computed ---


def _factual_task(
    ensemble: Ensemble, noise: ExogenousNoise, tangent_steps: int, workspace: Workspace, name: str
) -> int:
    if tangent_steps:
        piece = ensemble.tangents(noise, (tangent_steps,), jacobians=False)
    else:
        piece = {"factual": ensemble.sample(noise).contiguous()}
    workspace.save(name, piece)
    return len(noise)


def _factuals(ensemble: Ensemble, spec: dict, workspace: Workspace, here: Here) -> dict:
    """The samples, with what carries hybrid counterfactuals where they are asked for."""
    indices, tangent_steps = spec["indices"], spec.get("tangent_steps", 0)
    # Work already done is found by its name, which has the size of its block: blocks of
    # another size, from a run with another budget, are not mixed with these.
    if tangent_steps:
        size = samples_side_by_side(ensemble, len(indices), here)
    else:
        size = trajectories_side_by_side(ensemble, here)
    noise = ensemble.draw_noise(spec["seed"], indices)
    tasks = {
        f"factual-{size}-{start:06d}": (
            ensemble,
            noise[range(start, min(start + size, len(indices)))],
            tangent_steps,
        )
        for start in range(0, len(indices), size)
    }
    what = f"samples of {ensemble.recipe.label}"
    pieces = run_blocks(_factual_task, tasks, workspace, ensemble.device, here, what)
    return {key: torch.cat([piece[key] for piece in pieces]) for key in pieces[0]}


def farthest_first(distances: np.ndarray) -> np.ndarray:
    """Positions by falling distance; equal distances by position."""
    return np.argsort(-distances, kind="stable")


@dataclass
class _Block:
    """Counterfactuals of ``noise[owner]`` without ``source``; which of them are kept as images."""

    noise: ExogenousNoise
    moving: dict[str, torch.Tensor]
    owner: np.ndarray
    source: np.ndarray
    tangent_steps: int
    keep: int
    chosen: list[int]
    everything: bool

    def kept(self, distances: np.ndarray) -> np.ndarray:
        """Positions in the block of what may be kept of each sample."""
        if self.everything:
            return np.arange(len(self.owner))
        # The farthest of a sample are among the farthest of each of its blocks.
        mine = [np.flatnonzero(self.owner == o) for o in np.unique(self.owner)]
        top = [m[farthest_first(distances[m])[: self.keep]] for m in mine]
        chosen = np.flatnonzero(np.isin(self.source, self.chosen))
        return np.unique(np.concatenate([*top, chosen]))


def _block_task(ensemble: Ensemble, block: _Block, workspace: Workspace, name: str) -> int:
    images = ensemble.sample_hybrid(
        block.noise,
        ensemble.codebook.leave_one_out(block.source),
        torch.from_numpy(block.owner),
        block.moving,
        block.tangent_steps,
    )
    distances = distance(images, block.moving["factual"][block.owner]).numpy()
    kept = torch.from_numpy(block.kept(distances).astype(np.int64))
    piece = {"distances": torch.from_numpy(distances), "kept": kept}
    workspace.save(name, piece | {"images": images[kept].contiguous()})
    return len(block.owner)


def _blocks(
    ensemble: Ensemble, spec: dict, moving: dict, workspace: Workspace, here: Here
) -> tuple[list[str], dict[str, np.ndarray], int]:
    """Computes all blocks; their names, which (sample, source) pairs each holds, and their size."""
    N, size = ensemble.codebook.num_sources, trajectories_side_by_side(ensemble, here)
    total = len(spec["indices"]) * N
    noise = ensemble.draw_noise(spec["seed"], spec["indices"])
    pairs = {
        f"block-{size}-{start:09d}": np.arange(start, min(start + size, total))
        for start in range(0, total, size)
    }

    def task(name: str) -> tuple[Ensemble, _Block]:
        owner, source = np.divmod(pairs[name], N)
        mine, local = np.unique(owner, return_inverse=True)
        carried = {key: value[mine] for key, value in moving.items()}
        kept = (spec["keep"], spec["chosen"], spec["everything"])
        steps = spec.get("tangent_steps", 0)
        return ensemble, _Block(noise[mine], carried, local, source, steps, *kept)

    run_blocks(
        _block_task,
        {name: lambda name=name: task(name) for name in pairs},
        workspace,
        ensemble.device,
        here,
        f"counterfactuals of {ensemble.recipe.label}",
        unit="cf",
        sizes={name: len(each) for name, each in pairs.items()},
    )
    return list(pairs), pairs, size


def _kept_sources(distances: np.ndarray, spec: dict) -> np.ndarray:
    """Of each sample the farthest sources, then the chosen ones, (S, K)."""
    order = [farthest_first(row)[: spec["keep"]] for row in distances]
    wanted = [list(row) + [s for s in spec["chosen"] if s not in row] for row in order]
    width = max(map(len, wanted))
    # A chosen source can be among the farthest of some samples only: fill up with the first.
    return np.array([row + [row[0]] * (width - len(row)) for row in wanted], dtype=np.int64)


def _kept_images(
    workspace: Workspace,
    pairs: dict[str, np.ndarray],
    wanted: np.ndarray,
    factual: torch.Tensor,
    N: int,
) -> torch.Tensor:
    kept = torch.zeros(*wanted.shape, *factual.shape[1:])
    for name, flat in pairs.items():
        piece = workspace.need(name)
        for position, image in zip(piece["kept"].tolist(), piece["images"], strict=True):
            o, s = divmod(int(flat[position]), N)
            for slot in np.flatnonzero(wanted[o] == s):
                kept[o, slot] = image
    return kept


def _table(indices: list[int], distances: np.ndarray):
    import pandas as pd

    S, N = distances.shape
    columns = {
        "sample": np.repeat(np.array(indices, dtype=np.int32), N),
        "source": np.tile(np.arange(N, dtype=np.int32), S),
        "distance": distances.reshape(-1),
    }
    return pd.DataFrame(columns)


@dataclass
class _AllImages:
    """One sample's N counterfactual images, gathered only when they are written."""

    workspace: Workspace
    pairs: dict[str, np.ndarray]
    sample: int
    num_sources: int

    def __call__(self) -> dict[str, torch.Tensor]:
        parts = []
        for name, flat in self.pairs.items():
            mine = flat // self.num_sources == self.sample
            if mine.any():
                parts.append(self.workspace.need(name)["images"][torch.from_numpy(mine)])
        return {"counterfactuals": torch.cat(parts)}


# --- images that were kept, and counterfactuals made again ---


def read_all_images(artefact: Artefact, index: int) -> torch.Tensor:
    """All N counterfactuals of sample ``index``, (N, C, H, W), if all were kept."""
    name = f"all-{index:06d}.safetensors"
    if name not in artefact.manifest["files"]:
        raise ArtefactError(
            f"{artefact.path} does not hold every image of sample {index}; compute it with "
            "all_images=True"
        )
    return artefact.tensors(name)["counterfactuals"]


def metric_radii(
    ensemble: Ensemble, landscapes: Landscapes, metric: Metric, here: Here | None = None
) -> np.ndarray:
    """Counterfactual radii (S,) of the same samples, measured by another metric (C.6).

    The farthest counterfactual may be another one than in Euclidean distance, so all of
    them are looked at: those that were not kept are computed again, as exactly or as
    hybrid as ``landscapes`` are.
    """
    indices, steps = landscapes.indices.tolist(), landscapes.tangent_steps
    artefact = compute(
        ensemble, indices, landscapes.seed, 1, all_images=True, tangent_steps=steps, here=here
    )
    factual = read(artefact).factual

    def radius(row: int, index: int) -> float:
        every = read_all_images(artefact, index)
        return float(metric.pairwise(factual[row : row + 1], every).max())

    return np.array([radius(row, index) for row, index in enumerate(indices)])


def kept_radii(landscapes: Landscapes, metric: Metric) -> np.ndarray:
    """By another metric, how far the farthest of a sample's *kept* counterfactuals lies.

    At most the radius, which :func:`metric_radii` has the patience for. One number for each
    sample of which as many are kept as of any.
    """
    kept = np.array([len(set(row)) for row in landscapes.kept_sources.tolist()])
    rows = np.flatnonzero(kept == kept.max())
    factual, images = landscapes.factual, landscapes.kept_images
    return np.array(
        [float(metric.pairwise(factual[row : row + 1], images[row]).max()) for row in rows]
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
    """Samples some factuals and their farthest counterfactuals again, and measures them.

    In the way of the landscapes: exactly, or carried through the first steps by tangents.
    """
    rows = list(rows)
    noise = ensemble.draw_noise(landscapes.seed, landscapes.indices[rows])
    sources = landscapes.attributed_sources[rows]
    k = landscapes.tangent_steps
    if k:
        moving = ensemble.tangents(noise, (k,), jacobians=False)
    else:
        moving = {"factual": ensemble.sample(noise)}
    c, owner = ensemble.codebook.leave_one_out(sources), torch.arange(len(rows))
    counterfactual = ensemble.sample_hybrid(noise, c, owner, moving, k)
    now = distance(moving["factual"], counterfactual).tolist()
    kept = landscapes.radii[rows].tolist()
    indices = landscapes.indices[rows]
    pairs = zip(indices, sources, kept, now, strict=True)
    return [Check(int(i), int(s), before, after) for i, s, before, after in pairs]
