"""Landscapes by retraining: how far each retrained model's sample lies from the factual model's."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from abc_lib.ground.devices import parse_bytes
from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue, positive_int
from abc_lib.ground.store import Artefact, Store, Workspace, stopwatch
from abc_lib.ground.tasks import Counter, job_count, run_tasks
from abc_lib.images.training_set import TrainingSet
from abc_lib.method.diffusion import ExogenousNoise
from abc_lib.method.distance import distance
from abc_lib.method.landscape import METRIC, Landscapes
from abc_lib.method.recipe import Recipe
from abc_lib.results.landscapes import attributed_image, images_to_show
from abc_lib.training.retrained import Retrained
from abc_lib.training.together import FULL, TOGETHER, _common_spec, _require_removal, _seeded

_LANDSCAPE = "retrained-landscape"


@dataclass(frozen=True)
class RetrainingLandscapes(Landscapes):
    """Landscapes by retraining: ``distances`` (S, K) between the factual model's sample and each retrained model's.

    Everything is as in :class:`Landscapes`, but that columns stand for ``sources`` (K,),
    which need not be all N.
    """

    sources: np.ndarray | None = None

    @property
    def attributed_sources(self) -> np.ndarray:
        """The source whose counterfactual lies farthest, (S,); the first in ``sources`` if several do."""
        return self.sources[self.distances.argmax(axis=1)]

    def only(
        self, indices: Iterable[int] | None = None, sources: Iterable[int] | None = None
    ) -> "RetrainingLandscapes":
        """Some samples and some left-out sources, in the order asked for; by default all.

        Kept images stay those farthest among all sources, so they are left out where sources are.
        Raises :class:`BadValue` for samples and sources that are not here.
        """
        rows = self._positions(self.indices, indices, "sample")
        columns = self._positions(self.sources, sources, "left-out source")
        pick = lambda value: None if value is None else value[rows]  # noqa: E731
        every = sources is None
        return dataclasses.replace(
            self,
            indices=self.indices[rows],
            factual=self.factual[rows],
            distances=self.distances[np.ix_(rows, columns)],
            kept_sources=self.kept_sources[rows][:, : None if every else 0],
            kept_images=self.kept_images[rows][:, : None if every else 0],
            attributed_images=pick(self.attributed_images) if every else None,
            attributed_labels=pick(self.attributed_labels) if every else None,
            sources=self.sources[columns],
        )

    def _positions(self, here: np.ndarray, wanted: Iterable[int] | None, what: str) -> list[int]:
        if wanted is None:
            return list(range(len(here)))
        place = {int(number): position for position, number in enumerate(here)}
        for number in (wanted := [int(each) for each in wanted]):
            if number not in place:
                raise BadValue(
                    f"no {what} {number} in these landscapes of {self.name}; compute it with retraining_landscapes"
                )
        return [place[number] for number in wanted]


def _landscape_task(
    retrained: Retrained,
    noise: ExogenousNoise,
    keep: int,
    memory: int,
    workspace: Workspace,
    name: str,
) -> int:
    """Some samples' landscapes over all sources, a group of models at a time, saved as a piece."""
    factual = retrained.sample(noise, [FULL], memory)[0]
    sources, together = retrained.sources, TOGETHER.get(retrained.device.type, 8)
    distances = torch.zeros(len(noise), len(sources), dtype=torch.float64)
    kept, columns = (
        torch.zeros(len(noise), 0, *factual.shape[1:]),
        torch.zeros(len(noise), 0, dtype=torch.int64),
    )
    for start in range(0, len(sources), together):
        part = sources[start : start + together].tolist()
        images = retrained.sample(noise, part, memory).transpose(0, 1)
        mine = torch.arange(start, start + len(part)).expand(len(noise), -1)
        distances[:, start : start + len(part)] = distance(images, factual[:, None])
        kept, columns = torch.cat([kept, images], dim=1), torch.cat([columns, mine], dim=1)
        # Columns rise within what is kept and what is new, so equal distances keep their order.
        order = torch.argsort(-distances.gather(1, columns), dim=1, stable=True)[:, :keep]
        columns = columns.gather(1, order)
        kept = torch.stack([row[pick] for row, pick in zip(kept, order)])
    workspace.save(
        name,
        {
            "factual": factual.contiguous(),
            "distances": distances,
            "kept": kept.contiguous(),
            "kept_sources": torch.from_numpy(sources)[columns].contiguous(),
        },
    )
    return len(noise) * len(sources)


