"""Training members, in blocks: resumable, reproducible (2.3, B.2)."""

from collections.abc import Sequence
from pathlib import Path

import torch

from abc_lib.ground.digests import digest
from abc_lib.ground.errors import ArtefactError, BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.loop import CHECKPOINT_SECONDS, last_loss, train
from abc_lib.ground.seeds import derive
from abc_lib.ground.store import Artefact, Store, Workspace
from abc_lib.images.latents import space_files, to_states
from abc_lib.images.own.content import is_own, seen_by
from abc_lib.images.training_set import TrainingSet
from abc_lib.method.code import draw_codebook
from abc_lib.method.diffusion import add_noise
from abc_lib.method.network import NoisePredictor, build_network
from abc_lib.method.recipe import Recipe
from abc_lib.method.space import state_shape
from abc_lib.training.batches import Batches, mirrored
from abc_lib.training.lockstep import Lockstep, Minibatch

KIND = "member"
BLOCK = "block"
"""the lock and the workspace of members that are trained together"""
CONTROL = "control"
"""the name of the single model that is trained on everything (3.1)"""


def member_spec(recipe: Recipe, member: int | str) -> dict:
    """What determines one member; ``control`` is the single model trained on everything.

    Of own pictures those that it sees, and no others: when one changes, only they train again.
    """
    spec = recipe.model_spec | {"member": member}
    if not is_own(recipe.data.family):
        return spec
    mine = None if member == CONTROL else draw_codebook(recipe).split(member).tolist()
    ours = {key: v for key, v in spec["data"].items() if key not in ("split", "size")}
    return spec | {"data": ours | {"seen": seen_by(recipe.data.split, mine)}}


def member_label(recipe: Recipe, member: int | str) -> str:
    """What its artefact is called."""
    return f"{recipe.label}-{member if isinstance(member, str) else f'm{member:02d}'}"


def find_member(recipe: Recipe, member: int | str, store: Store) -> Artefact | None:
    """A trained member, if it is at hand."""
    return store.find(KIND, member_label(recipe, member), member_spec(recipe, member))


def blocks_of(recipe: Recipe, members: list[int | str]) -> list[list[int | str]]:
    """The blocks in which these members are trained: all are cut from the whole ensemble."""
    n, size = recipe.code.n, recipe.training.block
    whole = [list(range(k, min(k + size, n))) for k in range(0, n, size)]
    return [block for block in (*whole, [CONTROL]) if set(block) & set(members)]


def _block_spec(recipe: Recipe, members: list[int | str]) -> dict:
    """What determines how far the training of a block has come."""
    return recipe.model_spec | {"members": members}


def block_work(recipe: Recipe, members: list[int | str], store: Store) -> tuple[Workspace, Path]:
    """Where a block's training leaves its pieces, and the folder that is there when it is done."""
    last, label = members[-1], member_label(recipe, members[0])
    name = store.folder_name(member_label(recipe, last), member_spec(recipe, last))
    workspace = store.workspace(BLOCK, label, _block_spec(recipe, members))
    return workspace, store.cache / KIND / name


def train_members(
    recipe: Recipe,
    members: list[int | str],
    splits: list[TrainingSet],
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    here: Here | None = None,
    passing: Sequence[Recipe] = (),
) -> list[Artefact]:
    """Trains a block of members side by side, or finds them, or goes on where it was stopped.

    Members of ``passing`` recipes, which are this one with fewer steps (:func:`passing_through`),
    are left on the way.

    ``splits`` are the members' own images: nothing else of the training set reaches them.
    An artefact a member holds ``member.safetensors`` (parameters, in the recipe's stored type)
    and ``losses.safetensors`` (the loss of every step). On one CPU the same block gives the same
    bits, however often the work was interrupted; other blocks differ by rounding.
    """
    here, store = here or Here(), (here or Here()).store
    checksums = [images.checksum for images in splits]
    workspace, _ = block_work(recipe, members, store)
    with store.lock(BLOCK, member_label(recipe, members[0]), _block_spec(recipe, members)):
        done = [find_member(recipe, m, store) for m in members]
        if None in done:
            work = Block(recipe, members, splits, here.device)
            # A checkpoint holds for these images only: of a changed data set it starts anew.
            name = f"checkpoint-{digest(checksums)[:12]}"
            ends = {shorter.training.steps: shorter for shorter in passing}

            def leave(k: int, took: dict) -> None:
                if k in ends:
                    _write(work, ends[k], members, splits, store, took)

            took = train(work, workspace, name, checkpoint_seconds, leave)
            done = _write(work, recipe, members, splits, store, took)
        workspace.clear()
    return [require_same_images(*each) for each in zip(done, splits, checksums, strict=True)]


