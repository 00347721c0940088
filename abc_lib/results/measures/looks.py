"""What each visual metric at hand says of stored landscapes: whose images look like a sample.

Networks take minutes over what a page wants in seconds, so it is worked out once and kept: the
nearest sources by every metric, where in their order the sources stand whose removal matters
(C.4), how far the counterfactual without the nearest one lies (C.5), and, for some samples, whose
counterfactual lies farthest by every metric (figure 10).
"""

from dataclasses import dataclass

import numpy as np
import torch

from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact
from abc_lib.images.training_set import training_set
from abc_lib.method.attribution import (
    counterfactual_distance_ranks,
    top_counterfactual,
    top_visual,
    visual_similarity_ranks,
)
from abc_lib.method.code import draw_codebook
from abc_lib.method.recipe import Recipe
from abc_lib.metrics.visual import visual_distances
from abc_lib.results import jacobians, landscapes
from abc_lib.results.kind import Kind, name_and_scale
from abc_lib.training.budget import trajectories_side_by_side
from abc_lib.training.classifier.values import family_metrics
from abc_lib.training.ensembles import find_ensemble

__all__ = ["KIND", "Looks", "get", "origin", "publish", "stored"]

TOP = 8
"""suspects that are kept"""


@dataclass(frozen=True)
class Looks:
    """By M metrics and for S samples: ``nearest`` (M, S, 8) sources, nearest first.

    ``by_ablation`` and ``by_derivatives`` (M, S) are the visual similarity ranks of the source
    that either names, NaN where a sample has no Jacobian, ``moved`` (M, S) the distance rank of the
    counterfactual without the nearest source. ``farthest`` (M, T, 8) are the sources whose
    counterfactuals lie farthest by each metric, of the first T samples.
    """

    name: str
    scale: str
    metrics: tuple[str, ...]
    nearest: np.ndarray
    by_ablation: np.ndarray
    by_derivatives: np.ndarray
    moved: np.ndarray
    farthest: np.ndarray
    artefact: Artefact


@dataclass(frozen=True)
class _Landscapes:
    """Stored landscapes, in place of members: few ensembles ship."""

    recipe: Recipe
    device: torch.device | str
    landscapes: landscapes.Landscapes


class _Looks(Kind[Looks]):
    folder, title = "looks", "Visual metrics"

    def build(self, model, spec, workspace, here):
        """A metric at a time, over all samples."""
        recipe, exact = model.recipe, model.landscapes
        images = training_set(recipe.data)
        metrics = {metric.name: metric for metric in family_metrics(recipe.data.family, here=here)}
        derived = np.full((len(exact), exact.num_sources), np.nan)
        if (moved := jacobians.stored(recipe, here)) is not None:
            both = [i for i in moved.indices.tolist() if i in set(exact.indices.tolist())]
            rows = [exact.indices.tolist().index(i) for i in both]
            derived[rows] = moved.only(both).landscape(draw_codebook(recipe))
        some = np.isfinite(derived[:, 0])
        parts: dict[str, list] = {key: [] for key in ("nearest", "by_ablation", "by_derivatives")}
        parts |= {"moved": [], "farthest": []}
        gone = self._counterfactuals(recipe, exact, spec["counterfactuals"], here)
        top = top_counterfactual(exact.distances)[:, 0]
        for name in spec["metrics"]:
            looks = visual_distances(exact.factual, images, metrics[name])
            near = top_visual(looks, TOP)
            ranks = np.full(len(exact), np.nan)
            if some.any():
                named = top_counterfactual(derived[some])[:, 0]
                ranks[some] = visual_similarity_ranks(looks[some], named)
            far = [
                metrics[name].pairwise(exact.factual[row : row + 1], there)[0].numpy()
                for row, there in enumerate(gone)
            ]
            far = top_counterfactual(np.stack(far), TOP) if far else np.empty((0, TOP))
            parts["nearest"].append(near.astype(np.int16))
            parts["by_ablation"].append(visual_similarity_ranks(looks, top))
            parts["by_derivatives"].append(ranks)
            parts["moved"].append(counterfactual_distance_ranks(exact.distances, near[:, 0]))
            parts["farthest"].append(far.astype(np.int16))
        tensors = {key: torch.from_numpy(np.stack(part)) for key, part in parts.items()}
        return {"looks.safetensors": tensors}, {"model": digest(recipe.model_spec)}

    @staticmethod
    def _counterfactuals(recipe, exact, count: int, here: Here) -> list[torch.Tensor]:
        """All counterfactuals of the first samples, which landscapes do not keep."""
        if not count:
            return []
        ensemble = find_ensemble(recipe, here)
        if ensemble is None:
            raise BadValue(f"the members of {recipe.label} are not here; ask for 0 counterfactuals")
        size = trajectories_side_by_side(ensemble, here)
        noise = ensemble.draw_noise(exact.seed, exact.indices[:count].tolist())
        parts = torch.from_numpy(ensemble.codebook.leave_one_out()).split(size)

        def without(row: int) -> torch.Tensor:
            owner = [torch.zeros(len(c), dtype=torch.int64) for c in parts]
            there = [ensemble.sample(noise[[row]], c, o) for c, o in zip(parts, owner)]
            return torch.cat(there).clamp(0, 1)

        return [without(row) for row in range(count)]

    def read(self, artefact: Artefact) -> Looks:
        """An artefact's value, with every byte checked."""
        tensors = artefact.tensors("looks.safetensors")
        arrays = {key: value.numpy() for key, value in tensors.items()}
        metrics = tuple(artefact.spec["metrics"])
        return Looks(*name_and_scale(artefact), metrics, **arrays, artefact=artefact)


KIND = _Looks()


def get(recipe: Recipe, counterfactuals: int = 0, here: Here | None = None) -> Looks:
    """Of all stored landscapes of a recipe, by all metrics at hand: kept, or worked out now.

    Of the first ``counterfactuals`` samples all counterfactuals are sampled anew, for which the
    members must be here. Raises :class:`BadValue` where they, or landscapes, are not.
    """
    here = here or Here()
    exact = landscapes.stored(recipe, here)
    if exact is None:
        raise BadValue(f"no landscapes of {recipe.label} are at hand; publish or compute some")
    spec = {
        "recipe": recipe.label,
        "sampling": spec_of(recipe.sampling),
        "seed": exact.seed,
        "indices": exact.indices.tolist(),
        "landscapes": sorted(artefact.path.name for artefact in exact.artefacts),
        "metrics": [metric.name for metric in family_metrics(recipe.data.family, here=here)],
        "counterfactuals": counterfactuals,
    }
    return KIND.get(_Landscapes(recipe, here.device, exact), spec, here)


def stored(recipe: Recipe, here: Here | None = None) -> Looks | None:
    """What is at hand of a recipe; or None."""
    return KIND.stored(recipe, here or Here())


def publish(value: Looks, here: Here | None = None) -> list[Artefact]:
    """Publishes what metrics say of landscapes."""
    return KIND.publish([value.artefact], here or Here())


def origin(value: Looks) -> str:
    """Where the numbers come from, in a sentence."""
    return KIND.origin([value.artefact])
