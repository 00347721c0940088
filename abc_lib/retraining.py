"""Retraining-based counterfactuals: one model on everything, one without each source, trained together (2.2, 3.2, C.3).

The models of a recipe start from the same parameters and see the same minibatches, time
steps and noise; nothing but the left-out source's images tells them apart. So a group of
them is trained as one network that carries a model axis: convolutions are grouped, linear
maps are batched products, one Adam over stacked tensors is exactly many Adams, and the
order, the noise and the time embedding are worked out once.

Streams of random numbers are those of the single model that :func:`train_ensemble` calls
``control``: the model on everything is that one, up to rounding (and dropout's masks, where a recipe has it).
"""

import numbers
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from .datasets import TrainingSet
from .diffusion import ExogenousNoise, add_noise, alphas_cumprod, denoise
from .ensemble import resolve_device
from .errors import ArtefactError, BadValue, positive_int, unknown
from .landscape import METRIC, Landscapes, attributed_image, images_to_show, parse_bytes
from .metrics import euclidean
from .models import NoisePredictor, activation_bytes, build_network
from .recipes import Recipe, digest, spec_of
from .seeds import derive
from .spaces import FILE, Space, bind, black_state, prepare, read_space, space_files, state_shape, to_states, training_states
from .store import Artefact, Store, Workspace, identity_of, stopwatch
from .tasks import job_count, one_thread, run_tasks
from .training import (
    _PRECISIONS, CHECKPOINT_SECONDS, _Batches, _checkpoint, _network_of, _require_same_images, _resume, _seeded_dropout,
    learning_rate,
)

FULL = "full"
"""the name of the model that is trained on everything"""
REMOVED = ("black", "removed")
"""what becomes of a left-out image: see :func:`train_retrained`"""

_KIND = "retrained"
_LANDSCAPE = "retrained-landscape"
_STREAM = "control"
# Measured: more models at once gain nothing on a CPU, where the convolutions are then near its peak.
_TOGETHER = {"cpu": 8, "cuda": 64}
_TRAJECTORIES = {"cpu": 256, "cuda": 4096}


# --- a network with a model axis ---


