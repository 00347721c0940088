"""Trains classifiers: normally, then against an adversary; resumable and reproducible (B.5)."""

import contextlib
import hashlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from abc_lib.ground.errors import BadValue, positive_int
from abc_lib.ground.here import Here
from abc_lib.ground.loop import STORED, network_state, resume_network, train
from abc_lib.ground.seeds import derive, generator
from abc_lib.ground.store import Artefact, Store, Workspace, stopwatch
from abc_lib.ground.tasks import run_tasks
from abc_lib.images.training_set import load_split
from abc_lib.training.classifier.recipe import Attack, ClassifierRecipe, recipe_of
from abc_lib.training.classifier.values import KIND, Classifier, find_classifier, fresh_network

DIGITS_VALIDATING = 200
"""of the 773 held-out digits, how many validate; the others train"""


def classifier_data(
    family: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, str]:
    """Images and labels that train, images and labels that validate, and where they come from.

    MNIST and Fashion-MNIST: the training and the test split (B.5). Digits: those that no
    ensemble sees, of which 200, drawn once, validate. Images are float32 in [0, 1]. The
    validation images come in a random order, so that the first few stand for all.
    """
    if family == "digits":
        images, labels, origin = load_split(family, "held out")
        order = torch.randperm(len(images), generator=generator("classifier validation", family))
        train, valid = order[DIGITS_VALIDATING:], order[:DIGITS_VALIDATING]
        images = images.float() / 255
        return (
            images[train],
            labels[train],
            images[valid],
            labels[valid],
            f"{origin}: {len(train)} train, {len(valid)} validate",
        )
    images, labels, origin = load_split(family, "train")
    others, their, where = load_split(family, "test")
    order = torch.randperm(len(others), generator=generator("classifier validation", family))
    return (
        images.float() / 255,
        labels,
        others[order].float() / 255,
        their[order],
        f"{origin} trains, {where} validates",
    )


@contextlib.contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """torchattacks draws its starting points from the global generator; it is seeded within and
    left as it was.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def attacked(
    network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, attack: Attack, seed: int
) -> torch.Tensor:
    """Images that an adversary moved within its radius so that ``network`` gets them wrong (PGDL2),
    same shape, in [0, 1].

    It starts from a random point of the ball, which ``seed`` fixes. The network is in
    evaluation mode meanwhile.
    """
    from torchattacks import PGDL2

    with _seeded(images.device, seed):
        return PGDL2(network, eps=attack.radius, alpha=attack.step, steps=attack.steps)(
            images, labels
        ).detach()


@torch.no_grad()
def _accuracy(
    network,
    images: torch.Tensor,
    labels: torch.Tensor,
    attack: Attack | None = None,
    *names,
    batch: int = 256,
) -> float:
    """The share of images (on the CPU) whose class the network gets right, under attack if there is
    one.
    """
    device, right = next(network.parameters()).device, 0
    network.eval()
    for k, (x, y) in enumerate(zip(images.split(batch), labels.split(batch))):
        x, y = x.to(device), y.to(device)
        if attack is not None:
            with torch.enable_grad():
                x = attacked(network, x, y, attack, derive("attack", *names, k))
        right += int((network(x).argmax(1) == y).sum())
    return right / len(images)


def train_classifier(
    family: str | ClassifierRecipe, scale: str = "laptop", here: Here | None = None
) -> Artefact:
    """Trains a family's classifier, or finds it in the cache, or goes on after its last epoch
    (B.5).

    Normal epochs come first; the one with the best validation accuracy is kept. From it,
    with a new optimiser, adversarial ones, on attacked and plain images together; the one
    with the best accuracy under attack is kept. Adam has PyTorch's defaults. On one CPU
    the same recipe gives the same bits, however often the work was interrupted.
    """
    here = here or Here()
    recipe = recipe_of(family, scale)
    positive_int("batch_size", recipe.batch_size)
    positive_int("epochs", recipe.epochs)
    cached = here.store.cached()
    known = cached.find(KIND, recipe.label, recipe.spec)
    if known is not None:
        return known
    total = recipe.epochs + recipe.adversarial_epochs
    space = here.store.workspace(KIND, recipe.label, recipe.spec)

    def poll() -> tuple[float, str]:
        if cached.find(KIND, recipe.label, recipe.spec) is not None:
            return total, ""
        done, _, text = space.read_note().partition(" ")
        return round(float(done or 0), 2), text

    # One task; that it is one on this list gives it a progress bar and, on a CPU, one thread.
    (artefact,) = run_tasks(
        _train_task,
        [(recipe, cached, str(here.device))],
        1,
        here.device,
        here,
        total=total,
        description=f"training the {recipe.family} classifier",
        unit="epoch",
        poll=poll,
    )
    return artefact


def _train_task(recipe: ClassifierRecipe, store: Store, device: str) -> Artefact:
    def make(workspace: Workspace) -> Artefact:
        return _train(recipe, store, workspace, torch.device(device))

    return store.once(KIND, recipe.label, recipe.spec, make)


def _copied(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: value.detach().to("cpu", copy=True).contiguous()
        for name, value in network.state_dict().items()
    }


class _Training:
    """Both phases of a classifier's training, an epoch a step (see :mod:`abc_lib.ground.loop`)."""

    def __init__(self, recipe: ClassifierRecipe, workspace: Workspace, device: torch.device):
        self.recipe, self.workspace, self.device = recipe, workspace, device
        self.images, self.labels, self.others, self.their, self.origin = classifier_data(
            recipe.family
        )
        data = self.images.numpy().tobytes() + self.labels.numpy().tobytes()
        self.checksum = hashlib.sha256(data).hexdigest()
        self.count = recipe.attacked or len(self.others)
        self.steps = recipe.epochs + recipe.adversarial_epochs
        self.network = fresh_network(recipe, device)
        self.optimiser = torch.optim.Adam(self.network.parameters())
        self.accuracies = torch.zeros(self.steps, dtype=torch.float64)
        self.best = _copied(self.network)

    def step(self, k: int) -> None:
        """Epoch ``k``, and how well the network does after it."""
        recipe = self.recipe
        if k == recipe.epochs:
            self.network.load_state_dict(self.best)
            self.optimiser = torch.optim.Adam(self.network.parameters())
        self._epoch(k)
        first = 0
        if k < recipe.epochs:
            accuracy = _accuracy(self.network, self.others, self.their)
        else:
            first, names = recipe.epochs, (recipe.family, recipe.seed, "validation")
            some = self.others[: self.count], self.their[: self.count]
            accuracy = _accuracy(self.network, *some, recipe.attack, *names)
        self.accuracies[k] = accuracy
        if k == first or accuracy > self.accuracies[first:k].max():
            self.best = _copied(self.network)

    def _epoch(self, epoch: int) -> None:
        recipe, device = self.recipe, self.device
        seconds, told = stopwatch(), 0.0
        batches = self._order(epoch)
        for k, which in enumerate(batches):
            x, y = self.images[which].to(device), self.labels[which].to(device)
            if epoch >= recipe.epochs:
                seed = derive("attack", recipe.family, recipe.seed, epoch, k)
                moved = attacked(self.network, x, y, recipe.attack, seed)
                x, y = torch.cat([x, moved]), torch.cat([y, y])
            self.network.train()
            loss = F.cross_entropy(self.network(x), y)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            if seconds() - told > 0.5:
                told = seconds()
                share = (k + 1) / (len(batches) + 1)
                self.workspace.note(f"{epoch + share:.3f} loss {float(loss.detach()):.4f}")

    def _order(self, epoch: int) -> list[torch.Tensor]:
        """The minibatches of an epoch."""
        rng = generator("classifier order", self.recipe.family, self.recipe.seed, epoch)
        order = torch.randperm(len(self.images), generator=rng)
        # Batch normalisation cannot learn from a single image.
        return [which for which in order.split(self.recipe.batch_size) if len(which) > 1]

    def state(self) -> dict[str, torch.Tensor]:
        """The network, its Adam, the best network of the phase, and the accuracies so far."""
        best = {f"best.{name}": value for name, value in self.best.items()}
        accuracies = {"accuracies": self.accuracies}
        return network_state(self.network, self.optimiser) | best | accuracies

    def resume(self, state: dict[str, torch.Tensor], k: int) -> None:
        """Goes back to a state of before epoch ``k``."""
        self.accuracies = state["accuracies"]
        self.best = {
            name.removeprefix("best."): value
            for name, value in state.items()
            if name.startswith("best.")
        }
        resume_network(self.network, self.optimiser, state)

    def note(self, k: int) -> str:
        """The accuracy after epoch ``k``."""
        kind = "adversarial accuracy" if k >= self.recipe.epochs else "accuracy"
        return f"{kind} {self.accuracies[k]:.4f}"


