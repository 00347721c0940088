"""How good an ensemble's samples are: FIDs of ensembles, single models and single members (3.1, C.1).

10,240 samples are drawn in blocks, of which only the features are kept until the distance
is worked out. The features are Inception's where its weights are on this machine, else
those of the family's classifier; a number says which.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from abc_lib.ground.devices import resolve_device
from abc_lib.ground.digests import spec_of
from abc_lib.ground.errors import BadValue, NotAvailable, positive_int, unknown
from abc_lib.ground.paper import paper_fids
from abc_lib.ground.seeds import generator
from abc_lib.ground.store import Artefact, Store, Workspace, stopwatch
from abc_lib.ground.tasks import run_blocks
from abc_lib.images.registry import get_recipe
from abc_lib.images.training_set import SPLITS, load_split
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.recipe import Data
from abc_lib.metrics.frechet import (
    FID,
    FidFeatures,
    Gaussian,
    feature_statistics,
    fid,
    inception_at_hand,
    inception_features,
)
from abc_lib.training.classifier.recipe import CLASSIFIER_FAMILIES
from abc_lib.training.classifier.values import Classifier, find_classifier
from abc_lib.training.members import get_ensemble, single_model

COUNT = 10_240
"""samples of the paper's FIDs"""
REFERENCES = {
    "digits": "held out",
    "mnist": "train",
    "fashion": "train",
    "cifar10": "test",
    "cifar100": "test",
}
"""the split of each family that its samples are compared with (C.1): for most ensembles, images that they were not trained on"""
KINDS = ("ensemble", "single", "member")
_KIND, _REFERENCE_KIND = "fid", "fid-reference"
# Samples in a block. Part of how a sample comes out, to the last bit, so it does not follow the machine.
_BLOCK = 256
_REFERENCE_BLOCK = 1024
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


def fid_features(
    family: str, store: Store | None = None, device: str | torch.device = "cpu"
) -> FidFeatures:
    """The features that FIDs of a family are worked out on here: Inception's if its weights are at hand, else its classifier's.

    Raises :class:`NotAvailable` where there is neither.
    """
    if inception_at_hand():
        return inception_features(device)
    classifier = find_classifier(family, store=store) if family in CLASSIFIER_FAMILIES else None
    if classifier is None:
        raise NotAvailable(
            f"FIDs of {family} need Inception's weights, which are not on this machine: call abc_lib.metrics.fid.inception_features() "
            "to download them"
            + (
                f", or train the classifier, get_classifier('{family}')"
                if family in CLASSIFIER_FAMILIES
                else ""
            )
        )
    return classifier_features(classifier.to(resolve_device(str(device))))


def member_weights(
    n: int, which: str, removed: int = 0, member: int = 0, label: str = ""
) -> np.ndarray:
    """The weights c (n,), float64, that sample from an ensemble without ``removed`` members, or from one ``member`` alone.

    Which members go is drawn once for a ``label``; those removed first stay removed, so
    that a series of ensembles without 0, 1, 2, ... members is nested.
    """
    if which not in KINDS:
        raise unknown("kind of model", which, KINDS)
    if which == "ensemble":
        if not 0 <= removed < n:
            raise BadValue(
                f"{removed} of {n} members cannot be removed; at least one must stay, so remove 0 to {n - 1}"
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
    first: int,
    last: int,
    c: np.ndarray,
    workspace: Workspace,
    name: str,
) -> int:
    images = ensemble.sample(ensemble.draw_noise(seed, range(first, last)), c)
    piece = {"features": features(images)}
    if first == 0:
        piece["images"] = (images[:_SHOWN] * 255).round().to(torch.uint8).contiguous()
    workspace.save(name, piece)
    return last - first


