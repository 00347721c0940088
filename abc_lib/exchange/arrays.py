"""Whole landscapes as a NumPy archive (.npz) without pickle."""

import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from abc_lib.ground.devices import parse_bytes
from abc_lib.ground.errors import ArtefactError
from abc_lib.ground.files import atomic_file, bounded_file
from abc_lib.method.landscape import METRIC, Landscapes

_TEXTS = ("name", "scale", "metric")
_NUMBERS = ("seed", "tangent_steps")
# name: kind of number, dimensions
_ARRAYS = {
    "indices": ("<i8", 1),
    "factual": ("<f4", 4),
    "distances": ("<f8", 2),
    "kept_sources": ("<i8", 2),
    "kept_images": ("<f4", 5),
}
_SHOWN = {"attributed_images": ("<f4", 4), "attributed_labels": ("<i8", 1)}


def write_npz(landscapes: Landscapes, path: Path | str) -> None:
    """All fields of a landscape but its artefacts, under their names, so that ``numpy.load`` reads them anywhere.

    Images are float32, as they are. ``attributed_images`` and ``attributed_labels`` are
    left out where the landscape has none.
    """
    arrays = {key: np.array(getattr(landscapes, key)) for key in ("name", "scale")} | {
        "metric": np.array(METRIC)
    }
    arrays |= {key: np.array(int(getattr(landscapes, key)), "<i8") for key in _NUMBERS}
    for key, (kind, _) in (_ARRAYS | _SHOWN).items():
        value = getattr(landscapes, key)
        if value is not None:
            arrays[key] = np.ascontiguousarray(value, dtype=kind)
    with atomic_file(path) as file:
        np.savez_compressed(file, **arrays)


def read_npz(path: Path | str, memory: int | str = "2GiB") -> Landscapes:
    """What :func:`write_npz` wrote, bit for bit; its ``artefacts`` are empty.

    No pickle is loaded, and the size that each array announces is held against
    ``memory`` before it is unpacked. Raises :class:`ArtefactError` for missing, unknown
    and repeated arrays, other types, and shapes that do not fit together.
    """
    budget = parse_bytes(memory)
    with bounded_file(path, budget) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                found = _arrays(archive, budget, memory)
        except _Refused as error:
            raise ArtefactError(f"{path} is refused: {error}") from None
        except (
            OSError,
            EOFError,
            ValueError,
            TypeError,
            KeyError,
            IndexError,
            OverflowError,
            NotImplementedError,
            RuntimeError,
            SyntaxError,
            struct.error,
            tokenize.TokenError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            why = " ".join(str(error).split())[:160] or type(error).__name__
            raise ArtefactError(
                f"{path} is refused: it is not a sound NumPy archive ({why}); fetch it again"
            ) from None
    _check_shapes(path, found)
    texts = {key: str(found[key]) for key in _TEXTS}
    shown = found.get("attributed_images")
    return Landscapes(
        texts["name"],
        texts["scale"],
        int(found["seed"]),
        found["indices"],
        torch.from_numpy(found["factual"]),
        found["distances"],
        found["kept_sources"],
        torch.from_numpy(found["kept_images"]),
        None if shown is None else torch.from_numpy(shown),
        found.get("attributed_labels"),
        [],
        int(found["tangent_steps"]),
    )


class _Refused(Exception):
    pass


def _arrays(archive: zipfile.ZipFile, budget: int, memory) -> dict[str, np.ndarray]:
    names = [info.filename for info in archive.infolist()]
    plain = {name.removesuffix(".npy") for name in names}
    needed = {*_TEXTS, *_NUMBERS, *_ARRAYS}
    needed |= set(_SHOWN) if plain & set(_SHOWN) else set()
    if len(set(names)) != len(names) or not all(name.endswith(".npy") for name in names):
        raise _Refused("it has a member twice, or one that is no .npy")
    if any(
        info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        for info in archive.infolist()
    ):
        raise _Refused("it is compressed in a way that NumPy does not write")
    if plain != needed:
        raise _Refused(
            f"it must hold {', '.join(sorted(needed))}; missing or unknown: {', '.join(sorted(plain ^ needed))[:200]}"
        )
    found, left = {}, budget
    for name in sorted(plain):
        with archive.open(f"{name}.npy") as member:
            kind, shape = _header(member, name)
            size = int(np.prod([int(s) for s in shape], dtype=object)) * kind.itemsize
            left -= size
            if left < 0:
                raise _Refused(f"its arrays do not fit the memory of {memory}; raise memory")
            data = member.read(size)
            # one byte more also has the checksum looked at
            if len(data) != size or member.read(1):
                raise _Refused(f"its array '{name}' is not as long as it says")
            found[name] = np.frombuffer(data, kind).reshape(shape).copy()
    return found


def _header(member, name: str) -> tuple[np.dtype, tuple[int, ...]]:
    version = np.lib.format.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise _Refused(f"its array '{name}' is of .npy format {version}; write it with format 1.0")
    reader = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran, kind = reader(member)
    if name in _TEXTS:
        sound = kind.kind == "U" and kind.itemsize <= 4 * 256 and shape == ()
    else:
        expected, dimensions = (_ARRAYS | _SHOWN).get(name, ("<i8", 0))
        sound = (
            kind == np.dtype(expected)
            and len(shape) == dimensions
            and not (fortran and dimensions > 1)
        )
    if not sound or any(side < 0 for side in shape):
        raise _Refused(
            f"its array '{name}' is {kind} of shape {shape}, which is not what a landscape has"
        )
    return kind, shape


def _check_shapes(path, found: dict[str, np.ndarray]) -> None:
    """Sizes that hang together, and numbers that can be."""
    S, N = found["distances"].shape
    K, image = found["kept_sources"].shape[1], found["factual"].shape[1:]
    expected = {
        "indices": (S,),
        "factual": (S, *image),
        "kept_sources": (S, K),
        "kept_images": (S, K, *image),
        "attributed_images": (S, *image),
        "attributed_labels": (S,),
    }
    wrong = [key for key, shape in expected.items() if key in found and found[key].shape != shape]
    if wrong or 0 in (S, N, K, *image):
        raise ArtefactError(
            f"{path} is refused: the shape of its '{(wrong or ['distances'])[0]}' does not fit {S} samples and {N} sources"
        )
    kept, distances = found["kept_sources"], found["distances"]
    if (
        not np.isfinite(distances).all()
        or (distances < 0).any()
        or (kept < 0).any()
        or (kept >= N).any()
    ):
        raise ArtefactError(
            f"{path} is refused: its distances must be finite and not negative, its kept sources in 0..{N - 1}"
        )
    if (
        len(np.unique(found["indices"])) != S
        or (found["indices"] < 0).any()
        or found["tangent_steps"] < 0
    ):
        raise ArtefactError(
            f"{path} is refused: its sample indices must be different whole numbers from 0 on"
        )
    if str(found["metric"]) != METRIC:
        raise ArtefactError(
            f"{path} is refused: its distances are '{str(found['metric'])[:40]!r}', not '{METRIC}'"
        )
