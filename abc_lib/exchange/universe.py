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
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from abc_lib.exchange.archive import Archive, add_member, open_archive
from abc_lib.exchange.mosaic import decode_mosaic, encode_mosaic, largest_png, to_bytes
from abc_lib.ground.devices import parse_bytes
from abc_lib.ground.errors import ArtefactError, BadValue
from abc_lib.ground.files import atomic_file
from abc_lib.ground.store import Store
from abc_lib.images.training_set import TrainingSet, training_set
from abc_lib.method.distance import distance
from abc_lib.method.ensemble import Ensemble
from abc_lib.method.landscape import Landscapes
from abc_lib.results.landscapes import compute_landscapes, read_all_images, read_landscapes

ONEFILE = "ONEFILE"
MOST_UNITS = 65_536
_MOST_SIDE = 4096
_SIZES = (
    "TrainingUnits",
    "NumberGenerated",
    "TrainHeight",
    "TrainWidth",
    "TrainChannel",
    "GenHeight",
    "GenWidth",
    "GenChannel",
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
                "a universe has uint8 images: factual (G, C, H, W), counterfactuals (N, G, C, H, W), training (K, C, H, W)"
            )
        if self.counterfactuals.shape[1:] != self.factual.shape:
            raise BadValue(
                f"counterfactuals {tuple(self.counterfactuals.shape)} do not fit samples {tuple(self.factual.shape)}"
            )
        if self.factual.shape[1] not in (1, 3) or self.training.shape[1] not in (1, 3):
            raise BadValue("images of a universe have 1 channel (grey) or 3 (colour)")
        owners = self.training_sources
        if owners.dtype != torch.int64 or owners.shape != self.training.shape[:1]:
            raise BadValue("training_sources must be int64, one number a training image")
        if not torch.equal(torch.unique_consecutive(owners), torch.arange(self.num_sources)):
            raise BadValue(
                f"training images must lie source after source, with at least one of each of the {self.num_sources}"
            )

    @property
    def num_sources(self) -> int:
        """N"""
        return len(self.counterfactuals)

    @property
    def distances(self) -> np.ndarray:
        """Euclidean distances of the rounded images (see :func:`abc_lib.method.distance.distance`), (G, N) float64."""
        factual = self.factual.float() / 255
        return np.stack(
            [distance(each.float() / 255, factual).numpy() for each in self.counterfactuals], axis=1
        )


def make_universe(
    ensemble: Ensemble,
    landscapes: Landscapes,
    rows: list[int] | None = None,
    images: TrainingSet | None = None,
    store: Store | None = None,
    **options,
) -> Universe:
    """The universe of some samples of a landscape (default: all), rounded to 8 bits.

    Counterfactuals are read where all of a sample's were kept, and otherwise computed as
    :func:`compute_landscapes` does, which can be stopped and goes on; ``options`` go
    there. ``images`` is by default the recipe's training set. Raises :class:`BadValue`
    where the landscape is another ensemble's.
    """
    rows = list(range(len(landscapes))) if rows is None else list(rows)
    if not rows or not all(-len(landscapes) <= row < len(landscapes) for row in rows):
        raise BadValue(f"rows must name some of the {len(landscapes)} samples, from 0 on")
    if (
        any(a.spec["ensemble"] != ensemble.identity for a in landscapes.artefacts)
        or landscapes.num_sources != ensemble.codebook.num_sources
    ):
        raise BadValue(
            f"the landscapes of {landscapes.name} are not those of this ensemble; compute them with compute_landscapes"
        )
    images = training_set(ensemble.recipe.data) if images is None else images
    indices = [int(landscapes.indices[row]) for row in rows]
    whole = {i: a for a in landscapes.artefacts if a.spec["everything"] for i in a.spec["indices"]}
    missing = sorted({i for i in indices if i not in whole})
    if missing:
        made = compute_landscapes(
            ensemble,
            missing,
            landscapes.seed,
            store,
            1,
            all_images=True,
            tangent_steps=landscapes.tangent_steps,
            **options,
        )
        whole |= {i: made for i in missing}
    factual, counterfactuals = [], []
    for index in indices:
        # The sample as it was made with these counterfactuals: a bit may differ from one machine to another.
        found = read_landscapes(whole[index])
        factual.append(to_bytes(found.factual[found.indices.tolist().index(index)]))
        counterfactuals.append(to_bytes(read_all_images(whole[index], index)))
    order = torch.argsort(images.sources, stable=True)
    return Universe(
        torch.stack(factual),
        torch.stack(counterfactuals, dim=1),
        to_bytes(images.images[order]),
        images.sources[order],
    )


