"""Whole landscapes as a NumPy archive (.npz) without pickle."""

import math
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from abc_lib.exchange.guards import decoding, refused
from abc_lib.exchange.tables import table_of
from abc_lib.ground.devices import parse_bytes
from abc_lib.ground.errors import BadValue
from abc_lib.ground.files import atomic_file, bounded_file
from abc_lib.method.landscape import METRIC, Landscapes

# field: type (of texts: the longest), dimensions
_TEXTS = {"name": ("<U256", 0), "scale": ("<U256", 0)}
_NUMBERS = {"seed": ("<i8", 0), "tangent_steps": ("<i8", 0)}
_ARRAYS = {
    "indices": ("<i8", 1),
    "factual": ("<f4", 4),
    "distances": ("<f8", 2),
    "kept_sources": ("<i8", 2),
    "kept_images": ("<f4", 5),
}
_SHOWN = {"attributed_images": ("<f4", 4), "attributed_labels": ("<i8", 1)}
_FIELDS = _TEXTS | _NUMBERS | _ARRAYS | _SHOWN
_ALL = _FIELDS | {"metric": ("<U256", 0)}


def write_npz(landscapes: Landscapes, path: Path | str) -> None:
    """All fields of a landscape but its artefacts, named as they are, for ``numpy.load``.

    Images are float32, as they are. ``attributed_images`` and ``attributed_labels`` are
    left out where the landscape has none.
    """
    arrays = {"metric": np.array(METRIC)}
    for name, (kind, _) in _FIELDS.items():
        value = getattr(landscapes, name)
        if value is not None:
            arrays[name] = np.asarray(value, None if name in _TEXTS else kind, order="C")
    with atomic_file(path) as file:
        np.savez_compressed(file, **arrays)


def read_npz(path: Path | str, memory: int | str = "2GiB") -> Landscapes:
    """What :func:`write_npz` wrote, bit for bit; its ``artefacts`` are empty.

    No pickle is loaded, and the size that each array announces is held against
    ``memory`` before it is unpacked. Raises :class:`ArtefactError` for missing, unknown
    and repeated arrays, other types, and shapes that do not fit together.
    """
    budget = parse_bytes(memory)
    with bounded_file(path, budget) as file, decoding(path, "sound NumPy archive"):
        with zipfile.ZipFile(file) as archive:
            arrays = {}
            for name in _names(path, archive):
                with archive.open(f"{name}.npy") as member:
                    arrays[name] = _array(path, member, name, budget)
                budget -= arrays[name].nbytes
    return _landscapes(path, arrays)


def _names(path: Path | str, archive: zipfile.ZipFile) -> list[str]:
    """The arrays in it, if they are those of a landscape and packed as NumPy packs them."""
    files = archive.infolist()
    names = sorted(file.filename.removesuffix(".npy") for file in files)
    needed = set(_ALL) - (set() if set(names) & set(_SHOWN) else set(_SHOWN))
    if odd := sorted(needed ^ set(names)):
        why = f"it must hold {', '.join(sorted(needed))}; missing or unknown: {str(odd)[:200]}"
        raise refused(path, why)
    if len(names) != len(needed) or any(not file.filename.endswith(".npy") for file in files):
        raise refused(path, "it has a member twice, or one that is no .npy")
    # Of other methods Python would unpack a bomb before it could be counted.
    if any(file.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for file in files):
        raise refused(path, "it is compressed in a way that NumPy does not write")
    return names


def _array(path: Path | str, member: BinaryIO, name: str, budget: int) -> np.ndarray:
    """One array, of which no more is unpacked than its header says, and no more than fits."""
    version = np.lib.format.read_magic(member)
    if version != (1, 0):
        raise refused(path, f"its array '{name}' is of .npy format {version}; write it as 1.0")
    shape, fortran, kind = np.lib.format.read_array_header_1_0(member)
    most, dimensions = np.dtype(_ALL[name][0]), _ALL[name][1]
    sound = kind == most or (kind.kind == most.kind == "U" and kind.itemsize <= most.itemsize)
    if not sound or fortran or len(shape) != dimensions or min(shape, default=0) < 0:
        why = f"its array '{name}' is {kind} of shape {shape}, which is not what a landscape has"
        raise refused(path, why)
    size = math.prod(shape) * kind.itemsize
    if size > budget:
        raise refused(path, "its arrays do not fit the memory; raise it")
    data = member.read(size)
    # One byte more also has the checksum looked at.
    if len(data) != size or member.read(1):
        raise refused(path, f"its array '{name}' is not as long as it says")
    return np.frombuffer(data, kind).reshape(shape).copy()


def _landscapes(path: Path | str, arrays: dict[str, np.ndarray]) -> Landscapes:
    """Sizes that hang together, and numbers that can be."""
    S, N = arrays["distances"].shape
    K, image = arrays["kept_sources"].shape[1], arrays["factual"].shape[1:]
    shapes = {
        "indices": (S,),
        "factual": (S, *image),
        "kept_sources": (S, K),
        "kept_images": (S, K, *image),
        "attributed_images": (S, *image),
        "attributed_labels": (S,),
    }
    wrong = [key for key, shape in shapes.items() if key in arrays and arrays[key].shape != shape]
    if wrong or 0 in (S, N, K, *image):
        name = (wrong or ["distances"])[0]
        raise refused(path, f"the shape of its '{name}' does not fit {S} samples and {N} sources")
    kept = arrays["kept_sources"]
    if (kept < 0).any() or (kept >= N).any() or arrays["tangent_steps"] < 0:
        raise refused(path, f"its kept sources must be in 0..{N - 1}, its steps from 0 on")
    metric = str(arrays.pop("metric"))
    if metric != METRIC:
        raise refused(path, f"its distances are {metric[:40]!r}, not '{METRIC}'")
    made = Landscapes(
        **{name: str(arrays[name]) for name in _TEXTS},
        **{name: int(arrays[name]) for name in _NUMBERS},
        **{
            name: torch.from_numpy(array) if array.dtype == np.float32 else array
            for name, array in arrays.items()
            if array.ndim
        },
        **{name: None for name in _SHOWN if name not in arrays},
    )
    try:
        table_of(made)
    except BadValue as error:
        raise refused(path, str(error)) from None
    return made
