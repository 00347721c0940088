"""What several retrainings say of every source, by the statistics that codes are asked by (3.2).

There is no placebo here: a model without a source is compared with the model on everything from
the same start. How far two retrainings with other seeds agree is what ablation is held against.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact
from abc_lib.images.training_set import training_set
from abc_lib.method.recipe import Recipe
from abc_lib.results.kind import Kind, name_and_scale, sample_numbers
from abc_lib.results.placebos.evidence import STATISTICS, to_sources
from abc_lib.training.retrained import Retrained, get_retrained

__all__ = ["KIND", "RetrainedEvidence", "get", "origin", "publish", "stored"]


@dataclass(frozen=True)
class RetrainedEvidence:
    """What Q retrainings say of S samples and N sources by the K statistics, ``own`` (K, Q, S, N).

    ``nearest`` (Q, S) is the source of the image that a sample of the model on everything lies
    nearest to, ``factual`` (Q, S, C, H, W) these samples.
    """

    name: str
    scale: str
    own: np.ndarray
    nearest: np.ndarray
    factual: np.ndarray
    artefact: Artefact

    def of(self, statistic: str) -> int:
        """Where a statistic stands among the K."""
        return list(STATISTICS).index(statistic)


class _Retrained(Kind[RetrainedEvidence]):
    folder, title = "retrained-evidence", "Retraining"

    def build(self, model, spec, workspace, here):
        """Each training seed is a piece of work; its models are kept by the store."""
        images, recipe = training_set(model.recipe.data), model.recipe
        pieces = []
        for seed in range(len(spec["retrained"])):
            name = f"seed-{seed}"
            if not workspace.has(name):
                models = get_retrained(recipe, seed=seed, here=here)
                noise = models.draw_noise(spec["seed"], spec["indices"])
                workspace.save(name, _one(models, noise, images))
            pieces.append(workspace.need(name))
        tensors = {
            "own": torch.stack([piece["own"] for piece in pieces], dim=1),
            "nearest": torch.stack([piece["nearest"] for piece in pieces]),
            "factual": torch.stack([piece["factual"] for piece in pieces]),
        }
        return {"retrained.safetensors": tensors}, {"model": digest(recipe.model_spec)}

    def size(self, artefact: Artefact) -> int:
        """By seeds first, then by samples."""
        return len(artefact.spec["retrained"]) * 10**6 + len(artefact.spec["indices"])

    def read(self, artefact: Artefact) -> RetrainedEvidence:
        """An artefact's value, with every byte checked."""
        tensors = artefact.tensors("retrained.safetensors")
        return RetrainedEvidence(
            *name_and_scale(artefact),
            tensors["own"].double().numpy(),
            tensors["nearest"].numpy(),
            tensors["factual"].double().numpy(),
            artefact,
        )

    def words(self, artefact: Artefact) -> str:
        """Samples and seeds."""
        spec = artefact.spec
        return f"{len(spec['indices'])} samples of {len(spec['retrained'])} training seeds"


def _one(models: Retrained, noise, images) -> dict[str, torch.Tensor]:
    """``own`` (K, S, N), ``nearest`` (S,), ``factual`` (S, C, H, W) of one training seed."""
    samples = models.sample(noise)  # the model on everything first, then without each source
    factual, there = samples[0], samples[1:]
    own = [
        torch.stack([m(factual[[s]], there[:, s], images).diagonal() for m in STATISTICS.values()])
        for s in range(len(factual))
    ]
    return {
        "own": torch.stack(own, dim=1).float().contiguous(),
        "nearest": to_sources(factual, images).argmin(1),
        "factual": factual.half().contiguous(),
    }


KIND = _Retrained()


def get(
    recipe: Recipe,
    seeds: int,
    samples: Iterable[int] = range(20),
    seed: int = 0,
    here: Here | None = None,
) -> RetrainedEvidence:
    """What retraining without each source says, ``seeds`` times over: at hand, or trained now.

    That is ``seeds`` times N + 1 models. A stopped run goes on where it was.
    """
    here = here or Here()
    models = [get_retrained(recipe, seed=number, here=here) for number in range(seeds)]
    spec = {
        "recipe": recipe.label,
        "retrained": [each.identity for each in models],
        "sampling": spec_of(recipe.sampling),
        "seed": seed,
        "indices": sample_numbers(samples),
        "statistics": list(STATISTICS),
    }
    return KIND.get(models[0], spec, here)


def stored(recipe: Recipe, here: Here | None = None) -> RetrainedEvidence | None:
    """What is at hand of a recipe with most seeds, without any models; or None."""
    return KIND.stored(recipe, here or Here())


def publish(value: RetrainedEvidence, here: Here | None = None) -> list[Artefact]:
    """Publishes what retrainings say; their models stay where they are."""
    return KIND.publish([value.artefact], here or Here())


def origin(value: RetrainedEvidence) -> str:
    """Where the numbers come from, in a sentence."""
    return KIND.origin([value.artefact])
