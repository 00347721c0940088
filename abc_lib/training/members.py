"""How good an ensemble's samples are: FIDs of ensembles, single models and single members (3.1, C.1).

10,240 samples are drawn in blocks, of which only the features are kept until the distance
is worked out. The features are Inception's where its weights are on this machine, else
those of the family's classifier; a number says which.
"""

import contextlib
import math
from collections.abc import Iterator

import torch

from abc_lib.ground.devices import resolve_device
from abc_lib.ground.digests import identity_of
from abc_lib.ground.errors import ArtefactError, BadValue, NotAvailable
from abc_lib.ground.seeds import derive, generator
from abc_lib.ground.store import Artefact, Store, Workspace, stopwatch
from abc_lib.ground.tasks import run_tasks
from abc_lib.images.latents import (
    FILE,
    bind,
    prepare,
    read_space,
    space_files,
    to_states,
    training_states,
)
from abc_lib.images.training_set import TrainingSet
from abc_lib.method.code import Codebook, draw_codebook
from abc_lib.method.diffusion import add_noise, alphas_cumprod
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.network import NoisePredictor, build_network
from abc_lib.method.recipe import Recipe
from abc_lib.method.space import state_shape


def single_model(
    recipe: Recipe,
    store: Store | None = None,
    device: str = "auto",
    recompute: bool = False,
    progress: bool = True,
) -> Ensemble:
    """The single model trained on the whole training set (the control of 3.1): published, cached, or trained now.

    As an ensemble whose n members are all that model, so that what samples from an
    ensemble samples from it; with the weights of :func:`member_weights` it is evaluated
    once a step.
    """
    store, target = store or Store(), resolve_device(device)
    recipe = bind(recipe, store)
    spec, label = recipe.model_spec | {"member": "control"}, f"{recipe.label}-control"
    found = None if recompute else store.find("member", label, spec)
    if found is None:
        (found,) = train_ensemble(
            recipe, store, device, n_jobs=1, progress=progress, members=["control"]
        )
    parameters = found.tensors("member.safetensors")
    network = _network_of(recipe, parameters)
    codebook = draw_codebook(recipe)
    return Ensemble(
        recipe,
        codebook,
        [network] * codebook.n,
        identity_of([parameters]),
        found,
        read_space(recipe, found, store),
    ).to(target)


CHECKPOINT_SECONDS = 20.0
_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def member_spec(recipe: Recipe, member: int | str) -> dict:
    """What determines one member; ``control`` is the single model trained on everything."""
    return recipe.model_spec | {"member": member}


def _label(recipe: Recipe, member: int | str) -> str:
    return f"{recipe.label}-{member if isinstance(member, str) else f'm{member:02d}'}"


def learning_rate(recipe: Recipe, step: int) -> float:
    """The learning rate at a step, counted from 0."""
    training = recipe.training
    if training.schedule == "constant":
        return training.learning_rate
    if training.schedule != "cosine":
        raise BadValue(
            f"learning rate schedule '{training.schedule}' is unknown; choose constant or cosine"
        )
    ramp = min(1.0, (step + 1) / max(1, training.warmup))
    return training.learning_rate * ramp * 0.5 * (1 + math.cos(math.pi * step / training.steps))