def reference_statistics(
    family: str,
    features: FidFeatures,
    store: Store | None = None,
    binarise: bool = False,
    recompute: bool = False,
    n_jobs: int | None = None,
    progress: bool = True,
) -> tuple[Gaussian, str]:
    """The statistics of ``features`` of a family's reference split (C.1), and where its images come from.

    Kept as an artefact, because MNIST's 60,000 images take Inception hours on a CPU.
    ``binarise`` as the recipes do. A stopped run goes on where it was.
    """
    if family not in REFERENCES:
        raise unknown("family with a reference", family, REFERENCES)
    store = store or Store()
    store = Store(store.cache, None) if recompute else store
    images, _, origin = load_split(family, REFERENCES[family])
    label = f"{family}-{features.name.replace(' ', '_')}"
    spec = {
        "family": family,
        "origin": origin,
        "binarise": binarise,
        "features": features.name,
        "identity": features.identity,
    }

    def make(workspace: Workspace) -> Artefact:
        seconds = stopwatch()
        tasks = {
            f"block-{k:06d}": (features, each)
            for k, each in enumerate(_in_range(images, binarise).split(_REFERENCE_BLOCK))
        }
        run_blocks(
            _feature_task,
            tasks,
            workspace,
            features.device,
            f"{features.name} on {family}",
            n_jobs,
            progress,
        )
        g = feature_statistics(
            (workspace.load(name)["features"] for name in tasks), features.name, features.identity
        )
        info = {"count": g.count, "seconds": round(seconds(), 1)}
        files = {"statistics.safetensors": {"total": g.total, "products": g.products}}
        return store.write(_REFERENCE_KIND, label, spec, files, info, features.device)

    found = store.once(_REFERENCE_KIND, label, spec, make)
    sums = found.tensors("statistics.safetensors")
    return Gaussian(
        found.info["count"], sums["total"], sums["products"], features.name, features.identity
    ), origin


def compute_fid(
    ensemble: Ensemble,
    which: str = "ensemble",
    count: int = COUNT,
    removed: int = 0,
    member: int = 0,
    features: FidFeatures | None = None,
    seed: int = 0,
    store: Store | None = None,
    recompute: bool = False,
    n_jobs: int | None = None,
    progress: bool = True,
) -> SampleFID:
    """The FID of ``count`` samples of an ensemble, of its single-model control or of one of its members (C.1).

    ``which``, ``removed`` and ``member`` as in :class:`SampleFID`; all of them draw the
    samples with the same numbers of the same ``seed``. ``features`` default to
    :func:`fid_features`. For ``single``, the control is trained if it is not at hand. What
    is published or in the cache is read (``recompute`` passes over what is published); a
    stopped run goes on where it was.
    """
    store, recipe = store or Store(), ensemble.recipe
    positive_int("count", count)
    if count < 2:
        raise BadValue(
            "one sample has no covariance; a FID needs at least two, and thousands to mean much"
        )
    c = member_weights(ensemble.n, which, removed, member, recipe.label)
    data, device = recipe.data, ensemble.device
    if data.family not in REFERENCES:
        raise unknown("family with a reference", data.family, REFERENCES)
    model = (
        single_model(recipe, store, str(device), recompute, progress)
        if which == "single"
        else ensemble
    )
    features = features or fid_features(data.family, store, device)
    if recompute:
        store = Store(store.cache, None)
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
        "reference": REFERENCES[data.family],
    }

    def make(workspace: Workspace) -> Artefact:
        seconds = stopwatch()
        reference, origin = reference_statistics(
            data.family, features, store, data.binarise, recompute, n_jobs, progress
        )
        starts = range(0, count, _BLOCK)
        tasks = {
            f"block-{start:06d}": (model, features, seed, start, min(start + _BLOCK, count), c)
            for start in starts
        }
        run_blocks(
            _sample_task,
            tasks,
            workspace,
            device,
            f"samples of {recipe.label} ({which})",
            n_jobs,
            progress,
        )
        samples = feature_statistics(
            (workspace.load(name)["features"] for name in tasks), features.name, features.identity
        )
        result = fid(samples, reference, features)
        info = {
            "fid": result.value,
            "reference_count": result.reference_count,
            "reference": origin,
            "removed": removed,
            "member": member,
            "reference_was_trained_on": REFERENCES[data.family] == data.split,
            "seconds": round(seconds(), 1),
        }
        images = workspace.load("block-000000")["images"]
        return store.write(
            _KIND, recipe.label, spec, {"images.safetensors": {"images": images}}, info, device
        )

    return read_fid(store.once(_KIND, recipe.label, spec, make))


