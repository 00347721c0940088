"""Training the model on everything and those that leave a source out, in lockstep (2.2, 3.2, C.3).

The models of a recipe start from the same parameters and see the same minibatches, time
steps and noise; nothing but the left-out source's images tells them apart. So the order, the
noise and the time embedding are worked out once for a whole group.

Streams of random numbers are those of the single model that :func:`train_ensemble` calls
``control``: the model on everything is that one, up to rounding (and dropout's masks, where a
recipe has it).
"""

import numbers
from collections.abc import Iterable

import torch

from abc_lib.ground.devices import parse_bytes
from abc_lib.ground.digests import digest
from abc_lib.ground.errors import ArtefactError, BadValue, unknown
from abc_lib.ground.here import Here
from abc_lib.ground.loop import CHECKPOINT_SECONDS, last_loss, train
from abc_lib.ground.seeds import derive
from abc_lib.ground.store import Artefact, Store, Workspace
from abc_lib.ground.tasks import job_count, run_tasks
from abc_lib.images.latents import black_state, space_files, to_states
from abc_lib.images.spaces import SPACES
from abc_lib.images.training_set import TrainingSet
from abc_lib.method.diffusion import add_noise
from abc_lib.method.network import build_network
from abc_lib.method.recipe import Recipe
from abc_lib.method.space import state_shape
from abc_lib.training.batches import Batches, mirrored
from abc_lib.training.budget import activation_bytes
from abc_lib.training.ensembles import TrainingPoll
from abc_lib.training.lockstep import Lockstep, Minibatch
from abc_lib.training.members import CONTROL, require_same_images

FULL = "full"
"""the name of the model that is trained on everything"""
REMOVED = ("black", "removed")
"""what becomes of a left-out image: see :func:`train_retrained`"""
KIND = "retrained"
# Measured: more models at once gain nothing on a CPU, where the convolutions are then near its
# peak.
TOGETHER = {"cpu": 8, "cuda": 64}


class TrainingTogether(Lockstep):
    """The training of some models of a recipe that share parameters at first, and minibatches.

    Their chance is that of ``stream``: the single model's, or a member's where ``images`` are the
    member's own.
    """

    def __init__(
        self,
        recipe: Recipe,
        models: list[int | str],
        images: TrainingSet,
        removed: str = "black",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        stream: int | str = CONTROL,
    ):
        if len(images) == 0:
            raise BadValue(
                f"the retrained models of {recipe.name} have no images to train on; use a larger "
                "training set"
            )
        if removed == "removed":
            for source in models:
                if source != FULL and not images.whole(images.sources != source).any():
                    raise BadValue(
                        f"without source {source} of {recipe.name} no image is left to train on; "
                        "use removed='black'"
                    )
        seed = derive("initial", recipe.training.seed, stream)
        super().__init__(
            recipe, tuple(images.images.shape[1:]), [seed] * len(models), device, dtype
        )
        self.removed = removed
        self.left_out = torch.tensor([-1 if m == FULL else m for m in models], device=self.device)
        self.images = to_states(images.once, recipe.data).to(self.device, dtype)
        self.black = black_state(images, recipe.data).to(self.device, dtype)
        kept = [images.whole(images.sources != s)[images.firsts] for s in self.left_out.tolist()]
        self.gone = ~torch.stack(kept, dim=1).to(self.device)  # (K, n)
        self.batches = Batches(recipe, stream, len(self.gone))

    def minibatch(self, k: int) -> Minibatch:
        """The same images, times and noise for all, but for the left-out ones."""
        which = self.batches.indices(k)
        times, noise, flips, dropout_seed = self.batches.chance(k, (len(which), *self.shape))
        times, which = times.to(self.device), which.to(self.device)
        noise = noise.to(self.device, self.dtype)
        x = mirrored(self.recipe, self.images[which], flips)
        gone = self.gone[which]  # (B, n)
        # Chosen, not multiplied by zero: whatever is in a left-out image, it has no way into its
        # model.
        seen = add_noise(x, noise, times, self.alphas)[:, None]
        blank = add_noise(self.black.expand_as(x), noise, times, self.alphas)[:, None]
        states = torch.where(gone[:, :, None, None, None], blank, seen)
        return Minibatch(
            states,
            times[:, None],
            noise[:, None],
            dropout_seed,
            gone if self.removed == "removed" else None,
        )


def with_seed(recipe: Recipe, seed: int | None) -> Recipe:
    """The recipe with another training seed; None leaves it as it is."""
    if seed is None:
        return recipe
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise BadValue(f"seed is {seed!r}; it must be a whole number")
    return recipe.replace(training={"seed": int(seed)})


