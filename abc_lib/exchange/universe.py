"""Counterfactual universes: the authors' earlier format, a tar named ``.ctf``.

``config.json`` has the keys ``Format``, ``TrainingUnits`` (N), ``NumberGenerated`` (G),
``TrainHeight``, ``TrainWidth``, ``TrainChannel``, ``GenHeight``, ``GenWidth`` and
``GenChannel``. ``factual.png`` is a mosaic of the G samples, ``leave_<i>_out.png`` of their
counterfactuals without source i. With the format ``ONEFILE``, ``training_set.png``
is a mosaic of the N training images, one a source; otherwise each source has a file
``train_<i>_<count>.png`` of its ``count`` training images.

PNG has 8 bits: a landscape's float32 images are rounded to the nearest of 256 levels,
and distances measured on them are those of the rounded images. What is written reads
back equal, bit for bit.
"""

import json
import math
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from abc_lib.exchange.archive import Archive, add_member, open_archive
from abc_lib.exchange.guards import decoding, refused, sound_json
from abc_lib.exchange.mosaic import decode_mosaic, encode_mosaic, largest_png, to_bytes
from abc_lib.exchange.schema import misfit, number, object_of, one_of, text
from abc_lib.ground.devices import parse_bytes
from abc_lib.ground.errors import BadValue
from abc_lib.ground.files import atomic_file
from abc_lib.ground.here import Here
from abc_lib.images.training_set import TrainingSet, training_set
from abc_lib.method.distance import distance
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.landscape import Landscapes
from abc_lib.results.landscapes import compute as compute_landscapes
from abc_lib.results.landscapes import read as read_landscapes
from abc_lib.results.landscapes import read_all_images

ONEFILE = "ONEFILE"
_UNITS = number("integer", 1, 65_536)
_SIDE = number("integer", 1, 4096)
_CHANNELS = one_of(1, 3)
_CONFIG = object_of(
    Format=text(r"[^\n]{1,64}", f"a short text such as {ONEFILE}"),
    TrainingUnits=_UNITS,
    NumberGenerated=_UNITS,
    TrainHeight=_SIDE,
    TrainWidth=_SIDE,
    TrainChannel=_CHANNELS,
    GenHeight=_SIDE,
    GenWidth=_SIDE,
    GenChannel=_CHANNELS,
)


@dataclass(frozen=True, eq=False)
class Universe:
    """G samples, all their counterfactuals and the training set, in 8 bits.

    ``factual`` (G, C, H, W); ``counterfactuals`` (N, G, C, H, W), entry i without source
    i; ``training`` (K, C', H', W') the training images, source after source, and
    ``training_sources`` (K,) int64 who owns each. All images are uint8. Raises
    :class:`BadValue` for anything else.
    """

    factual: torch.Tensor
    counterfactuals: torch.Tensor
    training: torch.Tensor
    training_sources: torch.Tensor

    def __post_init__(self):
        images = (self.factual, self.counterfactuals, self.training)
        if [x.ndim for x in images] != [4, 5, 4] or any(
            x.dtype != torch.uint8 or x.numel() == 0 for x in images
        ):
            raise BadValue(
                "a universe has uint8 images: factual (G, C, H, W), counterfactuals "
                "(N, G, C, H, W), training (K, C, H, W)"
            )
        if self.counterfactuals.shape[1:] != self.factual.shape:
            raise BadValue(
                f"counterfactuals {tuple(self.counterfactuals.shape)} do not fit samples "
                f"{tuple(self.factual.shape)}"
            )
        if self.factual.shape[1] not in (1, 3) or self.training.shape[1] not in (1, 3):
            raise BadValue("images of a universe have 1 channel (grey) or 3 (colour)")
        owners = self.training_sources
        if owners.dtype != torch.int64 or owners.shape != self.training.shape[:1]:
            raise BadValue("training_sources must be int64, one number a training image")
        if not torch.equal(torch.unique_consecutive(owners), torch.arange(self.num_sources)):
            raise BadValue(
                "training images must lie source after source, with at least one of each of the "
                f"{self.num_sources}"
            )

    @property
    def num_sources(self) -> int:
        """N"""
        return len(self.counterfactuals)

    @property
    def distances(self) -> np.ndarray:
        """Euclidean distances of the rounded images, (G, N) float64; see :func:`abc.distance`."""
        factual = self.factual.float() / 255
        return np.stack([distance(x.float() / 255, factual) for x in self.counterfactuals], axis=1)


