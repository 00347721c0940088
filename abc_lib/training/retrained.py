"""Retrained models as one value: what they sample from the same noise, and finding them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch

from abc_lib.ground.devices import one_thread, parse_bytes
from abc_lib.ground.digests import digest, identity_of
from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact
from abc_lib.images.latents import FILE
from abc_lib.images.spaces import SPACES
from abc_lib.images.training_set import TrainingSet
from abc_lib.method.diffusion import ExogenousNoise, denoise
from abc_lib.method.network import NoisePredictor, build_network
from abc_lib.method.recipe import Recipe
from abc_lib.method.space import Space, state_shape
from abc_lib.training.budget import activation_bytes
from abc_lib.training.ensembles import trained_from
from abc_lib.training.members import network_of
from abc_lib.training.stacked import StackedNetwork
from abc_lib.training.together import (
    FULL,
    KIND,
    TOGETHER,
    artefacts_of,
    chosen_sources,
    require_removal,
    retrained_spec,
    stored_models,
    train_retrained,
    with_seed,
)

_TRAJECTORIES = {"cpu": 256, "cuda": 4096}


@dataclass(eq=False)
class Retrained:
    """The model on everything and those that leave a source out.

    ``parameters`` have a leading model axis (1 + K, ...), in the stored type, on the CPU:
    the model on everything first, then the one without each of ``sources`` (K,).
    """

    recipe: Recipe
    sources: np.ndarray
    removed: str
    parameters: dict[str, torch.Tensor]
    device: torch.device = torch.device("cpu")
    identity: str = ""
    """a hash of the models' parameters and of which source each leaves out"""
    artefacts: list[Artefact] = field(default_factory=list)
    space: Space | None = None
    """how their states become images; for pixels it need not be given"""

    def __post_init__(self):
        self.space = self.space or Space(self.recipe.data)
        self.identity = self.identity or digest(
            {
                "models": identity_of([self.parameters]),
                "sources": [int(s) for s in self.sources],
                "removed": self.removed,
            }
        )

    def __len__(self) -> int:
        return 1 + len(self.sources)

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of a state: of a sample in pixels, of its latent in latents."""
        return state_shape(self.recipe.data)

    @property
    def full(self) -> NoisePredictor:
        """The model on everything, the factual one."""
        return self._single(0)

    def model(self, source: int) -> NoisePredictor:
        """The model without one source."""
        return self._single(self._row(source))

    def _single(self, row: int) -> NoisePredictor:
        net = network_of(self.recipe, {name: value[row] for name, value in self.parameters.items()})
        return net.eval().requires_grad_(False).to(self.device)

    def _row(self, source: int) -> int:
        rows = np.flatnonzero(self.sources == source)
        if len(rows) == 0:
            raise BadValue(
                f"no model without source {source!r} of {self.recipe.name} is here; train it with "
                "get_retrained(recipe, sources=...)"
            )
        return 1 + int(rows[0])

    def to(self, device: torch.device | str) -> "Retrained":
        """Makes samples on another device from now on; returns itself."""
        self.device = torch.device(device)
        self.space.to(device)
        return self

    def draw_noise(self, seed: int, indices) -> ExogenousNoise:
        """Exogenous noise of the right shape: the same for the same seed and numbers as an
        ensemble's of this recipe.
        """
        return ExogenousNoise.draw(seed, indices, self.shape, self.recipe.sampling)

    @torch.inference_mode()
    def sample(
        self,
        noise: ExogenousNoise,
        models: Iterable[int | str] | None = None,
        memory: int | str = "1GiB",
    ) -> torch.Tensor:
        """Samples of some models from the same exogenous noise: images in [0, 1], (M, S, C, H, W),
        on the CPU.

        ``models`` are :data:`FULL` or sources left out; by default all, the model on
        everything first. ``memory`` bounds what networks in flight hold.
        """
        models = [FULL, *self.sources.tolist()] if models is None else list(models)
        rows = [0 if m == FULL else self._row(m) for m in models]
        if self.device.type == "cpu" and torch.get_num_threads() > 1:
            with one_thread():
                return self._sample(noise, rows, parse_bytes(memory))
        return self._sample(noise, rows, parse_bytes(memory))

    def _sample(self, noise: ExogenousNoise, rows: list[int], memory: int) -> torch.Tensor:
        images = torch.empty(len(rows), len(noise), *self.space.image_shape)
        if not rows:
            return images
        net = build_network(self.recipe.network, self.shape, 0, self.recipe.diffusion).eval()
        fits = memory // (activation_bytes(net, self.shape) + 4 * 8 * int(np.prod(self.shape)))
        if fits < 1:
            raise BadValue(
                f"a memory budget of {memory / 2**20:.1f} MiB does not hold one sample of "
                f"{self.recipe.name}; raise it"
            )
        kind, batch = self.device.type, int(min(_TRAJECTORIES.get(self.device.type, 256), fits))
        together = min(TOGETHER.get(kind, 8), batch, len(rows))
        for start in range(0, len(rows), together):
            part = rows[start : start + together]
            n = len(part)
            net = build_network(self.recipe.network, self.shape, 0, self.recipe.diffusion)
            stack = StackedNetwork(net, n).load(
                {name: value[part] for name, value in self.parameters.items()}
            )
            stack = stack.to(self.device).eval()

            def predict(k: int, x: torch.Tensor, t: int, stack=stack) -> torch.Tensor:
                return stack(x, torch.tensor(t, device=x.device))

            for first in range(0, len(noise), max(1, batch // n)):
                some = noise[range(first, min(first + max(1, batch // n), len(noise)))].to(
                    self.device
                )
                steps = None if some.steps is None else some.steps.repeat(1, 1, n, 1, 1)
                # The models' states lie beside each other in channels; all start from, and are
                # given, the same noise.
                shared = ExogenousNoise(some.initial.repeat(1, n, 1, 1), steps, some.indices)
                x = denoise(predict, shared, self.recipe.diffusion, self.recipe.sampling).unflatten(
                    1, (n, -1)
                )
                images[start : start + n, first : first + len(some)] = (
                    self.space.to_images(x).cpu().transpose(0, 1)
                )
        return images

    def counterfactuals(
        self,
        noise: ExogenousNoise,
        sources: Iterable[int] | None = None,
        memory: int | str = "1GiB",
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Factual samples (S, C, H, W) and retraining-based counterfactuals (S, K, C, H, W), in [0,
        1], on the CPU.

        The factual model and that without each of ``sources`` (default: all that are here)
        denoise the same exogenous noise (2.2).
        """
        sources = self.sources.tolist() if sources is None else list(sources)
        images = self.sample(noise, [FULL, *sources], memory)
        return images[0].clone(), images[1:].transpose(0, 1).contiguous()


