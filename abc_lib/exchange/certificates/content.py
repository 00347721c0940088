"""What is in a certificate, and what of it can be checked with the file alone (2.1, 3.5)."""

import json
import re

import numpy as np

from abc_lib.exchange.certificates.hashes import decode_image, refused, sha256
from abc_lib.exchange.certificates.specs import recipe_of
from abc_lib.ground.errors import BadValue
from abc_lib.ground.store import Store
from abc_lib.method.code import Codebook
from abc_lib.method.diffusion import SAMPLERS
from abc_lib.method.landscape import METRIC

FORMAT, VERSION = "abc certificate", 1
MOST_SOURCES = 65_536
_HASH = {"type": str, "pattern": r"[0-9a-f]{64}"}
_SHORT_HASH = {"type": str, "pattern": r"[0-9a-f]{16}"}
_NAME = {"type": str, "pattern": r"[\w.+-]{1,200}"}
_SIDE = {"type": int, "least": 1, "most": 4096}
_LENGTH = {"type": float, "least": 0.0, "most": 1e6}
# What a certificate holds, to the last key. A list is of one kind, and has a most.
_SHAPE = {
    "format": {"type": str, "pattern": FORMAT},
    "version": {"type": int, "least": VERSION, "most": VERSION},
    "recipe": {"name": _NAME, "scale": _NAME, "digest": _SHORT_HASH, "spec": {"type": dict}},
    "ensemble": {
        "artefact": _NAME,
        "identity": _SHORT_HASH,
        "members": [_HASH, 4096],
        "codebook": [{"type": str, "pattern": r"[01]{2,4096}"}, MOST_SOURCES],
    },
    "sampling": {
        "sampler": {"type": str, "pattern": "|".join(SAMPLERS)},
        "steps": {"type": int, "least": 1, "most": 100_000},
        "clip": _LENGTH | {"none": True},
    },
    "noise": {
        "seed": {"type": int, "least": -(2**63), "most": 2**63 - 1},
        "index": {"type": int, "least": 0, "most": 2**63 - 1},
        "stream_sha256": _HASH,
        "sha256": _HASH,
        "rounding": _SHORT_HASH,
    },
    "factual": {
        "shape": [_SIDE, 3],
        "dtype": {"type": str, "pattern": "uint8|float32"},
        "base64": {"type": str, "pattern": r"[A-Za-z0-9+/=]*"},
        "sha256": _HASH,
    },
    "landscape": {"metric": {"type": str, "pattern": METRIC}, "distances": [_LENGTH, MOST_SOURCES]},
    "radius": _LENGTH,
    "tau": _LENGTH | {"none": True},
    "statement": {"type": str, "pattern": r"[^\n]{1,500}", "none": True},
    "checksums": {"type": dict},
    "sha256": _HASH,
}
FIELDS = tuple(key for key in _SHAPE if key not in ("checksums", "sha256"))


