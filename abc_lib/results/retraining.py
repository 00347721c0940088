"""Landscapes by retraining: how far each retrained model's sample lies from the factual model's."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue, positive_int
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact, Workspace
from abc_lib.ground.tasks import job_count, run_blocks
from abc_lib.images.training_set import TrainingSet, as_shown, shown_images, training_set_at_hand
from abc_lib.method.diffusion import ExogenousNoise
from abc_lib.method.distance import distance
from abc_lib.method.landscape import METRIC, Landscapes
from abc_lib.method.recipe import Recipe
from abc_lib.results.kind import Kind, made, name_and_scale, sample_numbers
from abc_lib.training.retrained import Retrained, get_retrained
from abc_lib.training.together import FULL, TOGETHER, common_spec, require_removal, with_seed

__all__ = ["KIND", "RetrainingLandscapes", "get", "origin", "publish", "read", "run", "stored"]

DEFAULT_SAMPLES = 12
"""how many samples are computed where nothing is at hand and nobody says how many"""


@dataclass(frozen=True)
class RetrainingLandscapes(Landscapes):
    """Landscapes by retraining: ``distances`` (S, K) between the factual model's sample and each
    retrained model's.

    Everything is as in :class:`Landscapes`, but that columns stand for ``sources`` (K,),
    which need not be all N.
    """

    sources: np.ndarray | None = None

    @property
    def attributed_sources(self) -> np.ndarray:
        """The source whose counterfactual lies farthest, (S,); the first in ``sources`` if several
        do.
        """
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
                    f"no {what} {number} in these landscapes of {self.name}; compute it with "
                    "retraining.get"
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


class _Retraining(Kind[RetrainingLandscapes]):
    folder, title = "retrained-landscape", "Retraining"

    def build(self, model, spec, workspace, here, images=None):
        """The samples of all models, some samples a task."""
        recipe, indices, device = model.recipe, spec["indices"], model.device
        jobs, sources = job_count(here.jobs, device), model.sources
        size = min(64 if device.type == "cpu" else 1024, -(-len(indices) // jobs))
        blocks = {
            f"block-{size}-{start:06d}": indices[start : start + size]
            for start in range(0, len(indices), size)
        }

        def task(block: list[int]) -> tuple:
            noise = model.draw_noise(spec["seed"], block)
            return model, noise, spec["keep"], here.memory // jobs

        pieces = run_blocks(
            _landscape_task,
            {name: lambda block=block: task(block) for name, block in blocks.items()},
            workspace,
            device,
            here,
            f"retraining-based counterfactuals of {recipe.label}",
            unit="cf",
            sizes={name: len(block) * len(sources) for name, block in blocks.items()},
        )
        tensors = {key: torch.cat([piece[key] for piece in pieces]) for key in pieces[0]}
        # Images are shown, not measured: half precision is finer than a screen.
        small = {key: tensors[key].half() for key in ("factual", "kept")}
        small["distances"] = tensors["distances"].float()
        files = {"landscape.safetensors": tensors | small | {"sources": torch.from_numpy(sources)}}
        images = training_set_at_hand(recipe.data) if images is None else images
        if images is not None:
            kept, factual = tensors["kept_sources"][:, 0], tensors["factual"]
            files["attributed.safetensors"] = shown_images(images, kept, factual)
        took = (a.info.get("seconds", a.info.get("training_seconds", 0)) for a in model.artefacts)
        info = {
            "num_sources": recipe.data.num_sources,
            "left_out": len(sources),
            "removed": model.removed,
            "training_seed": recipe.training.seed,
            "model": digest(common_spec(recipe, model.removed)),
            "training_seconds": round(sum(took), 1),
        }
        return files, info

    def read(self, artefact: Artefact) -> RetrainingLandscapes:
        """An artefact's landscapes, with every byte checked."""
        spec, tensors = artefact.spec, artefact.tensors("landscape.safetensors")
        shown = None
        if "attributed.safetensors" in artefact.manifest["files"]:
            shown = artefact.tensors("attributed.safetensors")
        return RetrainingLandscapes(
            *name_and_scale(artefact),
            spec["seed"],
            np.array(spec["indices"]),
            tensors["factual"].float(),
            tensors["distances"].double().numpy(),
            tensors["kept_sources"].numpy(),
            tensors["kept"].float(),
            shown and as_shown(shown["images"]),
            shown and shown["labels"].numpy(),
            artefacts=[artefact],
            sources=tensors["sources"].numpy(),
        )

    def belongs(self, artefact: Artefact, recipe: Recipe) -> bool:
        """Whether its models are those of this recipe, whatever the code of its ensemble."""
        return artefact.info["model"] == digest(common_spec(recipe, artefact.info["removed"]))

    def size(self, artefact: Artefact) -> int:
        """How many counterfactuals it holds."""
        return len(artefact.spec["indices"]) * artefact.info["left_out"]