def require_removal(removed: str) -> None:
    """Raises :class:`UnknownName` for a way that is not one of :data:`REMOVED`."""
    if removed not in REMOVED:
        raise unknown("way to leave a source out", removed, REMOVED)


def chosen_sources(recipe: Recipe, sources: Iterable[int] | None) -> list[int]:
    """Which sources are left out, one model each; None is all N."""
    count = recipe.data.num_sources
    if sources is None:
        return list(range(count))
    sources = list(sources)
    for source in sources:
        if (
            isinstance(source, bool)
            or not isinstance(source, numbers.Integral)
            or not 0 <= source < count
        ):
            raise BadValue(
                f"{recipe.name} has no source {source!r}; its sources are 0..{count - 1}"
            )
    if len(set(sources)) != len(sources):
        raise BadValue("a source was asked for twice; name each once")
    return [int(s) for s in sources]


def common_spec(recipe: Recipe, removed: str) -> dict:
    """What determines a retrained model but which one it is; the code of the ensemble is not part
    of it.
    """
    return recipe.codeless_spec | {"removed": removed}


def retrained_spec(recipe: Recipe, models: list[int | str], removed: str = "black") -> dict:
    """What determines an artefact that holds some retrained models."""
    return common_spec(recipe, removed) | {"models": models}


def models_together(
    recipe: Recipe, memory: int | str = "2GiB", jobs: int = 1, device: torch.device | str = "cpu"
) -> int:
    """How many models are trained as one group: what is fastest, or less if ``memory`` for all jobs
    asks for it.

    Raises :class:`BadValue` if the budget does not hold one model for each job.
    """
    budget, shape = parse_bytes(memory), state_shape(recipe.data)
    net = build_network(recipe.network, shape, 0, recipe.diffusion)
    # What the backward pass needs of the forward pass and about as much again in passing; value,
    # gradient,
    # two moments, and one to spare, of every parameter.
    one = 2 * recipe.training.batch_size * activation_bytes(net, shape) + 5 * 4 * sum(
        p.numel() for p in net.parameters()
    )
    fits = budget // (jobs * one)
    if fits < 1:
        raise BadValue(
            f"a memory budget of {budget / 2**20:.1f} MiB does not hold one model for each of "
            f"{jobs} jobs "
            f"({one / 2**20:.1f} MiB each); raise the budget or use jobs=1"
        )
    return int(min(TOGETHER.get(torch.device(device).type, 8), fits))


