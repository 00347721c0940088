"""How often each class is generated, with every class and without each (3.2, figure 3)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue, positive_int, unknown
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact, Workspace
from abc_lib.ground.tasks import job_count, run_blocks
from abc_lib.method.diffusion import ExogenousNoise
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.recipe import Recipe
from abc_lib.results.kind import Kind, computed, name_and_scale
from abc_lib.training.budget import block_size
from abc_lib.training.classifier.train import get_classifier
from abc_lib.training.classifier.values import Classifier
from abc_lib.training.ensembles import get_ensemble
from abc_lib.training.retrained import Retrained, get_retrained
from abc_lib.training.together import FULL

__all__ = [
    "KIND",
    "METHODS",
    "REMOVAL",
    "SAMPLES",
    "ClassCounts",
    "class_names",
    "class_table",
    "compute",
    "get",
    "origin",
    "publish",
    "read",
    "standard_errors",
    "stored",
]

METHODS = ("ablation", "retraining")
SAMPLES = 5100
"""how many samples the paper classified"""
SHOWN = 10
"""how many samples are kept as images"""
REMOVAL = "removed"
"""How retraining leaves a class out: its images are taken out of the training set (3.2). Black ones
in their place, as for single images, would be a tenth of it, and come up in the samples.
"""

# Samples that a task takes through all the ensembles or models at once.
_BLOCK = 1024


@dataclass(frozen=True)
class ClassCounts:
    """What a classifier sees in samples that were made with all classes and without each.

    ``counts`` (1 + K, classes): row 0 with all classes as data sources, row 1 + k without
    ``removed[k]``; every row adds up to ``samples``, drawn from the same exogenous noise.
    ``images`` (1 + K, 10, C, H, W) in [0, 1] are the first ten samples of each row.
    """

    name: str
    scale: str
    method: str
    removed: np.ndarray
    counts: np.ndarray
    images: torch.Tensor
    artefact: Artefact

    @property
    def samples(self) -> int:
        """How many samples each row classifies."""
        return int(self.counts[0].sum())

    @property
    def frequencies(self) -> np.ndarray:
        """``counts`` as shares of the samples."""
        return self.counts / self.samples

    @property
    def before(self) -> np.ndarray:
        """The frequency of each removed class where nothing is removed, (K,): figure 3's black
        bars.
        """
        return self.frequencies[0, self.removed]

    @property
    def after(self) -> np.ndarray:
        """The frequency of each removed class where it is removed, (K,): figure 3's red bars."""
        return self.frequencies[1 + np.arange(len(self.removed)), self.removed]

    def change(self) -> np.ndarray:
        """How much removing each class (rows, K) changed the frequency of every class (columns)."""
        return self.frequencies[1:] - self.frequencies[:1]


def standard_errors(frequencies: np.ndarray, samples: int) -> np.ndarray:
    """Of frequencies counted in so many samples: the binomial sqrt(p (1 - p) / samples)."""
    return np.sqrt(frequencies * (1 - frequencies) / samples)


def _all_images(
    model: Ensemble | Retrained, noise: ExogenousNoise, sources: list[int], memory: int
) -> torch.Tensor:
    """Samples with all sources and without each, (1 + K, S, C, H, W)."""
    if isinstance(model, Retrained):
        return model.sample(noise, [FULL, *sources], memory)
    S, n = len(noise), model.n
    weights = np.concatenate([np.ones((S, n)), model.codebook.leave_one_out(np.repeat(sources, S))])
    owner = torch.arange(S).repeat(1 + len(sources))
    size = block_size(model, memory, 1)
    images = [
        model.sample(noise, weights[start : start + size], owner[start : start + size])
        for start in range(0, len(owner), size)
    ]
    return torch.cat(images).unflatten(0, (1 + len(sources), S))


def _block_task(
    model,
    classifier: Classifier,
    noise: ExogenousNoise,
    sources: list[int],
    keep: int,
    memory: int,
    workspace: Workspace,
    name: str,
) -> int:
    images = _all_images(model, noise, sources, memory)
    classes = classifier.classify(images.flatten(0, 1)).unflatten(0, images.shape[:2])
    counts = torch.stack([torch.bincount(row, minlength=10) for row in classes])
    workspace.save(name, {"counts": counts, "images": images[:, :keep].clone()})
    return len(noise)


