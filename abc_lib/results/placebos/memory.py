"""What members remember, and how far ablation moves their ensemble beside a placebo.

Three questions about one ensemble, so that ensembles that were trained longer or otherwise can
be put side by side. How much better does a member know its own images than the others? How far
does a sample move when a source is removed (definition 1), and how far when as many members go
along a codeword that no source owns? Is a sample still attributed to the image it lies nearest
to when that very image is taken away?
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.seeds import generator
from abc_lib.ground.store import Artefact, Workspace
from abc_lib.images.latents import to_states
from abc_lib.images.training_set import TrainingSet, training_set
from abc_lib.method.attribution import FalseAttribution
from abc_lib.method.diffusion import ExogenousNoise, add_noise, alphas_cumprod, denoise
from abc_lib.method.distance import distance
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.landscape import METRIC
from abc_lib.method.network import NoisePredictor
from abc_lib.method.recipe import Recipe
from abc_lib.method.space import state_shape
from abc_lib.results.kind import Kind, name_and_scale, sample_numbers
from abc_lib.results.measures.attributions import false_attribution_rate
from abc_lib.results.placebos.evidence import by_sample, owned_and_free, to_sources, without
from abc_lib.training.ensembles import get_ensemble

__all__ = [
    "KIND",
    "Memory",
    "every",
    "get",
    "losses",
    "of",
    "origin",
    "publish",
    "ratios",
    "read",
    "stored",
]

PLACEBOS = 1024
"""at most so many codewords that no source owns"""
SAMPLES, ATTRIBUTED, ALONE, SHOWN = 20, 100, 16, 8
"""samples with landscapes, samples for the false attribution rate, samples of a member alone,
samples that are kept as pictures"""
BANDS = ((0, 200), (200, 400), (400, 600), (600, 1000))
"""times over which losses are averaged"""
PICTURES = "pictures.safetensors"
_PIECE = "distances", "placebos", "as_far", "nearest"
_LOOKED_AT = 512
_DRAWS = 2048


@dataclass(frozen=True)
class Memory:
    """What an ensemble of N data points remembers.

    ``distances`` (S, N) and ``placebos`` (S, P) are how far samples move when a source is
    removed, and along codewords that no source owns, Euclidean in 3x256x256. ``p_values`` (S, N)
    are of how much farther from a source's images the counterfactual lies than the sample: the
    share of placebo codewords that carry it at least as far away from them (the codeword itself
    counted in), uniform if sources make no difference.
    ``nearest`` (S,) is the source of the training image that a sample lies nearest to.
    ``own_loss`` and ``other_loss`` (n, 4) are members' squared errors, as velocities, on images
    that they saw and on those that they did not, in :data:`BANDS` of times. ``ratios`` (n, K)
    compare, for samples of a member alone, the distance to the nearest image that it saw with
    that to the nearest of the others. ``pictures`` are of the first samples, ``ensemble``, and of
    samples of the first member alone, ``member``, in [0, 1], (8, C, H, W), each set with the
    training images that they lie nearest to, ``ensemble nearest`` and ``member nearest``; empty
    where an earlier version measured.
    """

    name: str
    scale: str
    exposure: float
    distances: np.ndarray
    placebos: np.ndarray
    p_values: np.ndarray
    nearest: np.ndarray
    own_loss: np.ndarray
    other_loss: np.ndarray
    ratios: np.ndarray
    attribution: FalseAttribution
    pictures: dict[str, np.ndarray]
    artefact: Artefact

    @property
    def size(self) -> int:
        """Sources of the training set, N."""
        return self.distances.shape[1]

    @property
    def radii(self) -> np.ndarray:
        """Counterfactual radii (S,)."""
        return self.distances.max(axis=1)

    @property
    def placebo_radii(self) -> np.ndarray:
        """What definition 1 gives for the first N placebo codewords, (S,)."""
        return self.placebos[:, : self.size].max(axis=1)


def _task(
    ensemble: Ensemble, noise: ExogenousNoise, images: TrainingSet, placebos: int, size: int,
    workspace: Workspace, name: str,
) -> int:  # fmt: skip
    """All counterfactuals and all placebos of one sample."""
    words = owned_and_free(ensemble.codebook, placebos)
    factual, there = without(ensemble, noise, words, size)
    moved = distance(there, factual).float()
    away = to_sources(there, images) - to_sources(factual, images)
    N = ensemble.codebook.num_sources
    own, others = away[:N].diagonal(), away[N:]
    piece = {
        "distances": moved[:N],
        "placebos": moved[N:],
        "as_far": ((others >= own).sum(0) + 1).short(),
        "nearest": to_sources(factual, images)[0].argmin(),
    }
    workspace.save(name, {key: value.contiguous() for key, value in piece.items()})
    return len(there)


@torch.inference_mode()
def losses(
    recipe: Recipe, members: Sequence[NoisePredictor], words: np.ndarray, images: TrainingSet
) -> tuple[torch.Tensor, torch.Tensor]:
    """Members' squared errors as velocities on images that they saw and on others, (n, 4) each.

    ``words`` (N, n) say who saw what; columns are those of :data:`BANDS`. All members meet the
    same images, times and noise.
    """
    rng = generator("losses", 0)
    chosen = torch.randperm(len(images), generator=rng)[:_LOOKED_AT]
    draws = -(-_DRAWS // len(chosen))
    x = to_states(images, recipe.data)[chosen].repeat(draws, 1, 1, 1)
    # Times spread evenly, so that every band has as many of every member's images.
    times = (torch.arange(len(x)) * 389) % recipe.diffusion.train_steps
    noise = torch.randn(x.shape, generator=rng)
    alphas = alphas_cumprod(recipe.diffusion)
    noisy, a = add_noise(x, noise, times, alphas), alphas[times]
    within = [(times >= low) & (times < high) for low, high in BANDS]
    own, other = [], []
    for member, word in zip(members, words.T, strict=True):
        device = next(member.parameters()).device
        parts = zip(noisy.split(128), times.split(128))
        said = torch.cat([member(z.to(device), t.to(device)).cpu() for z, t in parts])
        error = (said - noise).square().mean(dim=(1, 2, 3)) / a
        seen = images.whole(torch.from_numpy(word.astype(bool))[images.sources])[chosen]
        seen = seen.repeat(draws)
        own.append(torch.stack([error[seen & band].mean() for band in within]))
        other.append(torch.stack([error[~seen & band].mean() for band in within]))
    return torch.stack(own), torch.stack(other)


@torch.inference_mode()
def _alone(recipe: Recipe, member: NoisePredictor) -> torch.Tensor:
    """Samples of one member, as states on the CPU, from the same noise for each, (K, C, H, W)."""
    device = next(member.parameters()).device
    noise = ExogenousNoise.draw(1, range(ALONE), state_shape(recipe.data), recipe.sampling)

    def predict(k: int, x: torch.Tensor, t: int) -> torch.Tensor:
        return member(x, torch.full((len(x),), t, device=x.device))

    return denoise(predict, noise.to(device), recipe.diffusion, recipe.sampling).cpu()


def _pictures(ensemble: Ensemble, images: TrainingSet, seed: int) -> dict[str, torch.Tensor]:
    """:attr:`Memory.pictures` as bytes."""
    drawn = ensemble.sample(ensemble.draw_noise(seed, range(SHOWN)))
    alone = ensemble.space.to_images(_alone(ensemble.recipe, ensemble.members[0])[:SHOWN])
    found = {}
    for whose, samples in {"ensemble": drawn, "member": alone}.items():
        which = torch.cdist(samples.flatten(1), images.images.flatten(1)).argmin(1)
        found |= {whose: samples, f"{whose} nearest": images.images[which]}
    return {key: (255 * value).round().to(torch.uint8) for key, value in found.items()}


@torch.inference_mode()
def ratios(
    recipe: Recipe, members: Sequence[NoisePredictor], words: np.ndarray, images: TrainingSet
) -> torch.Tensor:
    """Of samples of each member alone: nearest image that it saw over nearest other, (n, K)."""
    states = to_states(images, recipe.data)
    found = []
    for member, word in zip(members, words.T, strict=True):
        apart = torch.cdist(_alone(recipe, member).flatten(1), states.flatten(1))
        seen = images.whole(torch.from_numpy(word.astype(bool))[images.sources])
        found.append(apart[:, seen].amin(1) / apart[:, ~seen].amin(1))
    return torch.stack(found)


class _Memory(Kind[Memory]):
    folder, title = "memory", "Memory"

    def build(self, model, spec, workspace, here, images=None):
        """Every sample with all its counterfactuals and placebos is a piece of work; those that
        were measured with fewer samples are taken over.
        """
        recipe = model.recipe
        if recipe.data.space != "pixel":
            raise BadValue(
                f"{recipe.label} lives in latents; what it remembers is measured in pixels only"
            )
        images = training_set(recipe.data) if images is None else images
        what = f"counterfactuals and placebos of {recipe.label}"
        known = self._measured(spec, here)
        rest = spec | {"indices": [i for i in spec["indices"] if i not in known]}
        made = by_sample(_task, model, rest, workspace, here, what, images, spec["placebos"])
        known |= dict(zip(rest["indices"], made, strict=True))
        pieces = [known[i] for i in spec["indices"]]
        rate = false_attribution_rate(model, range(ATTRIBUTED), images, seed=2, here=here)
        whose = recipe, model.members, model.codebook.words, images
        own, other = losses(*whose)
        tensors = {key: torch.stack([piece[key] for piece in pieces]) for key in pieces[0]}
        tensors |= {"own_loss": own, "other_loss": other, "ratios": ratios(*whose)}
        info = {
            "model": digest(recipe.model_spec),
            "exposure": recipe.exposure,
            "num_sources": model.codebook.num_sources,
            "parameters": sum(p.numel() for p in model.members[0].parameters()),
            "false_attribution": vars(rate) | {},
        }
        pictures = _pictures(model, images, spec["seed"])
        return {"memory.safetensors": tensors, PICTURES: pictures}, info

    def _measured(self, spec: dict, here: Here) -> dict[int, dict[str, torch.Tensor]]:
        """The samples of a spec that are at hand in artefacts of others, as pieces by number."""
        found = {}
        for artefact in here.store.find_all(self.folder, spec["recipe"]):
            if artefact.spec | {"indices": spec["indices"]} == spec:
                tensors = artefact.tensors("memory.safetensors")
                for row, index in enumerate(artefact.spec["indices"]):
                    found[index] = {key: tensors[key][row] for key in _PIECE}
        return {index: found[index] for index in spec["indices"] if index in found}

    def read(self, artefact: Artefact) -> Memory:
        """An artefact's value, with every byte checked."""
        tensors = artefact.tensors("memory.safetensors")
        arrays = {key: value.double().numpy() for key, value in tensors.items()}
        arrays["nearest"] = tensors["nearest"].numpy()
        # Of the placebos and the codeword itself, how many carry the sample as far away.
        arrays["p_values"] = arrays.pop("as_far") / (arrays["placebos"].shape[1] + 1)
        rate = FalseAttribution(**artefact.info["false_attribution"])
        kept = artefact.tensors(PICTURES) if PICTURES in artefact.manifest["files"] else {}
        pictures = {key: value.numpy() / 255 for key, value in kept.items()}
        named = {"attribution": rate, "pictures": pictures, "artefact": artefact}
        return Memory(*name_and_scale(artefact), artefact.info["exposure"], **arrays, **named)

    def words(self, artefact: Artefact) -> str:
        """Samples, and at which exposure."""
        exposure = artefact.info["exposure"]
        return f"{self.size(artefact)} samples of members that saw each image {exposure:,.0f} times"