def require_same_images(done: Artefact, images: TrainingSet, checksum: str) -> Artefact:
    """``done`` if it was trained on these very images; raises :class:`ArtefactError` otherwise."""
    if done.info["split_checksum"] != checksum:
        raise ArtefactError(
            f"{done.path} was trained on other images ({done.info['origin']}) than those at hand "
            f"({images.origin}): point ABC_DATA to the same copy of the data, or delete it to "
            "train again"
        )
    return done


class Block(Lockstep):
    """The training of some members side by side, each on images, times and noise of its own."""

    def __init__(
        self,
        recipe: Recipe,
        members: list[int | str],
        splits: list[TrainingSet],
        device: torch.device | str,
    ):
        for member, images in zip(members, splits, strict=True):
            if len(images) == 0:
                raise BadValue(
                    f"member {member} of {recipe.name} has no images to train on; use more "
                    "sources or a larger weight"
                )
        seeds = [derive("initial", recipe.training.seed, member) for member in members]
        super().__init__(recipe, tuple(splits[0].images.shape[1:]), seeds, device)
        self.images = [to_states(images, recipe.data).to(self.device) for images in splits]
        self.batches = [Batches(recipe, m, len(x)) for m, x in zip(members, self.images)]

    def minibatch(self, k: int) -> Minibatch:
        """As many images of each member."""
        states, all_times, all_noise, seeds = [], [], [], []
        for batches, images in zip(self.batches, self.images):
            which = batches.indices(k)
            times, noise, flips, seed = batches.chance(k, (len(which), *self.shape))
            times, noise = times.to(self.device), noise.to(self.device)
            x = mirrored(self.recipe, images[which.to(self.device)], flips)
            states.append(add_noise(x, noise, times, self.alphas))
            all_times.append(times)
            all_noise.append(noise)
            seeds.append(seed)
        # A stack has one mask of dropout for all: that of its first member.
        return Minibatch(
            torch.stack(states, 1), torch.stack(all_times, 1), torch.stack(all_noise, 1), seeds[0]
        )


def passing_through(recipe: Recipe, exposures: Sequence[float]) -> list[Recipe]:
    """The recipes of shorter trainings that this one's passes through, by their exposures.

    Raises :class:`BadValue` where it does not pass through any: its learning rate says how much of
    it is left.
    """
    if exposures and recipe.training.schedule != "constant":
        raise BadValue(
            f"the learning rate of {recipe.label} follows a {recipe.training.schedule} to the end "
            "of a training, which shorter ones do not share; train each exposure by itself, or "
            "with schedule = 'constant'"
        )
    shorter = [recipe.exposed(times) for times in exposures]
    return [each for each in shorter if each.training.steps < recipe.training.steps]


def _write(
    work: Block,
    recipe: Recipe,
    members: list[int | str],
    splits: list[TrainingSet],
    store: Store,
    took: dict,
) -> list[Artefact]:
    written, losses = [], work.losses[:, : recipe.training.steps]
    parameters = work.finished([f"{recipe.label} member {m}" for m in members])
    # Shares of a block's time add up to it.
    seconds = round(took["seconds"] / len(members), 1)
    for row, (member, images) in enumerate(zip(members, splits, strict=True)):
        info = {
            "member": member,
            "images": len(images),
            "split_checksum": images.checksum,
            "origin": images.origin,
            "loss": last_loss(losses[row]),
            **took,
            "seconds": seconds,
        }
        files = {
            "member.safetensors": {k: value[row].contiguous() for k, value in parameters.items()},
            "losses.safetensors": {"losses": losses[row].contiguous()},
            **space_files(images),
        }
        label, spec = member_label(recipe, member), member_spec(recipe, member)
        written.append(store.write(KIND, label, spec, files, info, work.device))
    return written


def network_of(recipe: Recipe, parameters: dict[str, torch.Tensor]) -> NoisePredictor:
    """A member's network with its stored parameters, in float32."""
    net = build_network(recipe.network, state_shape(recipe.data), 0, recipe.diffusion)
    net.load_state_dict({name: value.float() for name, value in parameters.items()})
    return net