def canonical(value: object) -> bytes:
    """The bytes that are hashed: JSON with sorted keys and no white space, in ASCII, numbers as Python prints them."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def sealed(fields: dict) -> dict:
    """The fields with a checksum of each and, last, one of all before it."""
    content = {key: fields[key] for key in FIELDS}
    content["checksums"] = {key: sha256(canonical(content[key])) for key in FIELDS}
    return content | {"sha256": sha256(canonical(content))}


def statement_of(radius: float, tau: float | None, num_sources: int) -> str | None:
    """What follows from the distances for a threshold, in the words of section 3.5; None without one."""
    if tau is None:
        return None
    if radius == 0:
        return (
            f"The sample is unattributable: each of its {num_sources} counterfactuals is equal to it, a certificate of "
            "non-attributability to the source that it was made without."
        )
    return (
        f"The sample is nearly unattributable: each of its {num_sources} counterfactuals lies less than tau = {tau!r} from it, "
        "a certificate of non-attributability to the source that it was made without."
    )


def check_content(content: object) -> None:
    """Types, sizes, checksums and arithmetic of a certificate.

    Raises :class:`CertificateRefused` that names the first field that does not fit.
    """
    _check_shape(content, _SHAPE, "")
    if set(content["checksums"]) != set(FIELDS):
        raise refused("checksums", "must have one checksum of each field and no other")
    for field in FIELDS:
        if content["checksums"][field] != _checksum(content[field], field):
            raise refused(field, "does not fit its checksum: edited or damaged")
    if content["sha256"] != _checksum(
        {key: value for key, value in content.items() if key != "sha256"}, "checksums"
    ):
        raise refused("sha256", "is not that of the rest: edited or damaged")
    recipe, ensemble, distances = (
        recipe_of(content),
        content["ensemble"],
        content["landscape"]["distances"],
    )
    if content["sampling"]["steps"] > recipe.diffusion.train_steps:
        raise refused(
            "sampling.steps", f"is more than the {recipe.diffusion.train_steps} that were trained"
        )
    if ensemble["artefact"] != Store.folder_name(recipe.label, recipe.model_spec):
        raise refused(
            "ensemble.artefact",
            f"is not what an ensemble of this recipe is called, {Store.folder_name(recipe.label, recipe.model_spec)}",
        )
    book, code, N = codebook_of(content), recipe.code, recipe.data.num_sources
    if (book.n, book.weight, book.num_sources) != (code.n, code.weight, N):
        raise refused(
            "ensemble.codebook",
            f"is not of n = {code.n}, weight {code.weight} and {N} sources, as recipe.spec says",
        )
    if len(ensemble["members"]) != book.n:
        raise refused(
            "ensemble.members",
            f"has {len(ensemble['members'])} hashes, but the code is of {book.n} members",
        )
    if len(distances) != N:
        raise refused(
            "landscape.distances", f"has {len(distances)} distances, but there are {N} sources"
        )
    if len(content["factual"]["shape"]) != 3:
        raise refused("factual.shape", "must be channels, height and width")
    decode_image(content["factual"])
    radius, tau = content["radius"], content["tau"]
    if radius != max(distances):
        raise refused(
            "radius", f"is {radius!r}, but the largest of landscape.distances is {max(distances)!r}"
        )
    # Nearly unattributable is a sample whose radius is under tau (3.5).
    if tau is not None and not radius < tau:
        raise refused("tau", f"is {tau!r}, and the radius {radius!r} is not below it")
    if content["statement"] != statement_of(radius, tau, N):
        raise refused("statement", "is not what follows from the radius and tau")


def _checksum(value: object, field: str) -> str:
    try:
        return sha256(canonical(value))
    except (ValueError, TypeError, RecursionError):
        raise refused(field, "holds what is no JSON value, such as an infinite number") from None


def _check_shape(value: object, shape: dict | list, field: str) -> None:
    if isinstance(shape, list):
        each, most = shape
        if not isinstance(value, list) or not 1 <= len(value) <= most:
            raise refused(field, f"must be a list of 1 to {most}")
        for i, one in enumerate(value):
            _check_shape(one, each, f"{field}[{i}]")
    elif "type" in shape:
        if not (value is None and shape.get("none")):
            _check_value(value, shape, field)
    else:
        if not isinstance(value, dict):
            raise refused(field or "of all", "must be an object")
        for key in sorted({*shape} ^ {*value}):
            name = f"{field}.{str(key)[:80]}".removeprefix(".")
            raise refused(name, "is missing" if key in shape else "is not known to this version")
        for key, inner in shape.items():
            _check_shape(value[key], inner, f"{field}.{key}".removeprefix("."))


def _check_value(value: object, shape: dict, field: str) -> None:
    # Exactly this type: a truth value is no number here, and 2 is not 2.0.
    if type(value) is not shape["type"]:
        raise refused(
            field, f"is {str(value)[:40]!r}, which is not of the type {shape['type'].__name__}"
        )
    if "pattern" in shape and not re.fullmatch(shape["pattern"], value, re.ASCII):
        raise refused(field, f"is {value[:40]!r}, which is not what this version reads there")
    # NaN is within no bounds.
    if "least" in shape and not shape["least"] <= value <= shape["most"]:
        raise refused(field, f"is {str(value)[:40]}, outside {shape['least']} to {shape['most']}")


def codebook_of(content: dict) -> Codebook:
    """The certificate's code."""
    rows = content["ensemble"]["codebook"]
    if len({len(row) for row in rows}) != 1:
        raise refused("ensemble.codebook", "has codewords of different lengths")
    try:
        return Codebook(np.array([[int(bit) for bit in row] for row in rows], np.uint8))
    except BadValue as error:
        raise refused("ensemble.codebook", f"is no codebook: {error}") from None