KIND = _Memory()


def _spec(ensemble: Ensemble, samples: int, seed: int) -> dict:
    N = ensemble.codebook.num_sources
    return {
        "recipe": ensemble.recipe.label,
        "ensemble": ensemble.identity,
        "sampling": spec_of(ensemble.recipe.sampling),
        "seed": seed,
        "indices": sample_numbers(range(samples)),
        "metric": METRIC,
        "placebos": len(ensemble.codebook.unowned(min(N, PLACEBOS))),
    }


def get(
    ensemble: Ensemble,
    samples: int = SAMPLES,
    seed: int = 0,
    images: TrainingSet | None = None,
    here: Here | None = None,
) -> Memory:
    """What an ensemble remembers: at hand, or computed now; a stopped run goes on where it was.

    ``images`` is its training set, by default the recipe's. Raises :class:`BadValue` for an
    ensemble in latents.
    """
    return KIND.get(ensemble, _spec(ensemble, samples, seed), here or Here(), images=images)


def stored(recipe: Recipe, here: Here | None = None) -> Memory | None:
    """What is at hand of a recipe, without its members; or None."""
    return KIND.stored(recipe, here or Here())


def every(recipe: Recipe, here: Here | None = None) -> list[Memory]:
    """What is at hand of a recipe at any exposure, by exposure, without its members."""
    here = here or Here()
    kept = here.store.find_all(KIND.folder, recipe.label)
    found = [stored(recipe.exposed(e), here) for e in sorted({a.info["exposure"] for a in kept})]
    return [value for value in found if value is not None]


