"""The classifier of appendix B.5: a ResNet trained normally, then against an adversary.

It says which class a sample shows (3.2), and its features are a visual metric and a
stand-in for Inception's where those weights cannot be had. ``paper`` is the paper's own
setting, ResNet-18 for 50 + 50 epochs; ``laptop`` is a slimmer ResNet, fewer epochs and a
shorter attack, in minutes on one core. The digits are not in the paper.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from .datasets import SHAPES, load_split
from .ensemble import resolve_device
from .errors import ArtefactError, BadValue, positive_int, unknown
from .metrics import FeatureMetric, Metric, get_metric, l2_distance, metrics_at_hand
from .models import ResNetShape, SmallResNet, build_classifier
from .recipes import SCALES, spec_of
from .seeds import derive, generator
from .store import Artefact, Store, Workspace, stopwatch
from .tasks import one_thread, run_tasks
from .training import identity_of

_KIND = "classifier"
_CLASSES = 10
_PRECISIONS = {"float32": torch.float32, "float16": torch.float16}
DIGITS_VALIDATING = 200
"""of the 773 held-out digits, how many validate; the others train"""


@dataclass(frozen=True)
class Attack:
    """PGD in the Euclidean ball around an image (torchattacks' PGDL2), on pixels in [0, 1]."""

    radius: float
    step: float
    steps: int


@dataclass(frozen=True)
class ClassifierRecipe:
    """Everything that fixes a classifier."""

    family: str
    scale: str
    attack: Attack
    """the adversary it is trained with, and that picks the best epoch"""
    judge: Attack
    """the adversary of the accuracy that is reported: the paper's"""
    network: ResNetShape = ResNetShape()
    epochs: int = 50
    """normal ones"""
    adversarial_epochs: int = 50
    batch_size: int = 128
    """the paper does not print it"""
    attacked: int = 0
    """how many validation images are attacked; 0 for all of them"""
    seed: int = 0
    stored: str = "float32"
    """the type the finished parameters are rounded to: what is stored is the classifier"""

    @property
    def label(self) -> str:
        """``family-scale``, as in file names."""
        return f"{self.family}-{self.scale}"

    @property
    def spec(self) -> dict:
        """What determines the classifier; its hash names the artefact."""
        return {key: spec_of(value) if dataclasses.is_dataclass(value) else value for key, value in spec_of(self).items()}


# A radius of 3 and steps of 0.2 are for 32x32 images. The same image at 8x8 is a quarter
# as long a vector, so its adversary goes a quarter as far.
_JUDGES = {"digits": Attack(0.75, 0.05, 50), "mnist": Attack(3.0, 0.2, 50), "fashion": Attack(1.0, 0.2, 50)}


def _registry() -> dict[tuple[str, str], ClassifierRecipe]:
    recipes = {}
    for family, judge in _JUDGES.items():
        small = family == "digits"
        recipes[family, "paper"] = ClassifierRecipe(family, "paper", judge, judge, ResNetShape(stride=1) if small else ResNetShape())
        # A few long steps that could cross the ball, instead of many short ones.
        short = Attack(judge.radius, 0.4 * judge.radius, 5)
        recipes[family, "laptop"] = ClassifierRecipe(
            family, "laptop", short, judge, stored="float16", attacked=0 if small else 1000,
            network=ResNetShape((32, 64), (1, 1), stride=1) if small else ResNetShape((16, 32, 64), (1, 1, 1), stride=4),
            epochs=30 if small else 2, adversarial_epochs=50 if small else 5, batch_size=64 if small else 128,
        )
    return recipes


_RECIPES = _registry()
CLASSIFIER_FAMILIES = tuple(_JUDGES)
"""the families that have a classifier"""


def classifier_recipe(family: str, scale: str = "laptop") -> ClassifierRecipe:
    """The recipe of a family's classifier; raises :class:`UnknownName` with the closest name."""
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    if family not in CLASSIFIER_FAMILIES:
        raise unknown("classifier", family, CLASSIFIER_FAMILIES)
    return _RECIPES[family, scale]


def _recipe_of(family: str | ClassifierRecipe, scale: str) -> ClassifierRecipe:
    return family if isinstance(family, ClassifierRecipe) else classifier_recipe(family, scale)


@dataclass
class Classifier:
    """A trained classifier. Images are (S, C, H, W), floating point in [0, 1], of its family's shape."""

    recipe: ClassifierRecipe
    network: SmallResNet
    artefact: Artefact
    """where it was read from"""
    identity: str
    """a hash of its parameters"""

    def __post_init__(self):
        self.network.eval().requires_grad_(False)

    @property
    def info(self) -> dict:
        """``accuracy`` and ``adversarial_accuracy``, on ``validation_images`` and ``attacked_images`` images, and more."""
        return self.artefact.info

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def to(self, device: torch.device | str) -> "Classifier":
        """Moves the network, in place, and returns the classifier."""
        self.network.to(device)
        return self

    def check(self, images: torch.Tensor) -> torch.Tensor:
        """The images as they enter the network; raises :class:`BadValue` for another shape, whole numbers, NaN or another range."""
        shape = SHAPES[self.recipe.family]
        if images.ndim != 4 or tuple(images.shape[1:]) != shape:
            raise BadValue(f"images of shape {tuple(images.shape)} do not fit the {self.recipe.family} classifier; it takes (S, {', '.join(map(str, shape))})")
        if not images.is_floating_point():
            raise BadValue("images of whole numbers have no scale; give floating-point values in [0, 1]")
        if len(images) == 0:
            raise BadValue("no images to classify; give at least one")
        low, high = float(images.min()), float(images.max())
        # not (a >= b), so that NaN is refused too
        if not (low >= -0.5 and high <= 1.5):
            raise BadValue(f"images have values from {low:.3g} to {high:.3g}; the classifier takes values in [0, 1]")
        return images.clamp(0, 1).float()

    @torch.no_grad()
    def _batched(self, function, images: torch.Tensor, batch: int) -> torch.Tensor:
        images = self.check(images)
        with one_thread() if self.device.type == "cpu" else contextlib.nullcontext():
            return torch.cat([function(each.to(self.device)).cpu() for each in images.split(batch)])

    def probabilities(self, images: torch.Tensor, batch: int = 256) -> torch.Tensor:
        """Class probabilities, (S, 10) float32, on the CPU."""
        return self._batched(lambda x: self.network(x).softmax(1), images, batch)

    def classify(self, images: torch.Tensor, batch: int = 256) -> torch.Tensor:
        """The most probable class of each image, (S,) int64, on the CPU."""
        return self.probabilities(images, batch).argmax(1)

    def features(self, images: torch.Tensor, batch: int = 256) -> torch.Tensor:
        """What the last layer sees, (S, F) float32, on the CPU."""
        return self._batched(self.network.features, images, batch)


def classifier_data(family: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, str]:
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
        return images[train], labels[train], images[valid], labels[valid], f"{origin}: {len(train)} train, {len(valid)} validate"
    images, labels, origin = load_split(family, "train")
    others, their, where = load_split(family, "test")
    order = torch.randperm(len(others), generator=generator("classifier validation", family))
    return images.float() / 255, labels, others[order].float() / 255, their[order], f"{origin} trains, {where} validates"


@contextlib.contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """torchattacks draws its starting points from the global generator; it is seeded within and left as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def attacked(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, attack: Attack, seed: int) -> torch.Tensor:
    """Images that an adversary moved within its radius so that ``network`` gets them wrong (PGDL2), same shape, in [0, 1].

    It starts from a random point of the ball, which ``seed`` fixes. The network is in
    evaluation mode meanwhile.
    """
    from torchattacks import PGDL2

    with _seeded(images.device, seed):
        return PGDL2(network, eps=attack.radius, alpha=attack.step, steps=attack.steps)(images, labels).detach()


@torch.no_grad()
def _accuracy(network, images: torch.Tensor, labels: torch.Tensor, attack: Attack | None = None, *names, batch: int = 256) -> float:
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
    family: str | ClassifierRecipe, scale: str = "laptop", store: Store | None = None, device: str = "auto", progress: bool = True,
) -> Artefact:
    """Trains a family's classifier, or finds it in the cache, or goes on after the last epoch that was finished (B.5).

    Normal epochs come first; the one with the best validation accuracy is kept. From it,
    with a new optimiser, adversarial ones, on attacked and plain images together; the one
    with the best accuracy under attack is kept. Adam has PyTorch's defaults. On one CPU
    the same recipe gives the same bits, however often the work was interrupted.
    """
    recipe, store, device = _recipe_of(family, scale), store or Store(), resolve_device(device)
    positive_int("batch_size", recipe.batch_size)
    positive_int("epochs", recipe.epochs)
    cached = Store(store.cache, None)
    found = cached.find(_KIND, recipe.label, recipe.spec)
    if found is not None:
        return found
    total = recipe.epochs + recipe.adversarial_epochs
    space = store.workspace(_KIND, recipe.label, recipe.spec)

    def poll() -> tuple[float, str]:
        if cached.find(_KIND, recipe.label, recipe.spec) is not None:
            return total, ""
        done, _, text = space.read_note().partition(" ")
        return round(float(done or 0), 2), text

    # One task; that it is one on this list gives it a progress bar and, on a CPU, one thread.
    (artefact,) = run_tasks(
        _train_task, [(recipe, store.cache, str(device))], 1, device=device, total=total, n_jobs=1,
        description=f"training the {recipe.family} classifier", unit="epoch", poll=poll, progress=progress,
    )
    return artefact


def _train_task(recipe: ClassifierRecipe, cache: Path, device: str) -> Artefact:
    store = Store(cache, None)
    with store.lock(_KIND, recipe.label, recipe.spec):
        done = store.find(_KIND, recipe.label, recipe.spec)
        if done is None:
            workspace = store.workspace(_KIND, recipe.label, recipe.spec)
            done = _train(recipe, store, workspace, torch.device(device))
        # also what a run that was stopped right at its end left behind
        store.workspace(_KIND, recipe.label, recipe.spec).clear()
    return done


def _fresh(recipe: ClassifierRecipe, device: torch.device) -> SmallResNet:
    network = build_classifier(recipe.network, SHAPES[recipe.family][0], _CLASSES, derive("classifier", recipe.family, recipe.seed))
    # convolutions with few channels are a fifth faster in this layout
    return network.to(device, memory_format=torch.channels_last)


def _state(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in network.state_dict().items()}


def _checkpoint(network, optimiser, best: dict, accuracies: torch.Tensor, epoch: int) -> dict[str, torch.Tensor]:
    tensors = {"epoch": torch.tensor(epoch), "accuracies": accuracies.clone()}
    tensors |= {f"now.{name}": value for name, value in _state(network).items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for i, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{i}.{key}": value.detach().cpu().contiguous() for key, value in state.items()}
    return tensors


def _resume(network, optimiser, piece: dict[str, torch.Tensor]) -> tuple[int, dict, torch.Tensor]:
    part = lambda prefix: {name.removeprefix(prefix): value for name, value in piece.items() if name.startswith(prefix)}
    network.load_state_dict(part("now."))
    state = {}
    for name, value in part("adam.").items():
        i, key = name.split(".")
        state.setdefault(int(i), {})[key] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
    return int(piece["epoch"]), part("best."), piece["accuracies"]


def _train(recipe: ClassifierRecipe, store: Store, workspace: Workspace, device: torch.device) -> Artefact:
    images, labels, others, their, origin = classifier_data(recipe.family)
    checksum = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    count = recipe.attacked or len(others)
    total, seconds = recipe.epochs + recipe.adversarial_epochs, stopwatch()
    network = _fresh(recipe, device)
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
        accuracies[epoch] = (_accuracy(network, others[:count], their[:count], recipe.attack, *names) if adversarial
                             else _accuracy(network, others, their))
        first = recipe.epochs if adversarial else 0
        if epoch == first or accuracies[epoch] > accuracies[first:epoch].max():
            best = _state(network)
        workspace.save(name, _checkpoint(network, optimiser, best, accuracies, epoch + 1))
        workspace.note(f"{epoch + 1} {'adversarial accuracy' if adversarial else 'accuracy'} {accuracies[epoch]:.4f}")
    stored = _PRECISIONS[recipe.stored]
    best = {key: value.to(stored) if value.is_floating_point() else value for key, value in best.items()}
    if not all(torch.isfinite(value).all() for value in best.values()):
        raise BadValue(f"training of the {recipe.label} classifier diverged (its parameters are not finite); change its seed")
    network.load_state_dict(best)
    names = (recipe.family, recipe.seed, "judge")
    info = {
        "accuracy": round(_accuracy(network, others, their), 4), "validation_images": len(others),
        "adversarial_accuracy": round(_accuracy(network, others[:count], their[:count], recipe.judge, *names), 4),
        "attacked_images": min(count, len(others)), "accuracy_by_epoch": [round(a, 4) for a in accuracies.tolist()],
        "training_images": len(images), "checksum": checksum, "origin": origin,
        "seconds": round(seconds(), 1), "epochs_in_these_seconds": total - start,
    }
    return store.write(_KIND, recipe.label, recipe.spec, {"classifier.safetensors": best}, info, device)


def _epoch(recipe, network, optimiser, images, labels, epoch: int, workspace: Workspace, device: torch.device) -> None:
    order = torch.randperm(len(images), generator=generator("classifier order", recipe.family, recipe.seed, epoch))
    seconds, told = stopwatch(), 0.0
    for k, which in enumerate(order.split(recipe.batch_size)):
        # Batch normalisation cannot learn from a single image.
        if len(which) == 1:
            continue
        x, y = images[which].to(device), labels[which].to(device)
        if epoch >= recipe.epochs:
            moved = attacked(network, x, y, recipe.attack, derive("attack", recipe.family, recipe.seed, epoch, k))
            x, y = torch.cat([x, moved]), torch.cat([y, y])
        network.train()
        loss = F.cross_entropy(network(x), y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if seconds() - told > 0.5:
            told = seconds()
            workspace.note(f"{epoch + (k + 1) * recipe.batch_size / (len(order) + recipe.batch_size):.3f} loss {float(loss.detach()):.4f}")


def read_classifier(artefact: Artefact, recipe: ClassifierRecipe) -> Classifier:
    """An artefact's classifier, on the CPU, with every byte checked."""
    parameters = artefact.tensors("classifier.safetensors")
    network = _fresh(recipe, torch.device("cpu"))
    try:
        network.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in parameters.items()})
    except RuntimeError:
        raise ArtefactError(f"{artefact.path} does not hold the parameters of the {recipe.label} classifier; delete it to train again") from None
    return Classifier(recipe, network, artefact, identity_of([parameters]))


