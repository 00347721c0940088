"""What one code says about every source: statistics of its ablation beside those of placebos.

A statistic looks at a sample and at one of its counterfactuals and says, for every source, how
much that speaks for it. Along the source's own codeword it is evidence; along codewords that no
source owns it is chance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact, Workspace
from abc_lib.ground.tasks import run_blocks
from abc_lib.images.training_set import TrainingSet, training_set
from abc_lib.method.code import Codebook
from abc_lib.method.diffusion import ExogenousNoise, alphas_cumprod
from abc_lib.method.distance import distance
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.network import NoisePredictor
from abc_lib.results.kind import Kind, name_and_scale, sample_numbers
from abc_lib.training.budget import trajectories_side_by_side

__all__ = [
    "KIND",
    "STATISTICS",
    "Evidence",
    "by_sample",
    "get",
    "owned_and_free",
    "planted",
    "planted_statistics",
    "to_sources",
    "without",
]


def without(
    ensemble: Ensemble, noise: ExogenousNoise, words: np.ndarray, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """One sample (1, C, H, W), and its ablations along codewords (B, n), (B, C, H, W), whoever
    owns them. ``size`` trajectories are denoised side by side.
    """
    book = ensemble.codebook
    c = (1 - words) * (book.n / (book.n - book.weight))
    parts = [c[start : start + size] for start in range(0, len(c), size)]
    there = [ensemble.sample(noise, c, torch.zeros(len(c), dtype=torch.int64)) for c in parts]
    return ensemble.sample(noise), torch.cat(there)


def owned_and_free(book: Codebook, placebos: int) -> np.ndarray:
    """The N codewords of the sources, then ``placebos`` that no source owns, (N + P, n)."""
    return np.concatenate([book.words, book.unowned(placebos)])


def to_sources(samples: torch.Tensor, images: TrainingSet) -> torch.Tensor:
    """Native distances (B, N) from samples to the nearest image of each source, float64."""
    apart = torch.cdist(samples.flatten(1).double(), images.images.flatten(1).double())
    nearest = apart.new_full((len(samples), int(images.sources.max()) + 1), torch.inf)
    return nearest.scatter_reduce_(1, images.sources.expand(len(samples), -1), apart, "amin")


def _moved(factual: torch.Tensor, there: torch.Tensor, images: TrainingSet) -> torch.Tensor:
    """How far the sample moved, whatever the source."""
    N = int(images.sources.max()) + 1
    return distance(there, factual)[:, None].expand(-1, N)


def _away(factual: torch.Tensor, there: torch.Tensor, images: TrainingSet) -> torch.Tensor:
    """How much farther it lies from the source's nearest image than before."""
    return to_sources(there, images) - to_sources(factual, images)


def _projected(factual: torch.Tensor, there: torch.Tensor, images: TrainingSet) -> torch.Tensor:
    """How far it moved against the direction of the source's mean image from all images' mean."""
    flat = images.images.flatten(1).double()
    N = int(images.sources.max()) + 1
    sums = torch.zeros(N, flat.shape[1], dtype=flat.dtype).index_add_(0, images.sources, flat)
    directions = sums / images.sources.bincount(minlength=N)[:, None] - flat.mean(0)
    directions = directions / directions.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return -(there - factual).flatten(1).double() @ directions.T


Statistic = Callable[[torch.Tensor, torch.Tensor, TrainingSet], torch.Tensor]
STATISTICS: dict[str, Statistic] = {"moved": _moved, "away": _away, "projected": _projected}
"""from a sample (1, C, H, W), its counterfactuals (B, C, H, W) and the training set to (B, N):
larger speaks more for a source"""


@dataclass(frozen=True)
class Evidence:
    """What one code says of S samples and N sources by K statistics, beside P placebos.

    ``own`` (K, S, N) is along each source's codeword, ``free`` (K, S, P, N) along those that no
    source owns. ``nearest`` (S,) is the source of the training image that a sample lies nearest
    to, ``factual`` (S, C, H, W) the samples.
    """

    name: str
    scale: str
    exposure: float
    own: np.ndarray
    free: np.ndarray
    nearest: np.ndarray
    factual: np.ndarray
    artefact: Artefact


def statistics(
    ensemble: Ensemble, noise: ExogenousNoise, images: TrainingSet, placebos: int, size: int
) -> dict[str, torch.Tensor]:
    """One sample's part of an :class:`Evidence`: ``own`` (K, N), ``free`` (K, P, N), ``nearest``
    and ``factual`` (C, H, W).
    """
    words = owned_and_free(ensemble.codebook, placebos)
    factual, there = without(ensemble, noise, words, size)
    found = torch.stack([measure(factual, there, images) for measure in STATISTICS.values()])
    N = ensemble.codebook.num_sources
    return {
        "own": found[:, :N].diagonal(dim1=1, dim2=2).float().contiguous(),
        "free": found[:, N:].float().contiguous(),
        "nearest": to_sources(factual, images)[0].argmin(),
        "factual": factual[0].half(),
    }


def _task(
    ensemble: Ensemble, noise: ExogenousNoise, images: TrainingSet, placebos: int, size: int,
    workspace: Workspace, name: str,
) -> int:  # fmt: skip
    workspace.save(name, statistics(ensemble, noise, images, placebos, size))
    return ensemble.codebook.num_sources + placebos