def of(recipe: Recipe, here: Here | None = None) -> Memory:
    """What is at hand of a recipe; else its members are trained and measured now."""
    known = stored(recipe, here)
    return get(get_ensemble(recipe, here), here=here) if known is None else known


def read(artefact: Artefact) -> Memory:
    """An artefact's value, with every byte checked."""
    return KIND.read(artefact)


def publish(
    recipe: Recipe,
    samples: int = SAMPLES,
    seed: int = 0,
    here: Here | None = None,
    passing: Sequence[float] = (),
) -> list[Artefact]:
    """Publishes what a recipe's ensemble remembers; its members stay where they are.

    They are trained where they are missing, unless as many samples are published already, and
    then also left at ``passing`` exposures (:func:`abc_lib.train_ensemble`).
    """
    here = here or Here()
    wanted = sample_numbers(range(samples))
    for artefact in KIND.stored_artefacts(recipe, here, seed=seed):
        if artefact.published and set(wanted) <= set(artefact.spec["indices"]):
            return [artefact]
    found = get(get_ensemble(recipe, here, passing=passing), samples, seed, here=here)
    return KIND.publish([found.artefact], here)


def origin(memory: Memory) -> str:
    """Where the numbers come from, in a sentence."""
    return KIND.origin([memory.artefact])