def make_universe(
    ensemble: Ensemble,
    landscapes: Landscapes,
    rows: Iterable[int] | None = None,
    images: TrainingSet | None = None,
    here: Here | None = None,
) -> Universe:
    """The universe of some samples of a landscape (default: all), rounded to 8 bits.

    Counterfactuals are read where all of a sample's were kept, and otherwise computed as
    ``landscapes.compute`` does, which can be stopped and goes on. ``images`` is by
    default the recipe's training set. Raises :class:`BadValue` where the landscape is
    another ensemble's.
    """
    rows = list(range(len(landscapes)) if rows is None else rows)
    if not rows or not all(-len(landscapes) <= row < len(landscapes) for row in rows):
        raise BadValue(f"rows must name some of the {len(landscapes)} samples, from 0 on")
    if landscapes.num_sources != ensemble.codebook.num_sources or any(
        artefact.spec["ensemble"] != ensemble.identity for artefact in landscapes.artefacts
    ):
        raise BadValue(
            f"the landscapes of {landscapes.name} are not those of this ensemble; compute them "
            "with landscapes.compute"
        )
    images = training_set(ensemble.recipe.data) if images is None else images
    indices = [int(landscapes.indices[row]) for row in rows]
    whole = {i: a for a in landscapes.artefacts if a.spec["everything"] for i in a.spec["indices"]}
    missing = sorted(set(indices) - set(whole))
    if missing:
        made = compute_landscapes(
            ensemble,
            missing,
            landscapes.seed,
            1,
            all_images=True,
            tangent_steps=landscapes.tangent_steps,
            here=here,
        )
        whole |= {i: made for i in missing}
    factual, counterfactuals = [], []
    for index in indices:
        # The sample as it was made with these counterfactuals: machines differ by a bit.
        kept = read_landscapes(whole[index])
        factual.append(to_bytes(kept.factual[kept.indices.tolist().index(index)]))
        counterfactuals.append(to_bytes(read_all_images(whole[index], index)))
    order = torch.argsort(images.sources, stable=True)
    return Universe(
        torch.stack(factual),
        torch.stack(counterfactuals, dim=1),
        to_bytes(images.images[order]),
        images.sources[order],
    )


def universe_landscapes(universe: Universe, name: str = "universe", keep: int = 8) -> Landscapes:
    """A universe as landscapes: distances of the rounded images, the farthest images kept first.

    A ``.ctf`` knows neither seed nor sample numbers: the seed is 0, the samples are
    numbered from 0, and the scale is ``imported``.
    """
    distances = universe.distances
    most = max(1, min(keep, universe.num_sources))
    order = np.argsort(-distances, axis=1, kind="stable")[:, :most]
    kept = universe.counterfactuals[torch.from_numpy(order), torch.arange(len(order))[:, None]]
    return Landscapes(
        name,
        "imported",
        0,
        np.arange(len(distances)),
        universe.factual.float() / 255,
        distances,
        order,
        kept.float() / 255,
        None,
        None,
    )