class _Batches:
    """Minibatches as a function of the step: shuffled epochs, end to end."""

    def __init__(self, recipe: Recipe, member: int | str, size: int):
        self.recipe, self.member, self.size = recipe, member, size
        self.orders: dict[int, torch.Tensor] = {}

    def _order(self, epoch: int) -> torch.Tensor:
        if epoch not in self.orders:
            names = ("order", self.recipe.training.seed, self.member, epoch)
            self.orders = {k: v for k, v in self.orders.items() if k == epoch - 1}
            self.orders[epoch] = torch.randperm(self.size, generator=generator(*names))
        return self.orders[epoch]

    def indices(self, step: int) -> torch.Tensor:
        """Which images are in the batch of a step."""
        batch = self.recipe.training.batch_size
        position, picked = step * batch, []
        while batch > 0:
            epoch, start = divmod(position, self.size)
            part = self._order(epoch)[start : start + batch]
            picked.append(part)
            position, batch = position + len(part), batch - len(part)
        return torch.cat(picked)

    def chance(
        self, step: int, shape: tuple
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
        """Time steps, noise, which images to flip, and a seed for dropout."""
        rng = generator("step", self.recipe.training.seed, self.member, step)
        times = torch.randint(0, self.recipe.diffusion.train_steps, shape[:1], generator=rng)
        noise = torch.randn(shape, generator=rng)
        flips = torch.rand(shape[0], generator=rng) < 0.5
        return times, noise, flips, derive("dropout", self.recipe.training.seed, self.member, step)


@contextlib.contextmanager
def _seeded_dropout(recipe: Recipe, device: torch.device, seed: int) -> Iterator[None]:
    """Dropout is the one thing that draws from a global generator; it is seeded within and left as it was."""
    if not recipe.network.dropout:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _checkpoint(
    net: torch.nn.Module, optimiser: torch.optim.Adam, step: int, losses: torch.Tensor
) -> dict[str, torch.Tensor]:
    tensors = {"step": torch.tensor(step), "losses": losses.clone()}
    for name, parameter in net.named_parameters():
        tensors["value." + name] = parameter.detach().cpu()
        for key in ("exp_avg", "exp_avg_sq"):
            tensors[f"{key}.{name}"] = optimiser.state[parameter][key].detach().cpu()
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _resume(
    net: torch.nn.Module, optimiser: torch.optim.Adam, piece: dict[str, torch.Tensor]
) -> int:
    step = int(piece["step"])
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(piece["value." + name])
            optimiser.state[parameter] = {
                "step": torch.tensor(float(step), device=parameter.device),
                **{
                    key: piece[f"{key}.{name}"].to(parameter.device)
                    for key in ("exp_avg", "exp_avg_sq")
                },
            }
    return step


def train_member(
    recipe: Recipe,
    member: int | str,
    images: TrainingSet,
    store: Store,
    device: torch.device | str = "cpu",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Artefact:
    """Trains one member on ``images``, or finds it trained, or goes on where it was stopped.

    ``images`` is the member's own split: nothing else of the training set reaches it.
    The artefact holds ``member.safetensors`` (parameters, in the recipe's stored type)
    and ``losses.safetensors`` (the loss of every step). On one CPU the same recipe
    gives the same bits, however often the work was interrupted.
    """
    device = torch.device(device)
    spec, label = member_spec(recipe, member), _label(recipe, member)
    checksum = images.checksum
    done = store.once(
        "member",
        label,
        spec,
        lambda workspace: _train(
            recipe, member, images, store, workspace, device, checkpoint_seconds, checksum
        ),
    )
    return _require_same_images(done, images, checksum)


def _require_same_images(done: Artefact, images: TrainingSet, checksum: str) -> Artefact:
    if done.info["split_checksum"] != checksum:
        raise ArtefactError(
            f"{done.path} was trained on other images ({done.info['origin']}) than those at hand ({images.origin}): "
            "point ABC_DATA to the same copy of the data, or delete it to train again"
        )
    return done


def _train(
    recipe: Recipe,
    member: int | str,
    images: TrainingSet,
    store: Store,
    workspace: Workspace,
    device: torch.device,
    checkpoint_seconds: float,
    checksum: str,
) -> Artefact:
    training, data = recipe.training, recipe.data
    if len(images) == 0:
        raise BadValue(
            f"member {member} of {recipe.name} has no images to train on; use more sources or a larger weight"
        )
    shape = tuple(images.images.shape[1:])
    net = (
        build_network(
            recipe.network, shape, derive("initial", training.seed, member), recipe.diffusion
        )
        .to(device)
        .train()
    )
    optimiser = torch.optim.Adam(
        net.parameters(), lr=training.learning_rate, fused=device.type != "mps"
    )
    losses = torch.zeros(training.steps)
    start = 0
    # A checkpoint holds for these images only: the same member of a changed data set starts anew.
    name = f"checkpoint-{checksum[:12]}"
    piece = workspace.load(name)
    if piece is not None:
        start = _resume(net, optimiser, piece)
        losses = piece["losses"]
    alphas = alphas_cumprod(recipe.diffusion).to(device)
    x_all = to_states(images, data).to(device)
    batches = _Batches(recipe, member, len(images))
    run = torch.compile(net) if training.compile and device.type == "cuda" else net
    autocast = torch.autocast(
        device.type,
        torch.bfloat16,
        enabled=device.type == "cuda" and training.precision == "bfloat16",
    )
    seconds, saved, cost, told = stopwatch(), 0.0, 0.0, 0.0
    for step in range(start, training.steps):
        which = batches.indices(step)
        times, noise, flips, dropout_seed = batches.chance(step, (len(which), *shape))
        x, times, noise = x_all[which.to(device)], times.to(device), noise.to(device)
        # Mirrored images have latents of their own, which are in the set already.
        if data.flips and data.space == "pixel":
            x = torch.where(flips.to(device)[:, None, None, None], x.flip(-1), x)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step)
        with _seeded_dropout(recipe, device, dropout_seed), autocast:
            error = (
                (run(add_noise(x, noise, times, alphas), times).float() - noise)
                .square()
                .mean(dim=(1, 2, 3))
            )
        loss = (error / alphas[times] if training.weighting == "velocity" else error).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses[step] = loss.detach()
        if seconds() - told > 0.5:
            told = seconds()
            workspace.note(f"{step + 1} {float(losses[max(0, step - 99) : step + 1].mean()):.4f}")
        # Saving must never take more than a twentieth of the time, however large the network.
        if seconds() - saved > max(checkpoint_seconds, 20 * cost) and step + 1 < training.steps:
            before = seconds()
            workspace.save(name, _checkpoint(net, optimiser, step + 1, losses))
            saved = seconds()
            cost = saved - before
    if not torch.isfinite(losses).all():
        raise BadValue(
            f"training of {recipe.label} member {member} diverged (the loss is not finite); lower the learning rate"
        )
    stored = _PRECISIONS[training.stored]
    parameters = {
        name: value.detach().to("cpu", stored).contiguous()
        for name, value in net.state_dict().items()
    }
    if not all(torch.isfinite(value).all() for value in parameters.values()):
        raise BadValue(
            f"{recipe.label} member {member} has parameters too large for {training.stored}; lower the learning rate"
        )
    info = {
        "member": member,
        "images": len(images),
        "split_checksum": checksum,
        "origin": images.origin,
        "loss": round(float(losses[-min(200, training.steps) :].mean()), 6),
        "seconds": round(seconds(), 1),
        "steps_in_these_seconds": training.steps - start,
    }
    return store.write(
        "member",
        _label(recipe, member),
        member_spec(recipe, member),
        {"member.safetensors": parameters, "losses.safetensors": {"losses": losses}}
        | space_files(images),
        info,
        device,
    )


def _network_of(recipe: Recipe, parameters: dict[str, torch.Tensor]) -> NoisePredictor:
    net = build_network(recipe.network, state_shape(recipe.data), 0, recipe.diffusion)
    net.load_state_dict({name: value.float() for name, value in parameters.items()})
    return net


def _train_task(recipe: Recipe, member: int | str, images: TrainingSet, cache, device: str) -> str:
    # Only the cache: whoever trains has already looked at what is published.
    train_member(recipe, member, images, Store(cache, None), device)
    return member


def train_ensemble(
    recipe: Recipe,
    store: Store | None = None,
    device: str = "auto",
    n_jobs: int | None = None,
    images: TrainingSet | None = None,
    progress: bool = True,
    members: list[int | str] | None = None,
) -> list[Artefact]:
    """Trains the members that are not in the cache yet; returns them all, in order.

    ``images`` defaults to the recipe's training set. ``members`` picks some, or
    ``["control"]`` for the single model on the whole set. For a recipe in latents the
    autoencoder and the latents are made first where they are missing.
    """
    store = store or Store()
    device = resolve_device(device)
    recipe = prepare(recipe, store, device, progress)
    codebook = draw_codebook(recipe)
    members = list(range(codebook.n)) if members is None else members
    cached = Store(store.cache, None)
    found = {m: cached.find("member", _label(recipe, m), member_spec(recipe, m)) for m in members}
    if images is not None or None in found.values():
        images = training_states(recipe, store, device, images, n_jobs, progress)
    todo = [m for m in members if images is not None]

    def split(m: int | str) -> TrainingSet:
        # One at a time: half of a large set for each member would not fit into memory.
        return images if m == "control" else images.of_sources(codebook.split(m))

    for m in todo:
        if found[m] is not None:
            mine = split(m)
            _require_same_images(found[m], mine, mine.checksum)
    steps = recipe.training.steps
    spaces = {
        m: store.workspace("member", _label(recipe, m), member_spec(recipe, m)) for m in members
    }

    def poll() -> tuple[int, str]:
        done, losses = 0, []
        for m in members:
            note = spaces[m].read_note().split()
            if note:
                done += int(note[0])
                losses.append(float(note[1]))
            elif (
                found[m] is not None
                or (
                    store.cache
                    / "member"
                    / Store.folder_name(_label(recipe, m), member_spec(recipe, m))
                ).is_dir()
            ):
                done += steps
        return done, f"loss {sum(losses) / len(losses):.4f}" if losses else ""

    arguments = ((recipe, m, split(m), store.cache, str(device)) for m in todo)
    if any(found[m] is None for m in todo):
        for _ in run_tasks(
            _train_task,
            arguments,
            len(todo),
            device=device,
            total=steps * len(members),
            description=f"training {recipe.label}",
            unit="step",
            poll=poll,
            n_jobs=n_jobs,
            progress=progress,
        ):
            pass
    artefacts = [cached.find("member", _label(recipe, m), member_spec(recipe, m)) for m in members]
    return _require_one_origin(recipe, artefacts)


def _require_one_origin(recipe: Recipe, artefacts: list[Artefact]) -> list[Artefact]:
    origins = {a.info["origin"] for a in artefacts}
    if len(origins) > 1:
        raise ArtefactError(
            f"the members of {recipe.label} were trained on different data ({', '.join(sorted(origins))}); "
            f"delete {artefacts[0].path.parent} and train again"
        )
    return artefacts


def pack_ensemble(
    recipe: Recipe, artefacts: list[Artefact], store: Store, publish: bool = True
) -> Artefact:
    """One artefact of a whole ensemble: ``members.safetensors`` and ``code.safetensors``."""
    recipe, codebook = bind(recipe, store), draw_codebook(recipe)
    parameters = [a.tensors("member.safetensors") for a in artefacts]
    tensors = {
        f"{i:02d}.{name}": value
        for i, each in enumerate(parameters)
        for name, value in each.items()
    }
    losses = {"losses": torch.stack([a.tensors("losses.safetensors")["losses"] for a in artefacts])}
    info = {
        "origin": artefacts[0].info["origin"],
        "identity": identity_of(parameters),
        "loss": [a.info["loss"] for a in artefacts],
        "images": [a.info["images"] for a in artefacts],
        "training_seconds": round(sum(a.info["seconds"] for a in artefacts), 1),
        "trained_from": sorted({a.provenance["commit"] for a in artefacts}),
        "trained_on": sorted({a.provenance["hardware"] for a in artefacts}),
        "trained_at": max(a.provenance["time"] for a in artefacts),
    }
    files = {
        "members.safetensors": tensors,
        "code.safetensors": {"words": torch.from_numpy(codebook.words)},
        "losses.safetensors": losses,
    }
    if FILE in artefacts[0].manifest["files"]:
        files[FILE] = artefacts[0].tensors(FILE)
    return store.write("ensemble", recipe.label, recipe.model_spec, files, info, publish=publish)


def cached_members(recipe: Recipe, store: Store) -> list[Artefact] | None:
    """The artefacts of all members, in order, if every one of them is in the cache."""
    cached, recipe = Store(store.cache, None), bind(recipe, store)
    found = [
        cached.find("member", _label(recipe, m), member_spec(recipe, m))
        for m in range(recipe.code.n)
    ]
    return None if None in found else _require_one_origin(recipe, found)


def require_ensemble(recipe: Recipe, store: Store) -> Ensemble:
    """:func:`find_ensemble`, for work that trains nothing; raises :class:`NotAvailable` where there is none."""
    ensemble = find_ensemble(recipe, store)
    if ensemble is None:
        raise NotAvailable(
            f"{recipe.label} is neither published nor trained on this machine; run python -m abc_lib publish {recipe.name} first"
        )
    return ensemble


def find_ensemble(recipe: Recipe, store: Store, recompute: bool = False) -> Ensemble | None:
    """The ensemble if it was published or all its members are in the cache; else None."""
    recipe = bind(recipe, store)
    packed = None if recompute else store.find("ensemble", recipe.label, recipe.model_spec)
    codebook = draw_codebook(recipe)
    if packed is not None:
        words = packed.tensors("code.safetensors")["words"].numpy()
        codebook = Codebook(words)
        tensors = packed.tensors("members.safetensors")
        parameters = [
            {name[3:]: v for name, v in tensors.items() if name.startswith(f"{i:02d}.")}
            for i in range(codebook.n)
        ]
        artefact = packed
    else:
        artefacts = cached_members(recipe, store)
        if artefacts is None:
            return None
        parameters = [a.tensors("member.safetensors") for a in artefacts]
        artefact = artefacts[-1]
    members = [_network_of(recipe, each) for each in parameters]
    return Ensemble(
        recipe,
        codebook,
        members,
        identity_of(parameters),
        artefact,
        read_space(recipe, artefact, store),
    )


def get_ensemble(
    recipe: Recipe,
    store: Store | None = None,
    device: str = "auto",
    recompute: bool = False,
    n_jobs: int | None = None,
    progress: bool = True,
) -> Ensemble:
    """The recipe's ensemble: published, else from the cache, else trained now.

    ``recompute`` passes over what is published; what this machine already trained, or
    half trained, is still used.
    """
    store = store or Store()
    target = resolve_device(device)
    ensemble = find_ensemble(recipe, store, recompute)
    if ensemble is None:
        train_ensemble(recipe, store, device, n_jobs, progress=progress)
        ensemble = find_ensemble(recipe, store, recompute=True)
    return ensemble.to(target)
