"""Trained models as one value: what they sample from the same noise, and how they are found, made and packed."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch

from abc_lib.ground.devices import one_thread, parse_bytes, resolve_device
from abc_lib.ground.digests import digest, identity_of
from abc_lib.ground.errors import BadValue
from abc_lib.ground.store import Artefact, Store
from abc_lib.images.latents import FILE, bind, read_space
from abc_lib.images.training_set import TrainingSet
from abc_lib.method.diffusion import ExogenousNoise, denoise
from abc_lib.method.network import NoisePredictor, activation_bytes, build_network
from abc_lib.method.recipe import Recipe
from abc_lib.method.space import Space, state_shape
from abc_lib.training.members import _network_of
from abc_lib.training.stacked import StackedNetwork
from abc_lib.training.together import (
    FULL,
    KIND,
    TOGETHER,
    _artefacts_of,
    _chosen_sources,
    _found,
    _require_removal,
    _seeded,
    retrained_spec,
    train_retrained,
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
        net = _network_of(
            self.recipe, {name: value[row] for name, value in self.parameters.items()}
        )
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
        """Exogenous noise of the right shape: the same for the same seed and numbers as an ensemble's of this recipe."""
        return ExogenousNoise.draw(seed, indices, self.shape, self.recipe.sampling)

    @torch.inference_mode()
    def sample(
        self,
        noise: ExogenousNoise,
        models: Iterable[int | str] | None = None,
        memory: int | str = "1GiB",
    ) -> torch.Tensor:
        """Samples of some models from the same exogenous noise: images in [0, 1], (M, S, C, H, W), on the CPU.

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
                f"a memory budget of {memory / 2**20:.1f} MiB does not hold one sample of {self.recipe.name}; raise it"
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
                # The models' states lie beside each other in channels; all start from, and are given, the same noise.
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
        """Factual samples (S, C, H, W) and retraining-based counterfactuals (S, K, C, H, W), in [0, 1], on the CPU.

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
    store: Store | None = None,
    recompute: bool = False,
) -> Retrained | None:
    """The retrained models if all of them are published or in the cache, every byte checked; else None.

    ``recompute`` passes over published ones.
    """
    store = store or Store()
    _require_removal(removed)
    recipe, sources = bind(_seeded(recipe, seed), store), _chosen_sources(recipe, sources)
    found = _found(recipe, removed, Store(store.cache, None) if recompute else store)
    models = [FULL, *sources]
    if any(m not in found for m in models):
        return None
    artefacts = _artefacts_of(recipe, models, found)
    tensors = {a.path: a.tensors("models.safetensors") for a in artefacts}
    names = sorted(tensors[artefacts[0].path])
    parameters = {
        name: torch.stack([tensors[found[m][0].path][name][found[m][1]] for m in models])
        for name in names
    }
    return Retrained(
        recipe,
        np.array(sources, dtype=np.int64),
        removed,
        parameters,
        artefacts=artefacts,
        space=read_space(recipe, artefacts[0], store),
    )


def get_retrained(
    recipe: Recipe,
    sources: Iterable[int] | None = None,
    seed: int | None = None,
    removed: str = "black",
    store: Store | None = None,
    device: str = "auto",
    recompute: bool = False,
    memory: int | str = "2GiB",
    n_jobs: int | None = None,
    images: TrainingSet | None = None,
    progress: bool = True,
) -> Retrained:
    """The retrained models: published, else from the cache, else trained now; arguments as :func:`train_retrained`.

    ``recompute`` passes over what is published; what this machine already trained, or
    half trained, is still used.
    """
    store, target = store or Store(), resolve_device(device)
    sources = _chosen_sources(recipe, sources)
    retrained = find_retrained(recipe, sources, seed, removed, store, recompute)
    if retrained is None:
        train_retrained(
            recipe, sources, seed, removed, store, device, memory, n_jobs, images, progress
        )
        retrained = find_retrained(recipe, sources, seed, removed, store, recompute=True)
    return retrained.to(target)


def pack_retrained(retrained: Retrained, store: Store, publish: bool = True) -> Artefact:
    """One artefact of all these models, by default to be published; it is read like those it was made of."""
    recipe, models = retrained.recipe, [FULL, *retrained.sources.tolist()]
    made = retrained.artefacts
    if not made:
        raise BadValue(
            "these models were not read from artefacts, so nothing says how they were made; use get_retrained"
        )
    rows = {m: (a, row) for a in reversed(made) for row, m in enumerate(a.spec["models"])}
    losses = {a.path: a.tensors("losses.safetensors")["losses"] for a in made}
    info = {
        "images": made[0].info["images"],
        "split_checksum": made[0].info["split_checksum"],
        "origin": made[0].info["origin"],
        "loss": [rows[m][0].info["loss"][rows[m][1]] for m in models],
        "identity": retrained.identity,
        "training_seconds": round(
            sum(a.info.get("seconds", a.info.get("training_seconds", 0)) for a in made), 1
        ),
        "trained_from": sorted({a.provenance["commit"] for a in made}),
        "trained_on": sorted({a.provenance["hardware"] for a in made}),
        "trained_at": max(a.provenance["time"] for a in made),
    }
    files = {
        "models.safetensors": retrained.parameters,
        "losses.safetensors": {
            "losses": torch.stack([losses[rows[m][0].path][rows[m][1]] for m in models])
        },
    }
    if FILE in made[0].manifest["files"]:
        files[FILE] = made[0].tensors(FILE)
    return store.write(
        KIND,
        recipe.label,
        retrained_spec(recipe, models, retrained.removed),
        files,
        info,
        publish=publish,
    )