class StackedNetwork(nn.Module):
    """``n`` networks of one recipe as one: every parameter has a leading axis (n, ...).

    ``forward(x, t)`` takes states (B, n * C, H, W), the models' channels one after
    another, and time steps (B,) or a scalar that all models share; it returns the noise
    that each model predicts in its own channels, (B, n * C, H, W). It computes what ``n``
    :class:`NoisePredictor` compute one by one, up to rounding. Dropout, where a recipe has
    it, drops the same units in all models.
    """

    def __init__(self, net: NoisePredictor, n: int):
        super().__init__()
        self.net, self.n = net, n
        # diffusers' modules stay as the place where parameters are kept, under their own names.
        for module in net.modules():
            for name, value in module._parameters.items():
                if value is not None:
                    module._parameters[name] = nn.Parameter(value.detach().expand(n, *value.shape).clone())

    def load(self, parameters: dict[str, torch.Tensor]) -> "StackedNetwork":
        """Sets every parameter from tensors (n, ...) of any floating type; returns itself."""
        with torch.no_grad():
            for name, value in self.net.named_parameters():
                value.copy_(parameters[name])
        return self

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """(B, n * C, ...) as (B, n, C, ...)."""
        return x.unflatten(1, (self.n, -1))

    def _product(self, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """weight (n, O, I) on the channels of x (B, n * I, H, W), as one large product a model: (B, n, O, H * W)."""
        batch, _, height, width = x.shape
        columns = x.reshape(batch, self.n, -1, height * width).permute(1, 2, 0, 3).flatten(2)
        return torch.bmm(weight, columns).unflatten(2, (batch, -1)).permute(2, 0, 1, 3)

    def _conv(self, module: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        weight, bias = module.weight, module.bias.flatten()
        size = x.shape[-2:]
        if module.kernel_size == (1, 1):
            return self._product(weight.flatten(2), x).reshape(len(x), -1, *size) + bias[:, None, None]
        outputs = weight.shape[1]
        if outputs < 8 and module.stride == (1, 1):
            # Libraries are slow on few output channels, above all backwards: take the products
            # with all taps of the kernel at once, then add up what falls on the same pixel.
            taps = weight.flip(3, 4).permute(0, 1, 3, 4, 2).flatten(1, 3)
            columns = self._product(taps, x).flatten(0, 1)
            out = F.fold(columns, tuple(size), module.kernel_size, padding=module.padding)
            return out.reshape(len(x), -1, *size) + bias[:, None, None]
        return F.conv2d(x, weight.flatten(0, 1), bias, module.stride, module.padding, groups=self.n)

    def _norm(self, module: nn.GroupNorm, x: torch.Tensor) -> torch.Tensor:
        return F.group_norm(x, self.n * module.num_groups, module.weight.flatten(), module.bias.flatten(), module.eps)

    @staticmethod
    def _linear(module: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        """(n, K, I) to (n, K, O)."""
        return torch.baddbmm(module.bias[:, None], x, module.weight.transpose(1, 2))

    def _dropout(self, module: nn.Dropout, x: torch.Tensor) -> torch.Tensor:
        if not self.training or not module.p:
            return x
        split = self._split(x)
        # Drawn once, so that dropout does not tell the models apart.
        return (split * F.dropout(x.new_ones(split[:, 0].shape), module.p)[:, None]).flatten(1, 2)

    def _resnet(self, block: nn.Module, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        h = self._conv(block.conv1, F.silu(self._norm(block.norm1, x)))
        h = h + self._linear(block.time_emb_proj, time).transpose(0, 1).flatten(1)[:, :, None, None]
        h = self._conv(block.conv2, self._dropout(block.dropout, F.silu(self._norm(block.norm2, h))))
        return h + (x if block.conv_shortcut is None else self._conv(block.conv_shortcut, x))

    def _attention(self, block: nn.Module, x: torch.Tensor) -> torch.Tensor:
        batch, _, height, width = x.shape
        n, pixels = self.n, height * width
        h = self._norm(block.group_norm, x).reshape(batch, n, -1, pixels).permute(1, 0, 3, 2).flatten(1, 2)

        def heads(linear: nn.Linear) -> torch.Tensor:
            return self._linear(linear, h).view(n * batch, pixels, block.heads, -1).transpose(1, 2)

        h = F.scaled_dot_product_attention(heads(block.to_q), heads(block.to_k), heads(block.to_v))
        h = self._linear(block.to_out[0], h.transpose(1, 2).reshape(n, batch * pixels, -1))
        return x + h.view(n, batch, pixels, -1).permute(1, 0, 3, 2).reshape(x.shape)

    def _layers(self, block: nn.Module, x: torch.Tensor, time: torch.Tensor, skips: list | None = None, visit=None) -> torch.Tensor:
        """The layers of a down or an up block; ``skips`` are taken from the end, ``visit`` is shown each output."""
        attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
        for resnet, attention in zip(block.resnets, attentions, strict=True):
            if skips is not None:
                x = torch.cat([self._split(x), self._split(skips.pop())], dim=2).flatten(1, 2)
            x = self._resnet(resnet, x, time)
            if attention is not None:
                x = self._attention(attention, x)
            if visit is not None:
                visit(x)
        return x

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        unet, patch, states = self.net.unet, self.net.patch, x
        t = t.reshape(-1).expand(len(x))
        time = unet.time_proj(t).to(x.dtype).expand(self.n, -1, -1)
        time = self._linear(unet.time_embedding.linear_2, F.silu(self._linear(unet.time_embedding.linear_1, time)))
        # Every layer passes it through the same nonlinearity first.
        time = F.silu(time)
        x = self._conv(unet.conv_in, x if patch == 1 else F.pixel_unshuffle(x, patch))
        skips = [x]
        for block in unet.down_blocks:
            x = self._layers(block, x, time, visit=skips.append)
            for sampler in block.downsamplers or []:
                x = self._conv(sampler.conv, x)
                skips.append(x)
        middle = unet.mid_block
        x = self._resnet(middle.resnets[0], x, time)
        for attention, resnet in zip(middle.attentions, middle.resnets[1:], strict=True):
            x = self._resnet(resnet, self._attention(attention, x), time)
        for block in unet.up_blocks:
            x = self._layers(block, x, time, skips)
            for sampler in block.upsamplers or []:
                x = self._conv(sampler.conv, F.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = self._conv(unet.conv_out, F.silu(self._norm(unet.conv_norm_out, x)))
        x = x if patch == 1 else F.pixel_shuffle(x, patch)
        if not self.net.velocity:
            return x
        a = self.net.alphas[t][:, None, None, None]
        return (1 - a).sqrt() * states + a.sqrt() * x


# --- training ---


class TrainingTogether:
    """The training of some models of a recipe in lockstep: ``step(k)`` takes them all through step k.

    ``network`` is the :class:`StackedNetwork`, ``optimiser`` its one Adam. There is no
    gradient clipping to do a model at a time, as members have none either.
    """

    def __init__(self, recipe: Recipe, models: list[int | str], images: TrainingSet, removed: str = "black",
                 device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32):
        training, data = recipe.training, recipe.data
        self.recipe, self.removed, self.device, self.dtype = recipe, removed, torch.device(device), dtype
        if len(images) == 0:
            raise BadValue(f"the retrained models of {recipe.name} have no images to train on; use a larger training set")
        self.left_out = torch.tensor([-1 if m == FULL else m for m in models], device=self.device)
        if removed == "removed":
            for source in models:
                if source != FULL and bool((images.sources == source).all()):
                    raise BadValue(f"without source {source} of {recipe.name} no image is left to train on; use removed='black'")
        self.shape = tuple(images.images.shape[1:])
        net = build_network(recipe.network, self.shape, derive("initial", training.seed, _STREAM), recipe.diffusion)
        self.network = StackedNetwork(net, len(models)).to(self.device, dtype).train()
        self.run = torch.compile(self.network) if training.compile and self.device.type == "cuda" else self.network
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=training.learning_rate, fused=self.device.type != "mps")
        self.alphas = alphas_cumprod(recipe.diffusion).to(self.device, dtype)
        self.images = to_states(images, data).to(self.device, dtype)
        self.black = black_state(images, data).to(self.device, dtype)
        self.sources = images.sources.to(self.device)
        self.batches = _Batches(recipe, _STREAM, len(images))
        self.autocast = torch.autocast(self.device.type, torch.bfloat16,
                                       enabled=self.device.type == "cuda" and training.precision == "bfloat16")

    def step(self, k: int) -> torch.Tensor:
        """One step of every model; returns their losses (n,) before it."""
        recipe, n = self.recipe, self.network.n
        which = self.batches.indices(k)
        times, noise, flips, dropout_seed = self.batches.chance(k, (len(which), *self.shape))
        times, noise, which = times.to(self.device), noise.to(self.device, self.dtype), which.to(self.device)
        x = self.images[which]
        if recipe.data.flips and recipe.data.space == "pixel":
            x = torch.where(flips.to(self.device)[:, None, None, None], x.flip(-1), x)
        gone = self.sources[which][:, None] == self.left_out  # (B, n)
        # Chosen, not multiplied by zero: whatever is in a left-out image, it has no way into its model.
        seen = add_noise(x, noise, times, self.alphas)[:, None]
        blank = add_noise(self.black.expand_as(x), noise, times, self.alphas)[:, None]
        states = torch.where(gone[:, :, None, None, None], blank, seen).flatten(1, 2)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(recipe, k)
        with _seeded_dropout(recipe, self.device, dropout_seed), self.autocast:
            predicted = self.run(states, times).to(self.dtype).unflatten(1, (n, -1))
        error = (predicted - noise[:, None]).square().mean(dim=(2, 3, 4))
        if recipe.training.weighting == "velocity":
            error = error / self.alphas[times][:, None]
        if self.removed == "black":
            losses = error.mean(dim=0)
        else:
            losses = torch.where(gone, 0, error).sum(dim=0) / (~gone).sum(dim=0).clamp(min=1)
        self.optimiser.zero_grad(set_to_none=True)
        # No model's loss depends on another's parameters, so the sum's gradient holds each model's own.
        losses.sum().backward()
        self.optimiser.step()
        return losses.detach()

    def parameters(self) -> dict[str, torch.Tensor]:
        """Parameters by the names that an ordinary network gives them, (n, ...)."""
        return {name: value.detach() for name, value in self.network.net.named_parameters()}


def _seeded(recipe: Recipe, seed: int | None) -> Recipe:
    if seed is None:
        return recipe
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise BadValue(f"seed is {seed!r}; it must be a whole number")
    return recipe.replace(training={"seed": int(seed)})


def _require_removal(removed: str) -> None:
    if removed not in REMOVED:
        raise unknown("way to leave a source out", removed, REMOVED)


def _chosen_sources(recipe: Recipe, sources: Iterable[int] | None) -> list[int]:
    count = recipe.data.num_sources
    if sources is None:
        return list(range(count))
    sources = list(sources)
    for source in sources:
        if isinstance(source, bool) or not isinstance(source, numbers.Integral) or not 0 <= source < count:
            raise BadValue(f"{recipe.name} has no source {source!r}; its sources are 0..{count - 1}")
    if len(set(sources)) != len(sources):
        raise BadValue("a source was asked for twice; name each once")
    return [int(s) for s in sources]


def _common_spec(recipe: Recipe, removed: str) -> dict:
    """What determines a retrained model but which one it is; the code of the ensemble is not part of it."""
    return {key: value for key, value in recipe.model_spec.items() if key != "code"} | {"removed": removed}


def retrained_spec(recipe: Recipe, models: list[int | str], removed: str = "black") -> dict:
    """What determines an artefact that holds some retrained models."""
    return _common_spec(recipe, removed) | {"models": models}


def models_together(recipe: Recipe, memory: int | str = "2GiB", jobs: int = 1, device: torch.device | str = "cpu") -> int:
    """How many models are trained as one group: what is fastest, or less if ``memory`` for all jobs asks for it.

    Raises :class:`BadValue` if the budget does not hold one model for each job.
    """
    budget, shape = parse_bytes(memory), state_shape(recipe.data)
    net = build_network(recipe.network, shape, 0, recipe.diffusion)
    # What the backward pass needs of the forward pass and about as much again in passing; value, gradient,
    # two moments, and one to spare, of every parameter.
    one = 2 * recipe.training.batch_size * activation_bytes(net, shape) + 5 * 4 * sum(p.numel() for p in net.parameters())
    fits = budget // (jobs * one)
    if fits < 1:
        raise BadValue(f"a memory budget of {budget / 2**20:.1f} MiB does not hold one model for each of {jobs} jobs "
                       f"({one / 2**20:.1f} MiB each); raise the budget or use n_jobs=1")
    return int(min(_TOGETHER.get(torch.device(device).type, 8), fits))


def _groups(models: list[int | str], size: int) -> list[list[int | str]]:
    """As few groups as hold ``size`` at most, of sizes that differ by one at most, in order."""
    count = -(-len(models) // size)
    bounds = [len(models) * k // count for k in range(count + 1)]
    return [models[a:b] for a, b in zip(bounds, bounds[1:])]


def _found(recipe: Recipe, removed: str, store: Store) -> dict[int | str, tuple[Artefact, int]]:
    """Which artefact holds each model that is there, and where in it; published ones first."""
    common, found = digest(_common_spec(recipe, removed)), {}
    for artefact in store.find_all(_KIND, recipe.label):
        # Digests, because a spec that was read back has lists for tuples.
        if digest({key: value for key, value in artefact.spec.items() if key != "models"}) == common:
            for row, model in enumerate(artefact.spec["models"]):
                found.setdefault(model, (artefact, row))
    return found


def train_group(
    recipe: Recipe, models: list[int | str], images: TrainingSet, store: Store, removed: str = "black",
    device: torch.device | str = "cpu", checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Artefact:
    """Trains some models together, or finds them trained, or goes on where they were stopped.

    ``models`` are :data:`FULL` or numbers of sources to leave out; ``images`` the whole
    training set. The artefact holds ``models.safetensors``, every parameter with a leading
    model axis (n, ...) in the recipe's stored type, and ``losses.safetensors``, (n, steps).
    On one CPU the same group gives the same bits, however often the work was interrupted.
    """
    _require_removal(removed)
    device, checksum = torch.device(device), images.checksum
    spec, label = retrained_spec(recipe, models, removed), recipe.label
    with store.lock(_KIND, label, spec):
        done, workspace = store.find(_KIND, label, spec), store.workspace(_KIND, label, spec)
        if done is None:
            done = _train(recipe, models, images, removed, store, workspace, device, checkpoint_seconds, checksum)
        # also what a run that was stopped right at its end left behind
        workspace.clear()
    return _require_same_images(done, images, checksum)


def _train(
    recipe: Recipe, models: list[int | str], images: TrainingSet, removed: str, store: Store, workspace: Workspace,
    device: torch.device, checkpoint_seconds: float, checksum: str,
) -> Artefact:
    together, steps = TrainingTogether(recipe, models, images, removed, device), recipe.training.steps
    losses, start = torch.zeros(len(models), steps), 0
    # A checkpoint holds for these images only.
    name = f"checkpoint-{checksum[:12]}"
    piece = workspace.load(name)
    if piece is not None:
        start = _resume(together.network.net, together.optimiser, piece)
        losses = piece["losses"]
    seconds, saved, cost, told = stopwatch(), 0.0, 0.0, 0.0
    for step in range(start, steps):
        losses[:, step] = together.step(step).cpu()
        if seconds() - told > 0.5:
            told = seconds()
            workspace.note(f"{step + 1} {float(losses[:, max(0, step - 99) : step + 1].mean()):.4f}")
        # Saving must never take more than a twentieth of the time, however large the networks.
        if seconds() - saved > max(checkpoint_seconds, 20 * cost) and step + 1 < steps:
            before = seconds()
            workspace.save(name, _checkpoint(together.network.net, together.optimiser, step + 1, losses))
            saved = seconds()
            cost = saved - before
    parameters = {key: value.to("cpu", _PRECISIONS[recipe.training.stored]).contiguous()
                  for key, value in together.parameters().items()}
    for row, model in enumerate(models):
        title = f"{recipe.label}, {'the model on everything' if model == FULL else f'the model without source {model}'},"
        if not torch.isfinite(losses[row]).all():
            raise BadValue(f"training of {title} diverged (the loss is not finite); lower the learning rate")
        if not all(torch.isfinite(value[row]).all() for value in parameters.values()):
            raise BadValue(f"{title} diverged: it has parameters too large for {recipe.training.stored}; lower the learning rate")
    info = {
        "images": len(images), "split_checksum": checksum, "origin": images.origin,
        "loss": [round(float(row[-min(200, steps):].mean()), 6) for row in losses],
        "seconds": round(seconds(), 1), "steps_in_these_seconds": steps - start,
    }
    files = {"models.safetensors": parameters, "losses.safetensors": {"losses": losses}} | space_files(images)
    return store.write(_KIND, recipe.label, retrained_spec(recipe, models, removed), files, info, device)


def _group_task(recipe: Recipe, models: list[int | str], images: TrainingSet, removed: str, cache, device: str) -> None:
    # Only the cache: whoever trains has already looked at what is published.
    train_group(recipe, models, images, Store(cache, None), removed, device)


def train_retrained(
    recipe: Recipe,
    sources: Iterable[int] | None = None,
    seed: int | None = None,
    removed: str = "black",
    store: Store | None = None,
    device: str = "auto",
    memory: int | str = "2GiB",
    n_jobs: int | None = None,
    images: TrainingSet | None = None,
    progress: bool = True,
) -> list[Artefact]:
    """Trains the model on everything and one without each of ``sources`` (default: all N); returns their artefacts.

    All share initial parameters, order and contents of minibatches, flips, time steps,
    noise and dropout, with the recipe's ``Training`` as it is for members; ``seed``
    replaces its seed, so that two retrainings can be compared that differ in nothing else.
    Finished parameters are rounded to the recipe's stored type, as members are.

    What becomes of the left-out source's images (3.2, C.3):

    - ``removed="black"``, the paper's way: all-black ones take their places in the
      minibatches, and count in the loss.
    - ``removed="removed"``: their places stay empty. A minibatch keeps its other images
      with their own time steps and noise, and its loss is the mean over those; the
      minibatch gets smaller, no other image moves up. One that is left empty has the
      gradient zero (Adam still takes its step, on its running means).

    Either way nothing of the pixels reaches the model that leaves them out.

    Groups of models are trained as one network, side by side on cores; ``memory`` bounds
    what all jobs together hold, and so how many models go into a group. Groups change
    results by rounding only. Models that are in the cache are not trained again, and a
    stopped run goes on where it was. Raises :class:`BadValue` for sources that are not
    there, a budget too small, or training that diverged; :class:`ArtefactError` where what
    is in the cache was trained on other images.
    """
    recipe = _seeded(recipe, seed)
    _require_removal(removed)
    models = [FULL, *_chosen_sources(recipe, sources)]
    store, device = store or Store(), resolve_device(device)
    recipe = prepare(recipe, store, device, progress)
    cached = Store(store.cache, None)
    found = _found(recipe, removed, cached)
    # Groups are cut from the whole list, so that a run that goes on finds its own again.
    groups = _groups(models, models_together(recipe, memory, job_count(n_jobs, device), device))
    todo = [missing for group in groups if (missing := [m for m in group if m not in found])]
    if todo or images is not None:
        images = training_states(recipe, store, device, images, n_jobs, progress)
        checksum = images.checksum
        for model in models:
            if model in found:
                _require_same_images(found[model][0], images, checksum)
    if todo:
        _train_groups(recipe, todo, images, removed, cached, device, len(models), n_jobs, progress)
        found = _found(recipe, removed, cached)
    return _artefacts_of(recipe, models, found)


def _train_groups(recipe, todo, images, removed, store, device, count, n_jobs, progress) -> None:
    steps, label = recipe.training.steps, recipe.label
    specs = [retrained_spec(recipe, group, removed) for group in todo]
    spaces = [store.workspace(_KIND, label, spec) for spec in specs]
    folders = [store.cache / _KIND / store.folder_name(label, spec) for spec in specs]
    before = steps * (count - sum(map(len, todo)))

    def poll() -> tuple[int, str]:
        done, losses = before, []
        for group, space, folder in zip(todo, spaces, folders):
            note = space.read_note().split()
            if note:
                done += int(note[0]) * len(group)
                losses.append(float(note[1]))
            elif folder.is_dir():
                done += steps * len(group)
        return done, f"loss {sum(losses) / len(losses):.4f}" if losses else ""

    arguments = [(recipe, group, images, removed, store.cache, str(device)) for group in todo]
    for _ in run_tasks(_group_task, arguments, len(arguments), device=device, total=steps * count,
                       description=f"retraining {label}", unit="step", poll=poll, n_jobs=n_jobs, progress=progress):
        pass


def _artefacts_of(recipe: Recipe, models: list[int | str], found: dict) -> list[Artefact]:
    artefacts = list({found[m][0].path: found[m][0] for m in models}.values())
    origins = {a.info["origin"] for a in artefacts}
    if len({a.info["split_checksum"] for a in artefacts}) > 1:
        raise ArtefactError(f"the retrained models of {recipe.label} were trained on different data ({', '.join(sorted(origins))}); "
                            f"delete {artefacts[-1].path.parent} and train again")
    return artefacts


# --- finished models ---


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
        self.identity = self.identity or digest({
            "models": identity_of([self.parameters]), "sources": [int(s) for s in self.sources], "removed": self.removed,
        })

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
        net = _network_of(self.recipe, {name: value[row] for name, value in self.parameters.items()})
        return net.eval().requires_grad_(False).to(self.device)

    def _row(self, source: int) -> int:
        rows = np.flatnonzero(self.sources == source)
        if len(rows) == 0:
            raise BadValue(f"no model without source {source!r} of {self.recipe.name} is here; train it with "
                           "get_retrained(recipe, sources=...)")
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
    def sample(self, noise: ExogenousNoise, models: Iterable[int | str] | None = None, memory: int | str = "1GiB") -> torch.Tensor:
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
            raise BadValue(f"a memory budget of {memory / 2**20:.1f} MiB does not hold one sample of {self.recipe.name}; raise it")
        kind, batch = self.device.type, int(min(_TRAJECTORIES.get(self.device.type, 256), fits))
        together = min(_TOGETHER.get(kind, 8), batch, len(rows))
        for start in range(0, len(rows), together):
            part = rows[start : start + together]
            n = len(part)
            net = build_network(self.recipe.network, self.shape, 0, self.recipe.diffusion)
            stack = StackedNetwork(net, n).load({name: value[part] for name, value in self.parameters.items()})
            stack = stack.to(self.device).eval()

            def predict(k: int, x: torch.Tensor, t: int, stack=stack) -> torch.Tensor:
                return stack(x, torch.tensor(t, device=x.device))

            for first in range(0, len(noise), max(1, batch // n)):
                some = noise[range(first, min(first + max(1, batch // n), len(noise)))].to(self.device)
                steps = None if some.steps is None else some.steps.repeat(1, 1, n, 1, 1)
                # The models' states lie beside each other in channels; all start from, and are given, the same noise.
                shared = ExogenousNoise(some.initial.repeat(1, n, 1, 1), steps, some.indices)
                x = denoise(predict, shared, self.recipe.diffusion, self.recipe.sampling).unflatten(1, (n, -1))
                images[start : start + n, first : first + len(some)] = self.space.to_images(x).cpu().transpose(0, 1)
        return images

    def counterfactuals(
        self, noise: ExogenousNoise, sources: Iterable[int] | None = None, memory: int | str = "1GiB",
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Factual samples (S, C, H, W) and retraining-based counterfactuals (S, K, C, H, W), in [0, 1], on the CPU.

        The factual model and that without each of ``sources`` (default: all that are here)
        denoise the same exogenous noise (2.2).
        """
        sources = self.sources.tolist() if sources is None else list(sources)
        images = self.sample(noise, [FULL, *sources], memory)
        return images[0].clone(), images[1:].transpose(0, 1).contiguous()


def find_retrained(
    recipe: Recipe, sources: Iterable[int] | None = None, seed: int | None = None, removed: str = "black",
    store: Store | None = None, recompute: bool = False,
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
    parameters = {name: torch.stack([tensors[found[m][0].path][name][found[m][1]] for m in models]) for name in names}
    return Retrained(recipe, np.array(sources, dtype=np.int64), removed, parameters, artefacts=artefacts,
                     space=read_space(recipe, artefacts[0], store))


def get_retrained(
    recipe: Recipe, sources: Iterable[int] | None = None, seed: int | None = None, removed: str = "black",
    store: Store | None = None, device: str = "auto", recompute: bool = False, memory: int | str = "2GiB",
    n_jobs: int | None = None, images: TrainingSet | None = None, progress: bool = True,
) -> Retrained:
    """The retrained models: published, else from the cache, else trained now; arguments as :func:`train_retrained`.

    ``recompute`` passes over what is published; what this machine already trained, or
    half trained, is still used.
    """
    store, target = store or Store(), resolve_device(device)
    sources = _chosen_sources(recipe, sources)
    retrained = find_retrained(recipe, sources, seed, removed, store, recompute)
    if retrained is None:
        train_retrained(recipe, sources, seed, removed, store, device, memory, n_jobs, images, progress)
        retrained = find_retrained(recipe, sources, seed, removed, store, recompute=True)
    return retrained.to(target)


def pack_retrained(retrained: Retrained, store: Store, publish: bool = True) -> Artefact:
    """One artefact of all these models, by default to be published; it is read like those it was made of."""
    recipe, models = retrained.recipe, [FULL, *retrained.sources.tolist()]
    made = retrained.artefacts
    if not made:
        raise BadValue("these models were not read from artefacts, so nothing says how they were made; use get_retrained")
    rows = {m: (a, row) for a in reversed(made) for row, m in enumerate(a.spec["models"])}
    losses = {a.path: a.tensors("losses.safetensors")["losses"] for a in made}
    info = {
        "images": made[0].info["images"], "split_checksum": made[0].info["split_checksum"], "origin": made[0].info["origin"],
        "loss": [rows[m][0].info["loss"][rows[m][1]] for m in models],
        "identity": retrained.identity,
        "training_seconds": round(sum(a.info.get("seconds", a.info.get("training_seconds", 0)) for a in made), 1),
        "trained_from": sorted({a.provenance["commit"] for a in made}),
        "trained_on": sorted({a.provenance["hardware"] for a in made}),
        "trained_at": max(a.provenance["time"] for a in made),
    }
    files = {"models.safetensors": retrained.parameters,
             "losses.safetensors": {"losses": torch.stack([losses[rows[m][0].path][rows[m][1]] for m in models])}}
    if FILE in made[0].manifest["files"]:
        files[FILE] = made[0].tensors(FILE)
    return store.write(_KIND, recipe.label, retrained_spec(recipe, models, retrained.removed), files, info, publish=publish)


# --- landscapes ---


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


def _landscape_task(retrained: Retrained, noise: ExogenousNoise, keep: int, memory: int, workspace: Workspace, name: str) -> int:
    """Some samples' landscapes over all sources, a group of models at a time, saved as a piece."""
    factual = retrained.sample(noise, [FULL], memory)[0]
    sources, together = retrained.sources, _TOGETHER.get(retrained.device.type, 8)
    distances = torch.zeros(len(noise), len(sources), dtype=torch.float64)
    kept, columns = torch.zeros(len(noise), 0, *factual.shape[1:]), torch.zeros(len(noise), 0, dtype=torch.int64)
    for start in range(0, len(sources), together):
        part = sources[start : start + together].tolist()
        images = retrained.sample(noise, part, memory).transpose(0, 1)
        mine = torch.arange(start, start + len(part)).expand(len(noise), -1)
        distances[:, start : start + len(part)] = euclidean(images, factual[:, None])
        kept, columns = torch.cat([kept, images], dim=1), torch.cat([columns, mine], dim=1)
        # Columns rise within what is kept and what is new, so equal distances keep their order.
        order = torch.argsort(-distances.gather(1, columns), dim=1, stable=True)[:, :keep]
        columns = columns.gather(1, order)
        kept = torch.stack([row[pick] for row, pick in zip(kept, order)])
    workspace.save(name, {
        "factual": factual.contiguous(), "distances": distances, "kept": kept.contiguous(),
        "kept_sources": torch.from_numpy(sources)[columns].contiguous(),
    })
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
        raise BadValue("there is no model that leaves a source out, so no counterfactual; train some with get_retrained")
    keep = min(positive_int("keep", keep), len(retrained.sources))
    spec = {
        "recipe": recipe.label, "retrained": retrained.identity, "sampling": spec_of(recipe.sampling), "seed": seed,
        "indices": indices, "metric": METRIC, "keep": keep,
    }
    with store.lock(_LANDSCAPE, recipe.label, spec):
        done = store.find(_LANDSCAPE, recipe.label, spec)
        workspace = store.workspace(_LANDSCAPE, recipe.label, spec)
        if done is None:
            done = _compute_landscapes(retrained, spec, store, workspace, parse_bytes(memory), n_jobs, progress, images)
        workspace.clear()
    return read_retraining_landscapes(done)


def _compute_landscapes(retrained, spec, store, workspace, memory, n_jobs, progress, images) -> Artefact:
    recipe, indices, device, seconds = retrained.recipe, spec["indices"], retrained.device, stopwatch()
    jobs, sources = job_count(n_jobs, device), retrained.sources
    size = min(64 if device.type == "cpu" else 1024, -(-len(indices) // jobs))
    blocks = [range(start, min(start + size, len(indices))) for start in range(0, len(indices), size)]
    names = [f"block-{size}-{block.start:06d}" for block in blocks]
    todo = [(block, name) for block, name in zip(blocks, names) if not workspace.has(name)]
    arguments = ((retrained, retrained.draw_noise(spec["seed"], [indices[i] for i in block]), spec["keep"], memory // jobs,
                  workspace, name) for block, name in todo)
    finished = [(len(indices) - sum(len(block) for block, _ in todo)) * len(sources)]
    if todo:
        for count in run_tasks(_landscape_task, arguments, len(todo), device=device, total=len(indices) * len(sources),
                               description=f"retraining-based counterfactuals of {recipe.label}", unit="cf",
                               poll=lambda: (finished[0], ""), n_jobs=n_jobs, progress=progress):
            finished[0] += count
    pieces = [workspace.load(name) for name in names]
    tensors = {key: torch.cat([piece[key] for piece in pieces]) for key in pieces[0]}
    files = {"landscape.safetensors": tensors | {"sources": torch.from_numpy(sources)}}
    images = images_to_show(recipe) if images is None else images
    if images is not None:
        shown = [attributed_image(images, int(s), x) for s, x in zip(tensors["kept_sources"][:, 0], tensors["factual"])]
        files["attributed.safetensors"] = {"images": images.images[shown].clone(), "labels": images.labels[shown].clone(),
                                           "where": images.where[shown].clone()}
    info = {"seconds": round(seconds(), 1), "num_sources": recipe.data.num_sources, "removed": retrained.removed,
            "training_seed": recipe.training.seed}
    return store.write(_LANDSCAPE, recipe.label, spec, files, info, device)


def read_retraining_landscapes(artefact: Artefact) -> RetrainingLandscapes:
    """An artefact's landscapes, with every byte checked."""
    spec, found = artefact.spec, artefact.tensors("landscape.safetensors")
    name, _, scale = spec["recipe"].rpartition("-")
    shown = artefact.tensors("attributed.safetensors") if "attributed.safetensors" in artefact.manifest["files"] else None
    return RetrainingLandscapes(
        name, scale, spec["seed"], np.array(spec["indices"]), found["factual"], found["distances"].numpy(),
        found["kept_sources"].numpy(), found["kept"], shown and shown["images"], shown and shown["labels"].numpy(),
        artefacts=[artefact], sources=found["sources"].numpy(),
    )