def read_fid(artefact: Artefact) -> SampleFID:
    """An artefact's FID, with every byte checked."""
    spec, info = artefact.spec, artefact.info
    name, _, scale = spec["recipe"].rpartition("-")
    return SampleFID(
        name,
        scale,
        spec["which"],
        info["removed"],
        info["member"],
        FID(info["fid"], spec["features"], spec["count"], info["reference_count"]),
        info["reference"],
        artefact.tensors("images.safetensors")["images"].float() / 255,
        artefact,
    )


def get_fid(
    name: str,
    which: str = "ensemble",
    scale: str = "laptop",
    count: int = COUNT,
    removed: int = 0,
    member: int = 0,
    features: FidFeatures | None = None,
    seed: int = 0,
    store: Store | None = None,
    device: str = "auto",
    recompute: bool = False,
    n_jobs: int | None = None,
    progress: bool = True,
) -> SampleFID:
    """The FID of a named ensemble's samples: published, else from the cache, else computed now; arguments as :func:`compute_fid`."""
    store = store or Store()
    ensemble = get_ensemble(get_recipe(name, scale), store, device, recompute, n_jobs, progress)
    return compute_fid(
        ensemble, which, count, removed, member, features, seed, store, recompute, n_jobs, progress
    )


def removal_fids(ensemble: Ensemble, removed: Iterable[int], **options) -> list[SampleFID]:
    """FIDs of the ensemble without so many members each, in a nested series; ``options`` as :func:`compute_fid`."""
    return [compute_fid(ensemble, "ensemble", removed=int(k), **options) for k in removed]


def stored_fids(name: str, scale: str = "laptop", store: Store | None = None) -> list[SampleFID]:
    """Every FID of a named ensemble that is published or in the cache, published ones first."""
    return [
        read_fid(artefact)
        for artefact in (store or Store()).find_all(_KIND, get_recipe(name, scale).label)
    ]


def unseen_images(data: Data, count: int, seed: int = 0) -> tuple[torch.Tensor, str]:
    """Up to ``count`` real images of a split that an ensemble with this ``data`` was not trained on, drawn with ``seed``.

    Returns images (K, C, H, W) in [0, 1], binarised if the ensemble's are, and where they come from. Raises
    :class:`BadValue` for a family of which every image trains.
    """
    others = [split for split in SPLITS[data.family] if split != data.split]
    if not others:
        raise BadValue(
            f"all images of {data.family} are in one split; there are none that its ensembles do not see"
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


def fid_table(found: Iterable[SampleFID]) -> pd.DataFrame:
    """FIDs side by side: a row for each ensemble, number of samples and kind of features, the paper's numbers (table 3) where it has them.

    Columns name, images (of the training set), samples, features, fid_ensemble, fid_single, fid_member, and the
    same with ``paper_`` for ``fid_``. Ensembles with members removed are left out. NaN where there is no number.
    """
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
    paper = _paper_by_kind()
    table = pd.DataFrame(
        [
            {"name": name, "images": size, "samples": count, "features": features}
            | values
            | (
                {f"paper_{which}": paper.loc[name, which] for which in KINDS}
                if name in paper.index
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


def _paper_by_kind() -> pd.DataFrame:
    return paper_fids().set_index("ensemble").set_axis(list(KINDS), axis="columns")


def paper_fid_curve(family: str) -> pd.DataFrame:
    """The paper's FIDs of a family's ensembles by training set size (figure 2, right): columns images, ensemble, single, member."""
    table = _paper_by_kind()
    table = table[table.index.str.fullmatch(rf"{family}_\d+")]
    table.insert(0, "images", [get_recipe(name, "paper").data.size for name in table.index])
    return table.sort_values("images").reset_index(drop=True)
