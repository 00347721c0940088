"""How often each class is generated, with every class and without each: by ablation and by retraining (3.2, figure 3)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from abc_lib.ground.devices import parse_bytes
from abc_lib.ground.digests import digest, spec_of
from abc_lib.ground.errors import BadValue, positive_int, unknown
from abc_lib.ground.store import Artefact, Store, Workspace, stopwatch
from abc_lib.ground.tasks import Counter, job_count, run_tasks
from abc_lib.method.diffusion import ExogenousNoise
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.recipe import Recipe
from abc_lib.results.budget import block_size
from abc_lib.training.classifier.values import Classifier
from abc_lib.training.retrained import Retrained
from abc_lib.training.together import FULL

METHODS = ("ablation", "retraining")
SAMPLES = 5100
"""how many samples the paper classified"""
SHOWN = 10
"""how many samples are kept as images"""
REMOVAL = "removed"
"""How retraining leaves a class out: its images are taken out of the training set (3.2). Black ones in
their place, as for single images, would be a tenth of it, and come up in the samples."""

_KIND = "class-counts"
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
        """The frequency of each removed class where nothing is removed, (K,): figure 3's black bars."""
        return self.frequencies[0, self.removed]

    @property
    def after(self) -> np.ndarray:
        """The frequency of each removed class where it is removed, (K,): figure 3's red bars."""
        return self.frequencies[1 + np.arange(len(self.removed)), self.removed]

    def change(self) -> np.ndarray:
        """How much removing each class (rows, K) changed the frequency of every class (columns)."""
        return self.frequencies[1:] - self.frequencies[:1]


def standard_errors(frequencies: np.ndarray, samples: int) -> np.ndarray:
    """Of frequencies that were counted in so many samples: the binomial sqrt(p (1 - p) / samples)."""
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


def compute_class_counts(
    model: Ensemble | Retrained,
    classifier: Classifier,
    samples: int = SAMPLES,
    seed: int = 0,
    store: Store | None = None,
    memory: int | str = "2GiB",
    n_jobs: int | None = None,
    progress: bool = True,
) -> Artefact:
    """Samples 0 .. ``samples`` - 1 under ``seed`` with all classes and without each, classified (3.2).

    ``model`` is an ensemble whose data sources are classes, or the retrained models of its
    recipe; the same seed names the same exogenous noise for both. A stopped run goes on
    where it was; ``memory`` bounds activations and states of all jobs together. Raises
    :class:`BadValue` for a model whose sources are not classes, for fewer than one sample,
    and for a classifier of other images.
    """
    recipe = model.recipe
    _require_classes(recipe)
    positive_int("samples", samples)
    if classifier.recipe.family != recipe.data.family:
        raise BadValue(
            f"the classifier is of {classifier.recipe.family}, the samples are of {recipe.data.family}; "
            f"use get_classifier('{recipe.data.family}')"
        )
    store, jobs = store or Store(), job_count(n_jobs, model.device)
    sources = _sources(model)
    spec = {
        "recipe": recipe.label,
        "method": _method(model),
        "model": model.identity,
        "sampling": spec_of(recipe.sampling),
        "seed": seed,
        "samples": samples,
        "classifier": classifier.identity,
    }

    def make(workspace: Workspace) -> Artefact:
        seconds, blocks = (
            stopwatch(),
            [range(start, min(start + _BLOCK, samples)) for start in range(0, samples, _BLOCK)],
        )
        names = [f"block-{_BLOCK}-{block.start:06d}" for block in blocks]
        todo = [(block, name) for block, name in zip(blocks, names) if not workspace.has(name)]
        arguments = (
            (
                model,
                classifier,
                model.draw_noise(seed, block),
                sources,
                max(0, min(SHOWN - block.start, len(block))),
                parse_bytes(memory) // jobs,
                workspace,
                name,
            )
            for block, name in todo
        )
        counter = Counter(samples - sum(len(block) for block, _ in todo))
        for count in (
            run_tasks(
                _block_task,
                arguments,
                len(todo),
                device=model.device,
                total=samples,
                n_jobs=n_jobs,
                description=f"classes of {recipe.label} by {_method(model)}",
                unit="sample",
                poll=counter,
                progress=progress,
            )
            if todo
            else ()
        ):
            counter.done += count
        pieces = [workspace.load(name) for name in names]
        files = {
            "counts.safetensors": {
                "counts": torch.stack([piece["counts"] for piece in pieces]).sum(0),
                "removed": torch.tensor(sources),
                # only looked at: half precision is finer than a screen
                "images": torch.cat([piece["images"] for piece in pieces], dim=1).half(),
            }
        }
        info = {
            "seconds": round(seconds(), 1),
            "recipe": digest(recipe.codeless_spec),
            "training_seed": recipe.training.seed,
            "classifier": classifier.recipe.label,
            "accuracy": classifier.info["accuracy"],
            "validation_images": classifier.info["validation_images"],
        }
        if isinstance(model, Retrained):
            info["removed"] = model.removed
        return store.write(_KIND, recipe.label, spec, files, info, model.device)

    return store.once(_KIND, recipe.label, spec, make)


def _require_classes(recipe: Recipe) -> None:
    if recipe.data.sources != "class":
        raise BadValue(
            f"the data sources of {recipe.name} are not classes; choose digits_classes, mnist_classes or fashion_classes"
        )


def _method(model: Ensemble | Retrained) -> str:
    return METHODS[isinstance(model, Retrained)]


def _sources(model: Ensemble | Retrained) -> list[int]:
    return (
        model.sources.tolist()
        if isinstance(model, Retrained)
        else list(range(model.codebook.num_sources))
    )


def read_class_counts(artefact: Artefact) -> ClassCounts:
    """An artefact's counts, with every byte checked."""
    found = artefact.tensors("counts.safetensors")
    name, _, scale = artefact.spec["recipe"].rpartition("-")
    return ClassCounts(
        name,
        scale,
        artefact.spec["method"],
        found["removed"].numpy(),
        found["counts"].numpy(),
        found["images"].float(),
        artefact,
    )


def find_class_counts(
    recipe: Recipe, method: str, seed: int = 0, store: Store | None = None
) -> ClassCounts | None:
    """The counts of a recipe by ``"ablation"`` or ``"retraining"`` that are published or in the cache, without its models; or None.

    Of retrained models only those count that left their class out as :data:`REMOVAL` says. If
    there are several counts, those of most samples.
    """
    _require_classes(recipe)
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    store, sampling, model = (
        store or Store(),
        spec_of(recipe.sampling),
        digest(recipe.codeless_spec),
    )
    found = [
        a
        for a in store.find_all(_KIND, recipe.label)
        if a.spec["method"] == method
        and a.spec["seed"] == seed
        and a.spec["sampling"] == sampling
        and a.info["recipe"] == model
        and a.info.get("removed", REMOVAL) == REMOVAL
    ]
    most = max(found, key=lambda a: a.spec["samples"], default=None)
    return most and read_class_counts(most)


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
    """A row a class: its frequency with and without it by each method, as text with the standard error in points of percent."""
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
