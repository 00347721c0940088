"""A trained classifier: classes and features of images, and the metric made of it."""

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from abc_lib.ground.devices import one_thread
from abc_lib.ground.digests import identity_of
from abc_lib.ground.errors import ArtefactError, BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.paths import PAPER
from abc_lib.ground.seeds import derive
from abc_lib.ground.store import Artefact
from abc_lib.method.recipe import SCALES, SHAPES
from abc_lib.metrics.base import FeatureMetric, Metric, l2_distance
from abc_lib.metrics.names import get_metric, metrics_at_hand
from abc_lib.training.classifier.network import SmallResNet, build_classifier
from abc_lib.training.classifier.recipe import CLASSIFIER_FAMILIES, ClassifierRecipe, recipe_of

if TYPE_CHECKING:
    import pandas as pd

KIND = "classifier"
CLASSES = 10


@dataclass
class Classifier:
    """A trained classifier.

    Images are (S, C, H, W), floating point in [0, 1], of its family's shape.
    """

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
        """``accuracy`` and ``adversarial_accuracy``, on ``validation_images`` and
        ``attacked_images`` images, and more.
        """
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
        """The images as they enter the network; raises :class:`BadValue` for another shape, whole
        numbers, NaN or another range.
        """
        shape = SHAPES[self.recipe.family]
        if images.ndim != 4 or tuple(images.shape[1:]) != shape:
            raise BadValue(
                f"images of shape {tuple(images.shape)} do not fit the {self.recipe.family} "
                f"classifier; it takes (S, {', '.join(map(str, shape))})"
            )
        if not images.is_floating_point():
            raise BadValue(
                "images of whole numbers have no scale; give floating-point values in [0, 1]"
            )
        if len(images) == 0:
            raise BadValue("no images to classify; give at least one")
        low, high = float(images.min()), float(images.max())
        # not (a >= b), so that NaN is refused too
        if not (low >= -0.5 and high <= 1.5):
            raise BadValue(
                f"images have values from {low:.3g} to {high:.3g}; the classifier takes values in "
                "[0, 1]"
            )
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


def fresh_network(recipe: ClassifierRecipe, device: torch.device) -> SmallResNet:
    """Before training; the recipe's seed fixes its parameters."""
    network = build_classifier(
        recipe.network,
        SHAPES[recipe.family][0],
        CLASSES,
        derive("classifier", recipe.family, recipe.seed),
    )
    # convolutions with few channels are a fifth faster in this layout
    return network.to(device, memory_format=torch.channels_last)


def read_classifier(artefact: Artefact, recipe: ClassifierRecipe) -> Classifier:
    """An artefact's classifier, on the CPU, with every byte checked."""
    parameters = artefact.tensors("classifier.safetensors")
    network = fresh_network(recipe, torch.device("cpu"))
    try:
        network.load_state_dict(
            {
                name: value.float() if value.is_floating_point() else value
                for name, value in parameters.items()
            }
        )
    except RuntimeError:
        raise ArtefactError(
            f"{artefact.path} does not hold the parameters of the {recipe.label} classifier; "
            "delete it to train again"
        ) from None
    return Classifier(recipe, network, artefact, identity_of([parameters]))


def find_classifier(
    family: str | ClassifierRecipe, scale: str = "laptop", here: Here | None = None
) -> Classifier | None:
    """A family's classifier if it is published or in the cache, else None."""
    recipe, store = recipe_of(family, scale), (here or Here()).store
    artefact = store.find(KIND, recipe.label, recipe.spec)
    return None if artefact is None else read_classifier(artefact, recipe)


def classifier_metric(classifier: Classifier) -> FeatureMetric:
    """A visual metric "trained here": the Euclidean distance between the classifier's features.

    Not one of the paper's five (B.6). It sees what tells the classes of its family apart,
    and takes images of that family's shape only.
    """
    return FeatureMetric(
        "classifier",
        f"{classifier.recipe.family} classifier (trained here)",
        classifier.network,
        classifier.check,
        l2_distance,
        _features,
        classifier.device,
        batch=256,
    )


def _features(network: SmallResNet, images: torch.Tensor) -> torch.Tensor:
    return network.features(images)


def family_metrics(family: str, scale: str = "laptop", here: Here | None = None) -> list[Metric]:
    """The metrics that work on this machine as it is for images of a family, on ``here.device``.

    Those at hand, then its classifier's, if there is one.
    """
    here = here or Here()
    metrics = [get_metric(name, here.device) for name in metrics_at_hand()]
    known = family in CLASSIFIER_FAMILIES
    classifier = find_classifier(family, scale, here) if known else None
    return metrics + ([classifier_metric(classifier.to(here.device))] if classifier else [])


def classifier_table(here: Here | None = None) -> "pd.DataFrame":
    """The classifiers at hand, a row each, beside the paper's (B.5).

    Columns family, scale, training_images, accuracy and its validation_images,
    adversarial_accuracy and its attacked_images, radius of the attack, paper_accuracy,
    paper_adversarial_accuracy (NaN for the digits).
    """
    import pandas as pd

    paper = pd.read_csv(PAPER / "classifier.csv").set_index("family").add_prefix("paper_")
    keys = [
        "training_images",
        "accuracy",
        "validation_images",
        "adversarial_accuracy",
        "attacked_images",
    ]
    rows = []
    for family in CLASSIFIER_FAMILIES:
        for scale in SCALES:
            classifier = find_classifier(family, scale, here)
            if classifier is not None:
                numbers = {key: classifier.info[key] for key in keys}
                radius = classifier.recipe.judge.radius
                rows.append({"family": family, "scale": scale, **numbers, "radius": radius})
    columns = ["family", "scale", *keys, "radius"]
    return pd.DataFrame(rows, columns=columns).join(paper, on="family")
