"""Trains classifiers: normally, then against an adversary; resumable and reproducible (B.5)."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F

from abc_lib.ground.devices import resolve_device
from abc_lib.ground.errors import BadValue, positive_int
from abc_lib.ground.seeds import derive, generator
from abc_lib.ground.store import Artefact, Store, Workspace, stopwatch
from abc_lib.ground.tasks import run_tasks
from abc_lib.images.training_set import load_split
from abc_lib.training.classifier.recipe import Attack, ClassifierRecipe, recipe_of
from abc_lib.training.classifier.values import KIND, Classifier, find_classifier, fresh_network

_PRECISIONS = {"float32": torch.float32, "float16": torch.float16}
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
    """torchattacks draws its starting points from the global generator; it is seeded within and left as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def attacked(
    network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, attack: Attack, seed: int
) -> torch.Tensor:
    """Images that an adversary moved within its radius so that ``network`` gets them wrong (PGDL2), same shape, in [0, 1].

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
    """The share of images (on the CPU) whose class the network gets right, under attack if there is one."""
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
    family: str | ClassifierRecipe,
    scale: str = "laptop",
    store: Store | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Artefact:
    """Trains a family's classifier, or finds it in the cache, or goes on after the last epoch that was finished (B.5).

    Normal epochs come first; the one with the best validation accuracy is kept. From it,
    with a new optimiser, adversarial ones, on attacked and plain images together; the one
    with the best accuracy under attack is kept. Adam has PyTorch's defaults. On one CPU
    the same recipe gives the same bits, however often the work was interrupted.
    """
    recipe, store, device = recipe_of(family, scale), store or Store(), resolve_device(device)
    positive_int("batch_size", recipe.batch_size)
    positive_int("epochs", recipe.epochs)
    cached = Store(store.cache, None)
    found = cached.find(KIND, recipe.label, recipe.spec)
    if found is not None:
        return found
    total = recipe.epochs + recipe.adversarial_epochs
    space = store.workspace(KIND, recipe.label, recipe.spec)

    def poll() -> tuple[float, str]:
        if cached.find(KIND, recipe.label, recipe.spec) is not None:
            return total, ""
        done, _, text = space.read_note().partition(" ")
        return round(float(done or 0), 2), text

    # One task; that it is one on this list gives it a progress bar and, on a CPU, one thread.
    (artefact,) = run_tasks(
        _train_task,
        [(recipe, store.cache, str(device))],
        1,
        device=device,
        total=total,
        n_jobs=1,
        description=f"training the {recipe.family} classifier",
        unit="epoch",
        poll=poll,
        progress=progress,
    )
    return artefact


def _train_task(recipe: ClassifierRecipe, cache: Path, device: str) -> Artefact:
    store = Store(cache, None)
    return store.once(
        KIND,
        recipe.label,
        recipe.spec,
        lambda workspace: _train(recipe, store, workspace, torch.device(device)),
    )


def _state(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: value.detach().to("cpu", copy=True).contiguous()
        for name, value in network.state_dict().items()
    }


def _checkpoint(
    network, optimiser, best: dict, accuracies: torch.Tensor, epoch: int
) -> dict[str, torch.Tensor]:
    tensors = {"epoch": torch.tensor(epoch), "accuracies": accuracies.clone()}
    tensors |= {f"now.{name}": value for name, value in _state(network).items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for i, state in optimiser.state_dict()["state"].items():
        tensors |= {
            f"adam.{i}.{key}": value.detach().cpu().contiguous() for key, value in state.items()
        }
    return tensors


def _resume(network, optimiser, piece: dict[str, torch.Tensor]) -> tuple[int, dict, torch.Tensor]:
    part = lambda prefix: {
        name.removeprefix(prefix): value for name, value in piece.items() if name.startswith(prefix)
    }
    network.load_state_dict(part("now."))
    state = {}
    for name, value in part("adam.").items():
        i, key = name.split(".")
        state.setdefault(int(i), {})[key] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
    return int(piece["epoch"]), part("best."), piece["accuracies"]


def _train(
    recipe: ClassifierRecipe, store: Store, workspace: Workspace, device: torch.device
) -> Artefact:
    images, labels, others, their, origin = classifier_data(recipe.family)
    checksum = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    count = recipe.attacked or len(others)
    total, seconds = recipe.epochs + recipe.adversarial_epochs, stopwatch()
    network = fresh_network(recipe, device)
    optimiser = torch.optim.Adam(network.parameters())
    accuracies, best, start = torch.zeros(total, dtype=torch.float64), _state(network), 0
    # A checkpoint holds for these images only.
    name = f"checkpoint-{checksum[:12]}"
    piece = workspace.load(name)
    if piece is not None:
        start, best, accuracies = _resume(network, optimiser, piece)
    for epoch in range(start, total):
        adversarial = epoch >= recipe.epochs
        if epoch == recipe.epochs:
            network.load_state_dict(best)
            optimiser = torch.optim.Adam(network.parameters())
        _epoch(recipe, network, optimiser, images, labels, epoch, workspace, device)
        names = (recipe.family, recipe.seed, "validation")
        accuracies[epoch] = (
            _accuracy(network, others[:count], their[:count], recipe.attack, *names)
            if adversarial
            else _accuracy(network, others, their)
        )
        first = recipe.epochs if adversarial else 0
        if epoch == first or accuracies[epoch] > accuracies[first:epoch].max():
            best = _state(network)
        workspace.save(name, _checkpoint(network, optimiser, best, accuracies, epoch + 1))
        workspace.note(
            f"{epoch + 1} {'adversarial accuracy' if adversarial else 'accuracy'} {accuracies[epoch]:.4f}"
        )
    stored = _PRECISIONS[recipe.stored]
    best = {
        key: value.to(stored) if value.is_floating_point() else value for key, value in best.items()
    }
    if not all(torch.isfinite(value).all() for value in best.values()):
        raise BadValue(
            f"training of the {recipe.label} classifier diverged (its parameters are not finite); change its seed"
        )
    network.load_state_dict(best)
    names = (recipe.family, recipe.seed, "judge")
    info = {
        "accuracy": round(_accuracy(network, others, their), 4),
        "validation_images": len(others),
        "adversarial_accuracy": round(
            _accuracy(network, others[:count], their[:count], recipe.judge, *names), 4
        ),
        "attacked_images": min(count, len(others)),
        "accuracy_by_epoch": [round(a, 4) for a in accuracies.tolist()],
        "training_images": len(images),
        "checksum": checksum,
        "origin": origin,
        "seconds": round(seconds(), 1),
        "epochs_in_these_seconds": total - start,
    }
    return store.write(
        KIND, recipe.label, recipe.spec, {"classifier.safetensors": best}, info, device
    )


def _epoch(
    recipe,
    network,
    optimiser,
    images,
    labels,
    epoch: int,
    workspace: Workspace,
    device: torch.device,
) -> None:
    order = torch.randperm(
        len(images), generator=generator("classifier order", recipe.family, recipe.seed, epoch)
    )
    seconds, told = stopwatch(), 0.0
    for k, which in enumerate(order.split(recipe.batch_size)):
        # Batch normalisation cannot learn from a single image.
        if len(which) == 1:
            continue
        x, y = images[which].to(device), labels[which].to(device)
        if epoch >= recipe.epochs:
            moved = attacked(
                network, x, y, recipe.attack, derive("attack", recipe.family, recipe.seed, epoch, k)
            )
            x, y = torch.cat([x, moved]), torch.cat([y, y])
        network.train()
        loss = F.cross_entropy(network(x), y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if seconds() - told > 0.5:
            told = seconds()
            workspace.note(
                f"{epoch + (k + 1) * recipe.batch_size / (len(order) + recipe.batch_size):.3f} loss {float(loss.detach()):.4f}"
            )


def get_classifier(
    family: str | ClassifierRecipe,
    scale: str = "laptop",
    store: Store | None = None,
    device: str = "auto",
    recompute: bool = False,
    progress: bool = True,
) -> Classifier:
    """A family's classifier: published, else from the cache, else trained now."""
    store, target = store or Store(), resolve_device(device)
    found = find_classifier(family, scale, store, recompute)
    if found is None:
        train_classifier(family, scale, store, device, progress)
        found = find_classifier(family, scale, store, recompute=True)
    return found.to(target)