KIND = _Retraining()


def get(
    retrained: Retrained,
    indices: Iterable[int],
    seed: int = 0,
    keep: int = 8,
    images: TrainingSet | None = None,
    here: Here | None = None,
) -> RetrainingLandscapes:
    """Landscapes by retraining (3.2, C.3) of samples: at hand, or computed now.

    A sample's numbers under ``seed`` name its exogenous noise, the same as for an ensemble
    of this recipe. Distances are Euclidean as in :func:`abc_lib.results.landscapes.compute`;
    the ``keep`` farthest counterfactuals of each sample are kept as images. A stopped run goes
    on where it was; ``here.memory`` bounds what all jobs together hold of networks'
    activations. ``images`` is the training set that attributed images are shown from, by
    default the recipe's if it is on this machine. Raises :class:`BadValue` for indices that
    are repeated, negative or none, and for models without a single left-out source.
    """
    numbers = sample_numbers(indices)
    if len(retrained.sources) == 0:
        raise BadValue(
            "there is no model that leaves a source out, so no counterfactual; train some with "
            "get_retrained"
        )
    spec = {
        "recipe": retrained.recipe.label,
        "retrained": retrained.identity,
        "sampling": spec_of(retrained.recipe.sampling),
        "seed": seed,
        "indices": numbers,
        "metric": METRIC,
        "keep": min(positive_int("keep", keep), len(retrained.sources)),
    }
    return KIND.get(retrained, spec, here or Here(), images=images)


def stored(
    recipe: Recipe,
    training_seed: int | None = None,
    removed: str = "black",
    seed: int = 0,
    here: Here | None = None,
) -> RetrainingLandscapes | None:
    """Landscapes by retraining that are at hand, without the models that made them; or None.

    ``training_seed`` replaces the recipe's, as in :func:`train_retrained`; ``seed`` names the
    exogenous noise. If there are several, the one with most counterfactuals.
    """
    require_removal(removed)
    recipe, here = with_seed(recipe, training_seed), here or Here()
    artefacts = KIND.stored_artefacts(recipe, here, seed=seed)
    artefacts = [a for a in artefacts if a.info["removed"] == removed]
    return KIND.read(max(artefacts, key=KIND.size)) if artefacts else None


def read(artefact: Artefact) -> RetrainingLandscapes:
    """An artefact's landscapes, with every byte checked."""
    return KIND.read(artefact)


def run(
    recipe: Recipe,
    indices: Iterable[int] | None = None,
    training_seed: int | None = None,
    sources: Iterable[int] | None = None,
    removed: str = "black",
    seed: int = 0,
    here: Here | None = None,
) -> RetrainingLandscapes:
    """The landscapes by retraining of a recipe: at hand, or computed now, models trained first.

    ``indices`` are samples under ``seed``; None takes all that are at hand, or 12.
    ``sources`` are those left out; None takes those at hand, or all N, which is N + 1
    models to train. Other arguments are those of :func:`train_retrained`.
    """
    here = here or Here()
    known = stored(recipe, training_seed, removed, seed, here)
    wanted = None if indices is None else [int(i) for i in indices]
    sources = None if sources is None else list(sources)
    if known is not None:
        samples, left_out = set(known.indices.tolist()), set(known.sources.tolist())
        if set(wanted or ()) <= samples and set(sources or ()) <= left_out:
            return known.only(wanted, sources)
    models = get_retrained(recipe, sources, training_seed, removed, here=here)
    return get(models, range(DEFAULT_SAMPLES) if wanted is None else wanted, seed, here=here)


def publish(
    recipe: Recipe,
    samples: int,
    sources: Iterable[int] | None = None,
    seed: int = 0,
    training_seed: int | None = None,
    here: Here | None = None,
) -> Artefact:
    """Publishes landscapes by retraining of the first samples.

    The models themselves stay in the cache, they would be too large.
    """
    here = here or Here()
    models = get_retrained(recipe, sources, training_seed, here=here)
    (artefact,) = KIND.publish(get(models, range(samples), seed, here=here).artefacts, here)
    return artefact


def origin(landscapes: RetrainingLandscapes) -> str:
    """Where the landscapes by retraining come from, in a sentence."""
    (artefact,) = landscapes.artefacts
    info = artefact.info
    ways = {"black": "replaced by black ones", "removed": "taken out of the minibatches"}
    return (
        f"Retraining: {1 + info['left_out']:,} models with the training seed "
        f"{info['training_seed']}, the left-out images {ways[info['removed']]}, trained together; "
        f"{len(artefact.spec['indices']):,} samples with {info['left_out']:,} of "
        f"{info['num_sources']:,} counterfactuals each, {made(artefact, seconds=True)}."
    )