def universe_landscapes(universe: Universe, name: str = "universe", keep: int = 8) -> Landscapes:
    """A universe as landscapes, for whatever takes those: distances of the rounded images, farthest kept first.

    A ``.ctf`` knows neither seed nor sample numbers: the seed is 0, the samples are
    numbered from 0, and the scale is ``imported``.
    """
    distances = universe.distances
    order = np.argsort(-distances, axis=1, kind="stable")[
        :, : max(1, min(keep, universe.num_sources))
    ]
    kept = torch.stack(
        [universe.counterfactuals[torch.from_numpy(mine), g] for g, mine in enumerate(order)]
    )
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
            f"{ONEFILE} holds one training image a source, but {N} sources own {len(universe.training)}; "
            "export an ensemble whose sources are single images"
        )
    config = dict(
        zip(_SIZES, (N, G, *_height_first(universe.training.shape[1:]), *_height_first(generated)))
    )
    # As a reader will check them.
    config = _checked_config({"Format": ONEFILE, **config}, BadValue, "this universe")
    mosaics = {"factual.png": universe.factual}
    mosaics |= {f"leave_{i}_out.png": each for i, each in enumerate(universe.counterfactuals)}
    mosaics["training_set.png"] = universe.training
    with (
        atomic_file(path) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        add_member(tar, "config.json", (json.dumps(config, indent=1) + "\n").encode())
        for name, images in mosaics.items():
            add_member(tar, name, encode_mosaic(images))


def _height_first(shape) -> tuple[int, int, int]:
    channels, height, width = (int(each) for each in shape)
    return height, width, channels


def _checked_config(config: object, error: type, where: str) -> dict:
    expected = {"Format", *_SIZES}
    if not isinstance(config, dict) or set(config) != expected:
        odd = sorted(expected ^ set(config)) if isinstance(config, dict) else ["an object"]
        raise error(
            f"{where} is refused: its config must have the keys {', '.join(['Format', *_SIZES])}; missing or unknown: {str(odd)[:200]}"
        )
    if not isinstance(config["Format"], str) or not 0 < len(config["Format"]) <= 64:
        raise error(
            f"{where} is refused: Format in its config must be a short text such as {ONEFILE}"
        )
    for key in _SIZES:
        most = (
            MOST_UNITS
            if key in ("TrainingUnits", "NumberGenerated")
            else 3
            if "Channel" in key
            else _MOST_SIDE
        )
        value = config[key]
        if type(value) is not int or not 1 <= value <= most or ("Channel" in key and value == 2):
            allowed = "1 or 3" if "Channel" in key else f"a whole number from 1 to {most}"
            raise error(
                f"{where} is refused: {key} in its config is {str(value)[:40]!r}; it must be {allowed}"
            )
    return config


def _no_repeats(pairs: list) -> dict:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key is given twice")
    return dict(pairs)


def _config_of(archive: Archive) -> dict:
    if "config.json" not in archive.names:
        raise ArtefactError(
            f"{archive.path} is refused: it has no config.json, so it is not a counterfactual universe"
        )
    try:
        config = json.loads(archive.read("config.json", 65_536), object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        why = " ".join(str(error).split())[:120]
        raise ArtefactError(
            f"{archive.path} is refused: its config.json is not sound JSON ({why})"
        ) from None
    return _checked_config(config, ArtefactError, str(archive.path))


def _numbered(archive: Archive, names: list[str], pattern: str, N: int) -> list[re.Match]:
    """One member a source, ordered by the number between the first two underscores, which counts from 0 or from 1."""
    kind = pattern.split("_")[0]
    found = {}
    for name in names:
        match = re.fullmatch(pattern, name)
        if match is None:
            raise ArtefactError(
                f"{archive.path} is refused: '{name[:80]}' is not named as the format names it; "
                f"'{kind}_' is followed by a source's number"
            )
        if int(match[1]) in found:
            raise ArtefactError(
                f"{archive.path} is refused: '{name}' and '{found[int(match[1])][0]}' are both of source {int(match[1])}"
            )
        found[int(match[1])] = match
    first = 1 if min(found, default=0) == 1 and N in found else 0
    absent = [i for i in range(first, first + N) if i not in found]
    if absent:
        raise ArtefactError(
            f"{archive.path} is refused: {kind} of source {absent[0]} is missing; its config announces {N} sources"
        )
    if len(found) > N:
        raise ArtefactError(
            f"{archive.path} is refused: it has '{kind}' of {len(found)} sources, but its config announces {N}"
        )
    return [found[i] for i in range(first, first + N)]


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
        leave = _numbered(
            archive,
            [n for n in archive.names if n.startswith("leave_")],
            r"leave_([0-9]{1,9})_out\.png",
            N,
        )
        names = {"config.json", "factual.png", *(match[0] for match in leave)}
        if config["Format"] == ONEFILE:
            train = {"training_set.png": N}
        else:
            matches = _numbered(
                archive,
                [n for n in archive.names if n.startswith("train_")],
                r"train_([0-9]{1,9})_([0-9]{1,9})\.png",
                N,
            )
            train = {match[0]: int(match[2]) for match in matches}
            if 0 in train.values():
                raise ArtefactError(
                    f"{path} is refused: '{next(n for n in train if not train[n])}' announces no image"
                )
        names |= set(train)
        for name in ("factual.png", *train):
            if name not in archive.names:
                raise ArtefactError(f"{path} is refused: {name} is missing")
        extra = [name for name in archive.names if name not in names]
        if extra:
            raise ArtefactError(
                f"{path} is refused: its member '{extra[0][:80]}' is not part of a universe of the format {config['Format'][:64]!r}"
            )
        takes = (N + 1) * G * int(np.prod(shapes["Gen"])) + sum(train.values()) * int(
            np.prod(shapes["Train"])
        )
        if takes > parse_bytes(memory):
            raise ArtefactError(
                f"{path} is refused: its images take {takes} bytes, more than the memory of {memory}; raise memory"
            )

        def tiles(name: str, count: int, part: str) -> torch.Tensor:
            data = archive.read(name, largest_png(count, shapes[part]))
            return decode_mosaic(data, count, shapes[part], f"{path}: {name}")

        counterfactuals = torch.empty(N, G, *shapes["Gen"], dtype=torch.uint8)
        for i, match in enumerate(leave):
            counterfactuals[i] = tiles(match[0], G, "Gen")
        training = torch.cat([tiles(name, count, "Train") for name, count in train.items()])
        owners = torch.repeat_interleave(
            torch.arange(N),
            torch.tensor([1] * N if config["Format"] == ONEFILE else list(train.values())),
        )
        return Universe(tiles("factual.png", G, "Gen"), counterfactuals, training, owners)
