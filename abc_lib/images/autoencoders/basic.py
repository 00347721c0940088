"""The basic autoencoder: its losses, its training, and finding it again (B.4)."""

import math

import torch
import torch.nn.functional as F

from abc_lib.ground.devices import one_thread
from abc_lib.ground.digests import identity_of
from abc_lib.ground.errors import BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.loop import (
    CHECKPOINT_SECONDS,
    last_loss,
    loss_note,
    network_state,
    resume_network,
    train,
)
from abc_lib.ground.seeds import derive, generator
from abc_lib.ground.store import Artefact, Store, Workspace, stopwatch
from abc_lib.ground.tasks import tqdm
from abc_lib.images.autoencoders.base import Autoencoder
from abc_lib.images.autoencoders.network import BasicAutoencoder, build_basic_autoencoder
from abc_lib.images.autoencoders.recipes import AutoencoderRecipe
from abc_lib.images.files import ImageFiles
from abc_lib.images.training_set import load_split
from abc_lib.method.recipe import SHAPES, latent_shape

# Steps after which an autoencoder that is no better than one grey will not become so.
_LEARNS_WITHIN = 200
_KIND = "autoencoder"


class Basic(Autoencoder):
    """The basic autoencoder of a family. Images enter as they are, in [0, 1]; latents are not
    negative.
    """

    title = "basic autoencoder"

    def __init__(
        self, recipe: AutoencoderRecipe, network: BasicAutoencoder, artefact: Artefact | None = None
    ):
        super().__init__(network)
        self.recipe, self.artefact = recipe, artefact
        self.image_shape = SHAPES[recipe.family]
        self.shape = latent_shape(recipe.family, recipe.latent_channels)
        self.identity = identity_of(
            [{name: value.cpu() for name, value in network.state_dict().items()}]
        )
        # Activations of one 128x128 image take about 20 MB at the paper's width.
        self.batch = max(1, 2**18 // (SHAPES[recipe.family][1] ** 2))

    def _encode(self, images):
        return self.network.encoder(images)

    def _decode(self, latents):
        return self.network.decoder(latents)


def patch_loss(error: torch.Tensor, patches: tuple[tuple[int, float], ...]) -> torch.Tensor:
    """The loss of the second phase, (): the mean squared error and, for each side of patches, the
    worst patch's (B.4).

    ``error`` (B, C, H, W) are squared errors. Each image is divided into patches of 8x8, 4x4,
    2x2 and 1x1 pixels; of the mean squared errors of patches of one size the largest counts
    4, 8, 16 and 32 times. The paper does not say whether patches are counted in pixels or in
    parts of a side, nor over what the maximum goes when images come in batches: here in
    pixels, because it is for local detail, and over each image, then averaged.
    """
    total = error.mean()
    for side, weight in patches:
        means = F.avg_pool2d(error.mean(dim=1, keepdim=True), side)
        total = total + weight * means.flatten(1).amax(dim=1).mean()
    return total


def _images(recipe: AutoencoderRecipe) -> tuple[torch.Tensor, str]:
    """Its training images, uint8 (K, C, H, W), all in memory: each is seen in every epoch."""
    images, _, origin = load_split(recipe.family, recipe.split)
    images = (
        images.select(slice(recipe.size or None))
        if isinstance(images, ImageFiles)
        else images[: recipe.size or None]
    )
    if isinstance(images, ImageFiles):
        parts = range(0, len(images), 256)
        held = torch.empty(images.shape, dtype=torch.uint8)
        for start in tqdm(parts, desc=f"reading {origin}", unit="batch", mininterval=1.0):
            held[start : start + 256] = images.bytes(slice(start, start + 256))
        images = held
    return images, origin


class _Training:
    """The training of one autoencoder, from any step on (see :mod:`abc_lib.ground.loop`)."""

    def __init__(self, recipe: AutoencoderRecipe, images: torch.Tensor, device: torch.device):
        self.recipe, self.images, self.device = recipe, images, device
        self.steps_an_epoch = -(-len(images) // recipe.batch_size)
        self.steps = self.steps_an_epoch * (recipe.epochs + recipe.patch_epochs)
        seed = derive("autoencoder initial", recipe.seed)
        channels = images.shape[1]
        net = build_basic_autoencoder(channels, recipe.width, recipe.latent_channels, seed)
        self.network = net.to(device).train()
        self.second = self.steps_an_epoch * recipe.epochs
        self.optimiser = self._fresh_optimiser()
        self.losses = torch.zeros(self.steps)
        self._order: tuple[int, torch.Tensor] = (-1, torch.empty(0))

    def _fresh_optimiser(self) -> torch.optim.Adam:
        return torch.optim.Adam(self.network.parameters(), lr=self.recipe.learning_rate)

    def batch(self, step: int) -> torch.Tensor:
        """The images of a step, (B, C, H, W) in [0, 1].

        Shuffled epochs, the last batch of one as large as is left.
        """
        epoch, k = divmod(step, self.steps_an_epoch)
        if self._order[0] != epoch:
            rng = generator("autoencoder order", self.recipe.seed, epoch)
            self._order = epoch, torch.randperm(len(self.images), generator=rng)
        size = self.recipe.batch_size
        chosen = self._order[1][k * size : (k + 1) * size]
        return self.images[chosen].to(self.device).float() / 255

    def step(self, k: int) -> None:
        """One step of Adam on one minibatch."""
        recipe, x = self.recipe, self.batch(k)
        if k == self.second:
            # The second loss is thousands of times the first: Adam, used to small gradients,
            # would leap to where every image is one grey and stay there. B.5 starts its
            # optimiser anew between phases; B.4 does not say.
            self.optimiser = self._fresh_optimiser()
        if recipe.schedule == "cosine":
            for group in self.optimiser.param_groups:
                group["lr"] = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * k / self.steps))
        error = (self.network(x) - x).square()
        loss = error.mean() if k < self.second else patch_loss(error, recipe.patches)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.losses[k] = loss.detach()

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that later steps depend on."""
        return network_state(self.network, self.optimiser) | {"losses": self.losses}

    def resume(self, state: dict[str, torch.Tensor], k: int) -> None:
        """Goes back to a state of before step ``k``."""
        self.losses = state["losses"]
        resume_network(self.network, self.optimiser, state)

    def note(self, k: int) -> str:
        """The mean loss of late."""
        return loss_note(self.losses, k)


def train_basic(
    recipe: AutoencoderRecipe,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    here: Here | None = None,
) -> Artefact:
    """Trains a basic autoencoder, or finds it trained, or goes on where it was stopped.

    The artefact holds ``autoencoder.safetensors`` (parameters and the running statistics of
    the BatchNorm) and ``losses.safetensors``; its info has the root mean squared error over
    the images it was trained on. On one CPU the same recipe gives the same bits.
    """
    here = here or Here()
    # Nothing is begun without its images.
    load_split(recipe.family, recipe.split)

    def make(workspace: Workspace) -> Artefact:
        with one_thread():
            return _train(recipe, workspace, checkpoint_seconds, here)

    return here.store.once(_KIND, recipe.label, recipe.spec, make)


def _train(
    recipe: AutoencoderRecipe, workspace: Workspace, checkpoint_seconds: float, here: Here
) -> Artefact:
    images, origin = _images(recipe)
    if images.shape[-1] % max(4, *(side for side, _ in recipe.patches)):
        raise BadValue(
            f"images of {recipe.family} are {images.shape[-1]} pixels wide, which patches of "
            f"{recipe.patches} do not divide"
        )
    seconds = stopwatch()
    training = _Training(recipe, images, here.device)
    with tqdm(
        total=training.steps,
        desc=f"training {recipe.label}",
        unit="step",
        disable=not here.progress,
        mininterval=1.0,
    ) as bar:
        took = train(
            training,
            workspace,
            checkpoint_seconds=checkpoint_seconds,
            visit=lambda done, _: bar.update(done - bar.n),
        )
    if not torch.isfinite(training.losses).all():
        raise BadValue(
            f"training of {recipe.label} diverged (the loss is not finite); lower the learning rate"
        )
    autoencoder = Basic(recipe, training.network)
    rmse = _rmse(autoencoder, images)
    if training.steps >= _LEARNS_WITHIN and not rmse < _spread(images):
        raise BadValue(
            f"the autoencoder {recipe.label} learned nothing: one grey for all images would err "
            f"less than its {rmse:.3f}; lower the learning rate or take another seed"
        )
    network = training.network.state_dict().items()
    state = {name: value.detach().cpu().contiguous() for name, value in network}
    info = {
        "identity": autoencoder.identity,
        "origin": origin,
        "images": len(images),
        "rmse": round(rmse, 6),
        "loss": last_loss(training.losses),
        **took,
        "seconds": round(seconds(), 1),
    }
    files = {"autoencoder.safetensors": state, "losses.safetensors": {"losses": training.losses}}
    return here.store.write(_KIND, recipe.label, recipe.spec, files, info, here.device)


def _rmse(autoencoder: Basic, images: torch.Tensor) -> float:
    total = 0.0
    for part in images.split(1024):
        x = part.float() / 255
        total += float(
            (autoencoder.decode(autoencoder.encode(x)).cpu() - x).double().square().sum()
        )
    return math.sqrt(total / images.numel())


def _spread(images: torch.Tensor) -> float:
    """The root mean squared error of the best single grey."""
    total = square = 0.0
    for part in images.split(1024):
        x = part.double() / 255
        total, square = total + float(x.sum()), square + float(x.square().sum())
    return math.sqrt(square / images.numel() - (total / images.numel()) ** 2)


def find_basic(recipe: AutoencoderRecipe, store: Store) -> Basic | None:
    """The trained autoencoder, published or from the cache, every byte checked; else None."""
    artefact = store.find(_KIND, recipe.label, recipe.spec)
    return None if artefact is None else read_basic(recipe, artefact)


def read_basic(recipe: AutoencoderRecipe, artefact: Artefact) -> Basic:
    """The autoencoder that an artefact holds."""
    network = BasicAutoencoder(SHAPES[recipe.family][0], recipe.width, recipe.latent_channels)
    network.load_state_dict(artefact.tensors("autoencoder.safetensors"))
    return Basic(recipe, network, artefact)