def _groups(models: list[int | str], size: int) -> list[list[int | str]]:
    """As few groups as hold ``size`` at most, of sizes that differ by one at most, in order."""
    count = -(-len(models) // size)
    bounds = [len(models) * k // count for k in range(count + 1)]
    return [models[a:b] for a, b in zip(bounds, bounds[1:])]


def stored_models(
    recipe: Recipe, removed: str, store: Store
) -> dict[int | str, tuple[Artefact, int]]:
    """Which artefact holds each model that is there, and where in it; published ones first."""
    common, found = digest(common_spec(recipe, removed)), {}
    for artefact in store.find_all(KIND, recipe.label):
        # Digests, because a spec that was read back has lists for tuples.
        if (
            digest({key: value for key, value in artefact.spec.items() if key != "models"})
            == common
        ):
            for row, model in enumerate(artefact.spec["models"]):
                found.setdefault(model, (artefact, row))
    return found


def train_group(
    recipe: Recipe,
    models: list[int | str],
    images: TrainingSet,
    removed: str = "black",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    here: Here | None = None,
) -> Artefact:
    """Trains some models together, or finds them trained, or goes on where they were stopped.

    ``models`` are :data:`FULL` or numbers of sources to leave out; ``images`` the whole
    training set. The artefact holds ``models.safetensors``, every parameter with a leading
    model axis (n, ...) in the recipe's stored type, and ``losses.safetensors``, (n, steps).
    On one CPU the same group gives the same bits, however often the work was interrupted.
    """
    here = here or Here()
    require_removal(removed)
    checksum = images.checksum

    def make(workspace: Workspace) -> Artefact:
        work = TrainingTogether(recipe, models, images, removed, here.device)
        # A checkpoint holds for these images only.
        took = train(work, workspace, f"checkpoint-{checksum[:12]}", checkpoint_seconds)
        what = ("on everything" if m == FULL else f"without source {m}" for m in models)
        files = {
            "models.safetensors": work.finished([f"{recipe.label}, the model {w}," for w in what]),
            "losses.safetensors": {"losses": work.losses},
            **space_files(images),
        }
        info = {
            "images": len(images),
            "split_checksum": checksum,
            "origin": images.origin,
            "loss": [last_loss(row) for row in work.losses],
            **took,
        }
        return here.store.write(KIND, recipe.label, spec, files, info, here.device)

    spec = retrained_spec(recipe, models, removed)
    done = here.store.once(KIND, recipe.label, spec, make)
    return require_same_images(done, images, checksum)


def _group_task(
    recipe: Recipe,
    models: list[int | str],
    images: TrainingSet,
    removed: str,
    store: Store,
    device: str,
) -> None:
    train_group(recipe, models, images, removed, here=Here(store, device))


def train_retrained(
    recipe: Recipe,
    sources: Iterable[int] | None = None,
    seed: int | None = None,
    removed: str = "black",
    images: TrainingSet | None = None,
    here: Here | None = None,
) -> list[Artefact]:
    """Trains the model on everything and one without each of ``sources`` (default: all N).

    Returns their artefacts. All share initial parameters, order and contents of minibatches,
    flips, time steps, noise and dropout, with the recipe's ``Training`` as it is for members;
    ``seed`` replaces its seed, so that two retrainings can be compared that differ in nothing
    else. Finished parameters are rounded to the recipe's stored type, as members are.

    What becomes of the left-out source's images (3.2, C.3):

    - ``removed="black"``, the paper's way: all-black ones take their places in the
      minibatches, and count in the loss.
    - ``removed="removed"``: their places stay empty. A minibatch keeps its other images
      with their own time steps and noise, and its loss is the mean over those; the
      minibatch gets smaller, no other image moves up. One that is left empty has the
      gradient zero (Adam still takes its step, on its running means).

    Either way nothing of the pixels reaches the model that leaves them out.

    Groups of models are trained as one network, side by side on cores; ``here.memory`` bounds
    what all jobs together hold, and so how many models go into a group. Groups change
    results by rounding only. Models that are in the cache are not trained again, and a
    stopped run goes on where it was. Raises :class:`BadValue` for sources that are not
    there, a budget too small, or training that diverged; :class:`ArtefactError` where what
    is in the cache was trained on other images.
    """
    here = here or Here()
    require_removal(removed)
    recipe = with_seed(recipe, seed)
    models = [FULL, *chosen_sources(recipe, sources)]
    home = SPACES[recipe.data.space]
    recipe = home.prepare(recipe, here)
    cached = here.store.cached()
    there = stored_models(recipe, removed, cached)
    # Groups are cut from the whole list, so that a run that goes on finds its own again.
    jobs = job_count(here.jobs, here.device)
    groups = _groups(models, models_together(recipe, here.memory, jobs, here.device))
    todo = [missing for group in groups if (missing := [m for m in group if m not in there])]
    if todo or images is not None:
        images = home.states(recipe, images, here)
        checksum = images.checksum
        for model in models:
            if model in there:
                require_same_images(there[model][0], images, checksum)
    if todo:
        _train_groups(recipe, todo, images, removed, len(models), here)
        there = stored_models(recipe, removed, cached)
    return artefacts_of(recipe, models, there)


def _train_groups(recipe, todo, images, removed, count: int, here: Here) -> None:
    steps, sizes = recipe.training.steps, [len(group) for group in todo]
    specs = [retrained_spec(recipe, group, removed) for group in todo]
    cache, device = here.store.cache, str(here.device)
    works = [
        (
            here.store.workspace(KIND, recipe.label, spec),
            cache / KIND / here.store.folder_name(recipe.label, spec),
        )
        for spec in specs
    ]
    before = steps * (count - sum(sizes))
    poll = TrainingPoll(works, [steps * size for size in sizes], sizes, before)
    for _ in run_tasks(
        _group_task,
        # Only the cache: whoever trains has already looked at what is published.
        [(recipe, group, images, removed, here.store.cached(), device) for group in todo],
        len(todo),
        here.device,
        here,
        total=steps * count,
        description=f"retraining {recipe.label}",
        unit="step",
        poll=poll,
    ):
        pass


def artefacts_of(recipe: Recipe, models: list[int | str], found: dict) -> list[Artefact]:
    """The artefacts that hold these models, once each; raises :class:`ArtefactError` for other
    data.
    """
    artefacts = list({found[m][0].path: found[m][0] for m in models}.values())
    origins = {a.info["origin"] for a in artefacts}
    if len({a.info["split_checksum"] for a in artefacts}) > 1:
        raise ArtefactError(
            f"the retrained models of {recipe.label} were trained on different data "
            f"({', '.join(sorted(origins))}); "
            f"delete {artefacts[-1].path.parent} and train again"
        )
    return artefacts