def find_classifier(
    family: str | ClassifierRecipe, scale: str = "laptop", store: Store | None = None, recompute: bool = False
) -> Classifier | None:
    """A family's classifier if it is published or in the cache (``recompute``: only the cache), else None."""
    recipe, store = _recipe_of(family, scale), store or Store()
    if recompute:
        store = Store(store.cache, None)
    found = store.find(_KIND, recipe.label, recipe.spec)
    return None if found is None else read_classifier(found, recipe)


def get_classifier(
    family: str | ClassifierRecipe, scale: str = "laptop", store: Store | None = None, device: str = "auto",
    recompute: bool = False, progress: bool = True,
) -> Classifier:
    """A family's classifier: published, else from the cache, else trained now."""
    store, target = store or Store(), resolve_device(device)
    found = find_classifier(family, scale, store, recompute)
    if found is None:
        train_classifier(family, scale, store, device, progress)
        found = find_classifier(family, scale, store, recompute=True)
    return found.to(target)


def classifier_metric(classifier: Classifier) -> FeatureMetric:
    """A visual metric "trained here": the Euclidean distance between the classifier's features.

    Not one of the paper's five (B.6). It sees what tells the classes of its family apart,
    and takes images of that family's shape only.
    """
    return FeatureMetric(
        "classifier", f"{classifier.recipe.family} classifier (trained here)", classifier.network, classifier.check, l2_distance,
        _features, classifier.device, batch=256,
    )


def _features(network: SmallResNet, images: torch.Tensor) -> torch.Tensor:
    return network.features(images)


def family_metrics(family: str, scale: str = "laptop", store: Store | None = None, device: str | torch.device = "cpu") -> list[Metric]:
    """The metrics that work on this machine as it is for images of a family: those at hand, then its classifier's, if there is one."""
    found = [get_metric(name, device) for name in metrics_at_hand()]
    classifier = find_classifier(family, scale, store) if family in CLASSIFIER_FAMILIES else None
    return found + ([classifier_metric(classifier.to(resolve_device(str(device))))] if classifier else [])