def find_retrained(
    recipe: Recipe,
    sources: Iterable[int] | None = None,
    seed: int | None = None,
    removed: str = "black",
    here: Here | None = None,
) -> Retrained | None:
    """The retrained models if all of them are published or in the cache, every byte checked."""
    here = here or Here()
    require_removal(removed)
    home = SPACES[recipe.data.space]
    recipe = home.bind(with_seed(recipe, seed), here.store)
    sources = chosen_sources(recipe, sources)
    there = stored_models(recipe, removed, here.store)
    models = [FULL, *sources]
    if any(m not in there for m in models):
        return None
    artefacts = artefacts_of(recipe, models, there)
    tensors = {a.path: a.tensors("models.safetensors") for a in artefacts}

    def stacked(name: str) -> torch.Tensor:
        return torch.stack([tensors[there[m][0].path][name][there[m][1]] for m in models])

    parameters = {name: stacked(name) for name in sorted(tensors[artefacts[0].path])}
    return Retrained(
        recipe,
        np.array(sources, dtype=np.int64),
        removed,
        parameters,
        artefacts=artefacts,
        space=home.read(recipe, artefacts[0], here),
    )


def get_retrained(
    recipe: Recipe,
    sources: Iterable[int] | None = None,
    seed: int | None = None,
    removed: str = "black",
    images: TrainingSet | None = None,
    here: Here | None = None,
) -> Retrained:
    """The retrained models: published, else from the cache, else trained now.

    Arguments as :func:`train_retrained`. With ``here.anew()`` what is published does not
    count; what this machine already trained, or half trained, is still used.
    """
    here = here or Here()
    sources = chosen_sources(recipe, sources)
    retrained = find_retrained(recipe, sources, seed, removed, here)
    if retrained is None:
        train_retrained(recipe, sources, seed, removed, images, here)
        retrained = find_retrained(recipe, sources, seed, removed, here.anew())
    return retrained.to(here.device)


def pack_retrained(
    retrained: Retrained, publish: bool = True, here: Here | None = None
) -> Artefact:
    """One artefact of all these models, by default published; read like those it was made of."""
    store = (here or Here()).store
    recipe, models = retrained.recipe, [FULL, *retrained.sources.tolist()]
    made = retrained.artefacts
    if not made:
        raise BadValue(
            "these models were not read from artefacts, so nothing says how they were made; use "
            "get_retrained"
        )
    rows = {m: (a, row) for a in reversed(made) for row, m in enumerate(a.spec["models"])}
    losses = {a.path: a.tensors("losses.safetensors")["losses"] for a in made}
    info = {
        "images": made[0].info["images"],
        "split_checksum": made[0].info["split_checksum"],
        "origin": made[0].info["origin"],
        "loss": [rows[m][0].info["loss"][rows[m][1]] for m in models],
        "identity": retrained.identity,
        **trained_from(made),
    }
    kept = torch.stack([losses[rows[m][0].path][rows[m][1]] for m in models])
    files = {"models.safetensors": retrained.parameters, "losses.safetensors": {"losses": kept}}
    if FILE in made[0].manifest["files"]:
        files[FILE] = made[0].tensors(FILE)
    spec = retrained_spec(recipe, models, retrained.removed)
    return store.write(KIND, recipe.label, spec, files, info, publish=publish)