def retraining_landscapes(
    retrained: Retrained,
    indices: Iterable[int],
    seed: int = 0,
    store: Store | None = None,
    keep: int = 8,
    memory: int | str = "2GiB",
    n_jobs: int | None = None,
    progress: bool = True,
    images: TrainingSet | None = None,
) -> RetrainingLandscapes:
    """Landscapes by retraining (3.2, C.3) of the samples with these numbers; from the store if they were computed before.

    A sample's numbers under ``seed`` name its exogenous noise, the same as for an ensemble
    of this recipe. Distances are Euclidean as in :func:`compute_landscapes`; the ``keep``
    farthest counterfactuals of each sample are kept as images. A stopped run goes on where
    it was; ``memory`` bounds what all jobs together hold of networks' activations.
    ``images`` is the training set that attributed images are shown from, by default the
    recipe's if it is on this machine. Raises :class:`BadValue` for indices that are
    repeated, negative or none, and for models without a single left-out source.
    """
    store, recipe = store or Store(), retrained.recipe
    indices = [int(i) for i in indices]
    if len(set(indices)) != len(indices) or any(i < 0 for i in indices):
        raise BadValue("sample indices must be different whole numbers from 0 on")
    if not indices:
        raise BadValue("no samples were asked for; give at least one index")
    if len(retrained.sources) == 0:
        raise BadValue(
            "there is no model that leaves a source out, so no counterfactual; train some with get_retrained"
        )
    keep = min(positive_int("keep", keep), len(retrained.sources))
    spec = {
        "recipe": recipe.label,
        "retrained": retrained.identity,
        "sampling": spec_of(recipe.sampling),
        "seed": seed,
        "indices": indices,
        "metric": METRIC,
        "keep": keep,
    }
    return read_retraining_landscapes(
        store.once(
            _LANDSCAPE,
            recipe.label,
            spec,
            lambda workspace: _compute_landscapes(
                retrained, spec, store, workspace, parse_bytes(memory), n_jobs, progress, images
            ),
        )
    )


def _compute_landscapes(
    retrained, spec, store, workspace, memory, n_jobs, progress, images
) -> Artefact:
    recipe, indices, device, seconds = (
        retrained.recipe,
        spec["indices"],
        retrained.device,
        stopwatch(),
    )
    jobs, sources = job_count(n_jobs, device), retrained.sources
    size = min(64 if device.type == "cpu" else 1024, -(-len(indices) // jobs))
    blocks = [
        range(start, min(start + size, len(indices))) for start in range(0, len(indices), size)
    ]
    names = [f"block-{size}-{block.start:06d}" for block in blocks]
    todo = [(block, name) for block, name in zip(blocks, names) if not workspace.has(name)]
    arguments = (
        (
            retrained,
            retrained.draw_noise(spec["seed"], [indices[i] for i in block]),
            spec["keep"],
            memory // jobs,
            workspace,
            name,
        )
        for block, name in todo
    )
    counter = Counter((len(indices) - sum(len(block) for block, _ in todo)) * len(sources))
    if todo:
        for count in run_tasks(
            _landscape_task,
            arguments,
            len(todo),
            device=device,
            total=len(indices) * len(sources),
            description=f"retraining-based counterfactuals of {recipe.label}",
            unit="cf",
            poll=counter,
            n_jobs=n_jobs,
            progress=progress,
        ):
            counter.done += count
    pieces = [workspace.load(name) for name in names]
    tensors = {key: torch.cat([piece[key] for piece in pieces]) for key in pieces[0]}
    files = {"landscape.safetensors": tensors | {"sources": torch.from_numpy(sources)}}
    images = images_to_show(recipe) if images is None else images
    if images is not None:
        shown = [
            attributed_image(images, int(s), x)
            for s, x in zip(tensors["kept_sources"][:, 0], tensors["factual"])
        ]
        files["attributed.safetensors"] = {
            "images": images.images[shown].clone(),
            "labels": images.labels[shown].clone(),
            "where": images.where[shown].clone(),
        }
    info = {
        "seconds": round(seconds(), 1),
        "num_sources": recipe.data.num_sources,
        "left_out": len(sources),
        "removed": retrained.removed,
        "training_seed": recipe.training.seed,
        "model": digest(_common_spec(recipe, retrained.removed)),
        "training_seconds": round(
            sum(
                a.info.get("seconds", a.info.get("training_seconds", 0))
                for a in retrained.artefacts
            ),
            1,
        ),
    }
    return store.write(_LANDSCAPE, recipe.label, spec, files, info, device)


def read_retraining_landscapes(artefact: Artefact) -> RetrainingLandscapes:
    """An artefact's landscapes, with every byte checked."""
    spec, found = artefact.spec, artefact.tensors("landscape.safetensors")
    name, _, scale = spec["recipe"].rpartition("-")
    shown = (
        artefact.tensors("attributed.safetensors")
        if "attributed.safetensors" in artefact.manifest["files"]
        else None
    )
    return RetrainingLandscapes(
        name,
        scale,
        spec["seed"],
        np.array(spec["indices"]),
        found["factual"],
        found["distances"].numpy(),
        found["kept_sources"].numpy(),
        found["kept"],
        shown and shown["images"],
        shown and shown["labels"].numpy(),
        artefacts=[artefact],
        sources=found["sources"].numpy(),
    )


def find_retraining_landscapes(
    recipe: Recipe,
    training_seed: int | None = None,
    removed: str = "black",
    seed: int = 0,
    store: Store | None = None,
) -> RetrainingLandscapes | None:
    """Landscapes by retraining that are published or in the cache, without the models that made them; None if there are none.

    ``training_seed`` replaces the recipe's, as in :func:`train_retrained`; ``seed`` names the exogenous noise. If there
    are several, the one with most counterfactuals.
    """
    store, recipe = store or Store(), _seeded(recipe, training_seed)
    _require_removal(removed)
    model, sampling = digest(_common_spec(recipe, removed)), spec_of(recipe.sampling)
    found = [
        a
        for a in store.find_all(_LANDSCAPE, recipe.label)
        if a.info["model"] == model and a.spec["sampling"] == sampling and a.spec["seed"] == seed
    ]
    most = max(found, key=lambda a: len(a.spec["indices"]) * a.info["left_out"], default=None)
    return most and read_retraining_landscapes(most)