def _require_classes(recipe: Recipe) -> None:
    if recipe.data.sources != "class":
        raise BadValue(
            f"the data sources of {recipe.name} are not classes; choose digits_classes, "
            "mnist_classes or fashion_classes"
        )


def _method(model: Ensemble | Retrained) -> str:
    return METHODS[isinstance(model, Retrained)]


def _sources(model: Ensemble | Retrained) -> list[int]:
    return (
        model.sources.tolist()
        if isinstance(model, Retrained)
        else list(range(model.codebook.num_sources))
    )


class _ClassCounts(Kind[ClassCounts]):
    folder, title = "class-counts", "Class counts"

    def build(self, model, spec, workspace, here, classifier=None):
        """Samples in blocks, through all ensembles or models at once, classified."""
        samples, jobs = spec["samples"], job_count(here.jobs, model.device)
        sources, method = _sources(model), spec["method"]
        blocks = {
            f"block-{_BLOCK}-{start:06d}": range(start, min(start + _BLOCK, samples))
            for start in range(0, samples, _BLOCK)
        }

        def task(block: range) -> tuple:
            noise = model.draw_noise(spec["seed"], block)
            keep = max(0, min(SHOWN - block.start, len(block)))
            return model, classifier, noise, sources, keep, here.memory // jobs

        pieces = run_blocks(
            _block_task,
            {name: lambda block=block: task(block) for name, block in blocks.items()},
            workspace,
            model.device,
            here,
            f"classes of {model.recipe.label} by {method}",
            unit="sample",
            sizes={name: len(block) for name, block in blocks.items()},
        )
        files = {
            "counts.safetensors": {
                "counts": torch.stack([piece["counts"] for piece in pieces]).sum(0),
                "removed": torch.tensor(sources),
                # only looked at: half precision is finer than a screen
                "images": torch.cat([piece["images"] for piece in pieces], dim=1).half(),
            }
        }
        info = {
            "recipe": digest(model.recipe.codeless_spec),
            "training_seed": model.recipe.training.seed,
            "classifier": classifier.recipe.label,
            "accuracy": classifier.info["accuracy"],
            "validation_images": classifier.info["validation_images"],
        }
        if isinstance(model, Retrained):
            info["removed"] = model.removed
        return files, info

    def read(self, artefact: Artefact) -> ClassCounts:
        """An artefact's counts, with every byte checked."""
        tensors = artefact.tensors("counts.safetensors")
        return ClassCounts(
            *name_and_scale(artefact),
            artefact.spec["method"],
            tensors["removed"].numpy(),
            tensors["counts"].numpy(),
            tensors["images"].float(),
            artefact,
        )

    def belongs(self, artefact: Artefact, recipe: Recipe) -> bool:
        """Of this recipe whatever its code; retrained models left their class out as we do."""
        same = artefact.info["recipe"] == digest(recipe.codeless_spec)
        return same and artefact.info.get("removed", REMOVAL) == REMOVAL

    def size(self, artefact: Artefact) -> int:
        """How many samples were classified."""
        return artefact.spec["samples"]


KIND = _ClassCounts()


def compute(
    model: Ensemble | Retrained,
    classifier: Classifier,
    samples: int = SAMPLES,
    seed: int = 0,
    here: Here | None = None,
) -> Artefact:
    """Samples 0 .. ``samples`` - 1 with all classes and without each, classified (3.2).

    ``model`` is an ensemble whose data sources are classes, or the retrained models of its
    recipe; the same seed names the same exogenous noise for both. A stopped run goes on
    where it was; ``here.memory`` bounds activations and states of all jobs together. Raises
    :class:`BadValue` for a model whose sources are not classes, for fewer than one sample,
    and for a classifier of other images.
    """
    recipe = model.recipe
    _require_classes(recipe)
    positive_int("samples", samples)
    if classifier.recipe.family != recipe.data.family:
        raise BadValue(
            f"the classifier is of {classifier.recipe.family}, the samples are of "
            f"{recipe.data.family}; use get_classifier('{recipe.data.family}')"
        )
    spec = {
        "recipe": recipe.label,
        "method": _method(model),
        "model": model.identity,
        "sampling": spec_of(recipe.sampling),
        "seed": seed,
        "samples": samples,
        "classifier": classifier.identity,
    }
    return KIND.compute(model, spec, here or Here(), classifier=classifier)