def by_sample(
    task: Callable, model: Ensemble, spec: dict, workspace: Workspace, here: Here, what: str, *more
) -> list[dict[str, torch.Tensor]]:
    """What ``task(model, noise, *more, size, workspace, name)`` saves of each sample of a spec, in
    order; a stopped run goes on. ``size`` trajectories fit side by side.
    """
    size = trajectories_side_by_side(model, here)
    tasks = {
        f"sample-{size}-{index:06d}": (model, model.draw_noise(spec["seed"], [index]), *more, size)
        for index in spec["indices"]
    }
    return run_blocks(task, tasks, workspace, model.device, here, what, unit="sample")


class _Evidence(Kind[Evidence]):
    folder, title = "evidence", "Evidence"

    def build(self, model, spec, workspace, here):
        """Every sample with all its counterfactuals and placebos is a piece of work."""
        recipe = model.recipe
        if recipe.data.space != "pixel":
            raise BadValue(
                f"{recipe.label} lives in latents; evidence beside placebos is in pixels only"
            )
        images = training_set(recipe.data)
        what = f"counterfactuals and placebos of {recipe.label}"
        pieces = by_sample(_task, model, spec, workspace, here, what, images, spec["placebos"])
        tensors = {
            "own": torch.stack([piece["own"] for piece in pieces], dim=1),
            "free": torch.stack([piece["free"] for piece in pieces], dim=1),
            "nearest": torch.stack([piece["nearest"] for piece in pieces]),
            "factual": torch.stack([piece["factual"] for piece in pieces]),
        }
        info = {"model": digest(recipe.model_spec), "exposure": recipe.exposure}
        return {"evidence.safetensors": tensors}, info

    def read(self, artefact: Artefact) -> Evidence:
        """An artefact's value, with every byte checked."""
        tensors = artefact.tensors("evidence.safetensors")
        arrays = {key: value.float().numpy() for key, value in tensors.items()}
        arrays["nearest"] = tensors["nearest"].numpy()
        exposure = artefact.info["exposure"]
        return Evidence(*name_and_scale(artefact), exposure, **arrays, artefact=artefact)


KIND = _Evidence()


def get(
    ensemble: Ensemble, indices: Sequence[int], seed: int = 0, here: Here | None = None
) -> Evidence:
    """What an ensemble's code says of some samples: at hand, or computed now; a stopped run goes
    on. There are as many placebos as sources, or as many as the code has left.

    Raises :class:`BadValue` for an ensemble in latents.
    """
    book = ensemble.codebook
    spec = {
        "recipe": ensemble.recipe.label,
        "ensemble": ensemble.identity,
        "sampling": spec_of(ensemble.recipe.sampling),
        "seed": seed,
        "indices": sample_numbers(indices),
        "statistics": list(STATISTICS),
        "placebos": len(book.unowned(book.num_sources)),
    }
    return KIND.get(ensemble, spec, here or Here())


# --- an effect of known size ---


class _Pulled(torch.nn.Module):
    """A member that believes, with a share ``strength``, that every image is ``target``."""

    def __init__(self, member: NoisePredictor, target: torch.Tensor, strength: float, alphas):
        super().__init__()
        self.member, self.strength = member, strength
        self.register_buffer("target", target)
        self.register_buffer("alphas", alphas)
        self.unet, self.patch = member.unet, member.patch

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a = self.alphas[t][:, None, None, None]
        towards = (x - a.sqrt() * self.target) / (1 - a).sqrt()
        return (1 - self.strength) * self.member(x, t) + self.strength * towards


def planted(ensemble: Ensemble, images: TrainingSet, source: int, strength: float) -> Ensemble:
    """The ensemble with an effect of known size: whoever saw ``source`` pulls towards it.

    Members that saw the source predict an image that is to a share ``strength`` in [0, 1] the
    source's first image; the others stay as they are.
    """
    if not 0 <= strength <= 1:
        raise BadValue(f"a planted effect is a share from 0 to 1, not {strength}")
    data = ensemble.recipe.data
    first = int((images.sources == source).nonzero()[0])
    target = ((images.images[first] - data.shift) * data.factor).to(ensemble.device)
    alphas = alphas_cumprod(ensemble.recipe.diffusion).to(ensemble.device)
    saw = ensemble.codebook.words[source].astype(bool)
    members = [
        _Pulled(member, target, strength, alphas) if known else member
        for member, known in zip(ensemble.members, saw, strict=True)
    ]
    return Ensemble(ensemble.recipe, ensemble.codebook, members, space=ensemble.space)


def planted_statistics(
    ensemble: Ensemble,
    noise: ExogenousNoise,
    images: TrainingSet,
    source: int,
    placebos: int,
    size: int,
) -> dict[str, torch.Tensor]:
    """Of one sample and one source: ``own`` (K, 1) and ``free`` (K, P, 1)."""
    book = ensemble.codebook
    words = np.concatenate([book.words[[source]], book.unowned(placebos)])
    factual, there = without(ensemble, noise, words, size)
    found = torch.stack([measure(factual, there, images) for measure in STATISTICS.values()])
    found = found[:, :, [source]].float()
    return {"own": found[:, 0].contiguous(), "free": found[:, 1:].contiguous()}