def write_universe(universe: Universe, path: Path | str) -> None:
    """Writes a ``.ctf`` of format ONEFILE, whole or not at all.

    ONEFILE holds one training image a source; where a source owns several,
    :class:`BadValue` says so.
    """
    N, G, *generated = universe.counterfactuals.shape
    if len(universe.training) != N:
        raise BadValue(
            f"{ONEFILE} holds one training image a source, but {N} sources own "
            f"{len(universe.training)}; export an ensemble whose sources are single images"
        )
    config = {"Format": ONEFILE, "TrainingUnits": N, "NumberGenerated": G}
    for part, (channels, height, width) in (
        ("Train", universe.training.shape[1:]),
        ("Gen", generated),
    ):
        config |= {f"{part}Height": height, f"{part}Width": width, f"{part}Channel": channels}
    # As a reader will check it.
    if odd := misfit(config, _CONFIG):
        raise BadValue(f"this universe is too large: {odd[0]} in its config {odd[1]}")
    mosaics = {"factual.png": universe.factual}
    mosaics |= {f"leave_{i}_out.png": tiles for i, tiles in enumerate(universe.counterfactuals)}
    mosaics["training_set.png"] = universe.training
    with (
        atomic_file(path) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        add_member(tar, "config.json", (json.dumps(config, indent=1) + "\n").encode())
        for name, images in mosaics.items():
            add_member(tar, name, encode_mosaic(images))


def read_universe(path: Path | str, memory: int | str = "2GiB") -> Universe:
    """Reads a ``.ctf`` of either variant, from whoever it comes.

    Nothing is unpacked to disk. Every size is known from the config, and held against
    ``memory``, before an image is decoded. Raises :class:`ArtefactError`, in one line,
    for what is malformed, cut short or hostile.
    """
    with open_archive(path) as archive:
        config = _config_of(archive)
        N, G = config["TrainingUnits"], config["NumberGenerated"]
        shapes = {
            part: tuple(config[part + side] for side in ("Channel", "Height", "Width"))
            for part in ("Train", "Gen")
        }
        leave = _numbered(archive, r"leave_([0-9]{1,9})_out\.png", N)
        train = _training_files(archive, config)
        extra = set(archive.names) - {"config.json", "factual.png", *leave, *train}
        if extra:
            why = f"its member '{min(extra)[:80]}' is not part of a universe of the format"
            raise refused(path, f"{why} {config['Format']!r}")
        if "factual.png" not in archive.names:
            raise refused(path, "factual.png is missing")
        takes = (N + 1) * G * math.prod(shapes["Gen"])
        takes += sum(train.values()) * math.prod(shapes["Train"])
        if takes > parse_bytes(memory):
            why = f"its images take {takes} bytes, more than the memory of {memory}; raise memory"
            raise refused(path, why)

        def tiles(name: str, count: int, part: str) -> torch.Tensor:
            data = archive.read(name, largest_png(count, shapes[part]))
            return decode_mosaic(data, count, shapes[part], f"{path}: {name}")

        counterfactuals = torch.empty(N, G, *shapes["Gen"], dtype=torch.uint8)
        for i, name in enumerate(leave):
            counterfactuals[i] = tiles(name, G, "Gen")
        training = torch.cat([tiles(name, count, "Train") for name, count in train.items()])
        counts = [1] * N if config["Format"] == ONEFILE else list(train.values())
        owners = torch.repeat_interleave(torch.arange(N), torch.tensor(counts))
        return Universe(tiles("factual.png", G, "Gen"), counterfactuals, training, owners)


def _config_of(archive: Archive) -> dict:
    if "config.json" not in archive.names:
        why = "it has no config.json, so it is not a counterfactual universe"
        raise refused(archive.path, why)
    raw = archive.read("config.json", 65_536)
    with decoding(archive.path, "universe with a sound config.json"):
        config = sound_json(raw.decode())
    if odd := misfit(config, _CONFIG):
        raise refused(archive.path, f"{f'{odd[0]} in ' * bool(odd[0])}its config {odd[1]}")
    return config


def _training_files(archive: Archive, config: dict) -> dict[str, int]:
    """The mosaics of training images, in the order of their sources, and how many each holds."""
    N = config["TrainingUnits"]
    if config["Format"] == ONEFILE:
        if "training_set.png" not in archive.names:
            raise refused(archive.path, "training_set.png is missing")
        return {"training_set.png": N}
    matches = _numbered(archive, r"train_([0-9]{1,9})_([0-9]{1,9})\.png", N)
    counts = {name: int(match[2]) for name, match in matches.items()}
    for name, count in counts.items():
        if count == 0:
            raise refused(archive.path, f"'{name}' announces no image")
    return counts


def _numbered(archive: Archive, pattern: str, N: int) -> dict[str, re.Match]:
    """One member a source, by name, in the order of their first numbers, from 0 or from 1 on."""
    kind = pattern.partition("_")[0]
    by_source: dict[int, re.Match] = {}
    for name in archive.names:
        if not name.startswith(f"{kind}_"):
            continue
        match = re.fullmatch(pattern, name)
        if match is None:
            why = f"'{name[:80]}' is not named as the format names it; '{kind}_' is followed by a"
            raise refused(archive.path, f"{why} source's number")
        other = by_source.setdefault(int(match[1]), match)
        if other is not match:
            why = f"'{name}' and '{other[0]}' are both of source {int(match[1])}"
            raise refused(archive.path, why)
    first = 1 if min(by_source, default=0) == 1 and N in by_source else 0
    wanted = range(first, first + N)
    for i in wanted:
        if i not in by_source:
            why = f"{kind} of source {i} is missing; its config announces {N} sources"
            raise refused(archive.path, why)
    if len(by_source) > N:
        why = f"it has '{kind}' of {len(by_source)} sources, but its config announces {N}"
        raise refused(archive.path, why)
    return {by_source[i][0]: by_source[i] for i in wanted}