def stored(
    recipe: Recipe, method: str, seed: int = 0, here: Here | None = None
) -> ClassCounts | None:
    """The counts of a recipe by ``"ablation"`` or ``"retraining"`` that are at hand, or None.

    Of retrained models only those count that left their class out as :data:`REMOVAL` says. If
    there are several counts, those of most samples.
    """
    _require_classes(recipe)
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    return KIND.stored(recipe, here or Here(), method=method, seed=seed)


def get(
    recipe: Recipe,
    samples: int | None = None,
    seed: int = 0,
    compute_missing: bool = True,
    here: Here | None = None,
) -> list[ClassCounts] | None:
    """How often each class is generated with and without it, by ablation and by retraining.

    ``recipe`` is of an ensemble whose data sources are classes. Counts at hand are used; what
    is missing is computed, models trained first, unless ``compute_missing`` is False: then None
    is returned. ``samples=None`` takes those that are there, or the paper's 5,100 (figure 3).
    """
    here, counts = here or Here(), []
    for method in METHODS:
        known = stored(recipe, method, seed, here)
        if known is None or (samples is not None and known.samples != samples):
            if not compute_missing:
                return None
            classifier = get_classifier(recipe.data.family, recipe.scale, here)
            model = _models(recipe, method, here)
            known = read(compute(model, classifier, samples or SAMPLES, seed, here))
        counts.append(known)
    return counts


def _models(recipe: Recipe, method: str, here: Here) -> Ensemble | Retrained:
    if method == "ablation":
        return get_ensemble(recipe, here)
    return get_retrained(recipe, removed=REMOVAL, here=here)


def read(artefact: Artefact) -> ClassCounts:
    """An artefact's counts, with every byte checked."""
    return KIND.read(artefact)


def publish(
    recipe: Recipe, samples: int, seed: int = 0, here: Here | None = None
) -> list[Artefact]:
    """Publishes how often each class is generated with and without it, by both methods."""
    here = here or Here()
    classifier = get_classifier(recipe.data.family, recipe.scale, here)
    models = [_models(recipe, method, here) for method in METHODS]
    return KIND.publish([compute(model, classifier, samples, seed, here) for model in models], here)


def origin(counts: list[ClassCounts]) -> str:
    """Where the class counts come from, in a sentence."""
    parts = []
    for each in counts:
        what = "weightings of the ensemble" if each.method == "ablation" else "models"
        parts.append(
            f"by {each.method} {each.samples:,} samples for each of {len(each.counts)} {what}, "
            f"{computed(each.artefact)}"
        )
    info = counts[0].artefact.info
    return (
        f"**{counts[0].name}**, scale *{counts[0].scale}*: {'; '.join(parts)}. Classes by the "
        f"{info['classifier']} classifier, {info['accuracy']:.1%} right on "
        f"{info['validation_images']:,} images that did not train it."
    )


def class_names(family: str) -> list[str]:
    """What the ten classes of a family are called."""
    if family == "fashion":
        return [
            "T-shirt",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ]
    return [str(digit) for digit in range(10)]


def class_table(counts: Iterable[ClassCounts], names: list[str]) -> list[dict]:
    """A row a class: its frequency with and without it by each method, as text with the standard
    error in points of percent.
    """
    counts = list(counts)
    rows = []
    for k, name in enumerate(names):
        row = {"class": name}
        for each in counts:
            for what, value in (
                (f"{each.method}, all", each.before[k]),
                (f"{each.method}, without it", each.after[k]),
            ):
                row[what] = f"{value:.1%} ± {100 * standard_errors(value, each.samples):.1f}"
        rows.append(row)
    return rows