def _train(
    recipe: ClassifierRecipe, store: Store, workspace: Workspace, device: torch.device
) -> Artefact:
    seconds = stopwatch()
    work = _Training(recipe, workspace, device)
    # A checkpoint holds for these images only, and is written after every epoch.
    took = train(work, workspace, f"checkpoint-{work.checksum[:12]}", checkpoint_seconds=0)
    stored, network = STORED[recipe.stored], work.network
    best = {
        key: value.to(stored) if value.is_floating_point() else value
        for key, value in work.best.items()
    }
    if not all(torch.isfinite(value).all() for value in best.values()):
        raise BadValue(
            f"training of the {recipe.label} classifier diverged (its parameters are not finite); "
            "change its seed"
        )
    network.load_state_dict(best)
    names = (recipe.family, recipe.seed, "judge")
    count, others, their = work.count, work.others, work.their
    under_attack = _accuracy(network, others[:count], their[:count], recipe.judge, *names)
    info = {
        "accuracy": round(_accuracy(network, others, their), 4),
        "validation_images": len(others),
        "adversarial_accuracy": round(under_attack, 4),
        "attacked_images": min(count, len(others)),
        "accuracy_by_epoch": [round(a, 4) for a in work.accuracies.tolist()],
        "training_images": len(work.images),
        "checksum": work.checksum,
        "origin": work.origin,
        "seconds": round(seconds(), 1),
        "epochs_in_these_seconds": took["steps_in_these_seconds"],
    }
    files = {"classifier.safetensors": best}
    return store.write(KIND, recipe.label, recipe.spec, files, info, device)


def get_classifier(
    family: str | ClassifierRecipe, scale: str = "laptop", here: Here | None = None
) -> Classifier:
    """A family's classifier on ``here.device``: published, from the cache, or trained now."""
    here = here or Here()
    classifier = find_classifier(family, scale, here)
    if classifier is None:
        train_classifier(family, scale, here)
        classifier = find_classifier(family, scale, here)
    return classifier.to(here.device)
