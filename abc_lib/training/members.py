"""Training one member: resumable, reproducible (2.3, B.2)."""

import torch

from abc_lib.ground.errors import ArtefactError, BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.loop import (
    CHECKPOINT_SECONDS,
    STORED,
    last_loss,
    loss_note,
    network_state,
    resume_network,
    train,
)
from abc_lib.ground.seeds import derive
from abc_lib.ground.store import Artefact, Store, Workspace
from abc_lib.images.latents import space_files, to_states
from abc_lib.images.training_set import TrainingSet
from abc_lib.method.diffusion import add_noise, alphas_cumprod
from abc_lib.method.network import NoisePredictor, build_network
from abc_lib.method.recipe import Recipe
from abc_lib.method.space import state_shape
from abc_lib.training.batches import Batches, learning_rate, seeded_dropout

KIND = "member"
CONTROL = "control"
"""the name of the single model that is trained on everything (3.1)"""


def member_spec(recipe: Recipe, member: int | str) -> dict:
    """What determines one member; ``control`` is the single model trained on everything."""
    return recipe.model_spec | {"member": member}


def member_label(recipe: Recipe, member: int | str) -> str:
    """What its artefact is called."""
    return f"{recipe.label}-{member if isinstance(member, str) else f'm{member:02d}'}"


def train_member(
    recipe: Recipe,
    member: int | str,
    images: TrainingSet,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    here: Here | None = None,
) -> Artefact:
    """Trains one member on ``images``, or finds it trained, or goes on where it was stopped.

    ``images`` is the member's own split: nothing else of the training set reaches it.
    The artefact holds ``member.safetensors`` (parameters, in the recipe's stored type)
    and ``losses.safetensors`` (the loss of every step). On one CPU the same recipe
    gives the same bits, however often the work was interrupted.
    """
    here = here or Here()
    checksum = images.checksum

    def make(workspace: Workspace) -> Artefact:
        training = MemberTraining(recipe, member, images, here.device)
        # A checkpoint holds for these images only: of a changed data set it starts anew.
        took = train(training, workspace, f"checkpoint-{checksum[:12]}", checkpoint_seconds)
        return _write(training, checksum, here.store, took)

    spec, label = member_spec(recipe, member), member_label(recipe, member)
    done = here.store.once(KIND, label, spec, make)
    return require_same_images(done, images, checksum)


def require_same_images(done: Artefact, images: TrainingSet, checksum: str) -> Artefact:
    """``done`` if it was trained on these very images; raises :class:`ArtefactError` otherwise."""
    if done.info["split_checksum"] != checksum:
        raise ArtefactError(
            f"{done.path} was trained on other images ({done.info['origin']}) than those at hand "
            f"({images.origin}): point ABC_DATA to the same copy of the data, or delete it to "
            "train again"
        )
    return done


class MemberTraining:
    """The training of one member, from any step on (see :mod:`abc_lib.ground.loop`)."""

    def __init__(
        self, recipe: Recipe, member: int | str, images: TrainingSet, device: torch.device
    ):
        training = recipe.training
        if len(images) == 0:
            raise BadValue(
                f"member {member} of {recipe.name} has no images to train on; use more sources or "
                "a larger weight"
            )
        self.recipe, self.member, self.images, self.device = recipe, member, images, device
        self.steps, self.losses = training.steps, torch.zeros(training.steps)
        self.shape = tuple(images.images.shape[1:])
        seed = derive("initial", training.seed, member)
        net = build_network(recipe.network, self.shape, seed, recipe.diffusion)
        self.net = net.to(device).train()
        self.optimiser = torch.optim.Adam(
            self.net.parameters(), lr=training.learning_rate, fused=device.type != "mps"
        )
        on_gpu = device.type == "cuda"
        self.run = torch.compile(self.net) if training.compile and on_gpu else self.net
        self.autocast = torch.autocast(
            device.type, torch.bfloat16, enabled=on_gpu and training.precision == "bfloat16"
        )
        self.alphas = alphas_cumprod(recipe.diffusion).to(device)
        self.states = to_states(images, recipe.data).to(device)
        self.batches = Batches(recipe, member, len(images))

    def step(self, k: int) -> None:
        """One step of Adam on one minibatch."""
        recipe, device = self.recipe, self.device
        which = self.batches.indices(k)
        times, noise, flips, seed = self.batches.chance(k, (len(which), *self.shape))
        x, times, noise = self.states[which.to(device)], times.to(device), noise.to(device)
        # Mirrored images have latents of their own, which are in the set already.
        if recipe.data.flips and recipe.data.space == "pixel":
            x = torch.where(flips.to(device)[:, None, None, None], x.flip(-1), x)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(recipe, k)
        with seeded_dropout(recipe, device, seed), self.autocast:
            predicted = self.run(add_noise(x, noise, times, self.alphas), times).float()
            error = (predicted - noise).square().mean(dim=(1, 2, 3))
        velocity = recipe.training.weighting == "velocity"
        loss = (error / self.alphas[times] if velocity else error).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.losses[k] = loss.detach()

    def state(self) -> dict[str, torch.Tensor]:
        """The network, its Adam, and the losses so far."""
        return network_state(self.net, self.optimiser) | {"losses": self.losses}

    def resume(self, state: dict[str, torch.Tensor], k: int) -> None:
        """Goes back to a state of before step ``k``."""
        self.losses = state["losses"]
        resume_network(self.net, self.optimiser, state)

    def note(self, k: int) -> str:
        """The mean loss of late."""
        return loss_note(self.losses, k)


def _write(training: MemberTraining, checksum: str, store: Store, took: dict) -> Artefact:
    recipe, member, images = training.recipe, training.member, training.images
    if not torch.isfinite(training.losses).all():
        raise BadValue(
            f"training of {recipe.label} member {member} diverged (the loss is not finite); lower "
            "the learning rate"
        )
    stored = STORED[recipe.training.stored]
    state = training.net.state_dict().items()
    parameters = {name: value.detach().to("cpu", stored).contiguous() for name, value in state}
    if not all(torch.isfinite(value).all() for value in parameters.values()):
        raise BadValue(
            f"{recipe.label} member {member} has parameters too large for "
            f"{recipe.training.stored}; lower the learning rate"
        )
    info = {
        "member": member,
        "images": len(images),
        "split_checksum": checksum,
        "origin": images.origin,
        "loss": last_loss(training.losses),
        **took,
    }
    files = {
        "member.safetensors": parameters,
        "losses.safetensors": {"losses": training.losses},
        **space_files(images),
    }
    label, spec = member_label(recipe, member), member_spec(recipe, member)
    return store.write(KIND, label, spec, files, info, training.device)


def network_of(recipe: Recipe, parameters: dict[str, torch.Tensor]) -> NoisePredictor:
    """A member's network with its stored parameters, in float32."""
    net = build_network(recipe.network, state_shape(recipe.data), 0, recipe.diffusion)
    net.load_state_dict({name: value.float() for name, value in parameters.items()})
    return net
