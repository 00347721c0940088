"""What is in a certificate, and what of it can be checked with the file alone (2.1, 3.5)."""

import json
from collections.abc import Sequence

import numpy as np

from abc_lib.exchange.certificates.hashes import decode_image, refused, sha256
from abc_lib.exchange.certificates.specs import recipe_of
from abc_lib.exchange.schema import (
    ANY_OBJECT,
    list_of,
    misfit,
    number,
    object_of,
    one_of,
    or_null,
    text,
)
from abc_lib.ground.errors import BadValue
from abc_lib.ground.store import Store
from abc_lib.method.code import Codebook
from abc_lib.method.diffusion import SAMPLERS
from abc_lib.method.landscape import METRIC

FORMAT = "abc certificate"
VERSION = 2
"""what is written; of version 1, without placebos, it is read as well"""
MOST_SOURCES = 65_536
MOST_PLACEBOS = 1024

_HASH = text("[0-9a-f]{64}", "64 hexadecimal digits")
_SHORT_HASH = text("[0-9a-f]{16}", "16 hexadecimal digits")
_NAME = text("[A-Za-z0-9_.+-]{1,200}", "a name of letters, digits and _ . + -")
_LENGTH = number("decimal", 0, 1e6)
# What a certificate holds, to the last key; an error tells the description.
SCHEMA = object_of(
    format=one_of(FORMAT),
    version=number("integer", 1, VERSION),
    recipe=object_of(name=_NAME, scale=_NAME, digest=_SHORT_HASH, spec=ANY_OBJECT),
    ensemble=object_of(
        artefact=_NAME,
        identity=_SHORT_HASH,
        members=list_of(_HASH, 4096),
        codebook=list_of(text("[01]{2,4096}", "a codeword of 0 and 1"), MOST_SOURCES),
    ),
    sampling=object_of(
        sampler=one_of(*SAMPLERS), steps=number("integer", 1, 100_000), clip=or_null(_LENGTH)
    ),
    noise=object_of(
        seed=number("integer", -(2**63), 2**63 - 1),
        index=number("integer", 0, 2**63 - 1),
        stream_sha256=_HASH,
        sha256=_HASH,
        rounding=_SHORT_HASH,
    ),
    factual=object_of(
        shape=list_of(number("integer", 1, 4096), 3),
        dtype=one_of("uint8", "float32"),
        base64=text("[A-Za-z0-9+/=]*", "base64"),
        sha256=_HASH,
    ),
    landscape=object_of(metric=one_of(METRIC), distances=list_of(_LENGTH, MOST_SOURCES)),
    placebos=or_null(list_of(_LENGTH, MOST_PLACEBOS)),
    radius=_LENGTH,
    tau=or_null(_LENGTH),
    statement=or_null(text(r"[^\n]{1,500}", "a line of text")),
    checksums=ANY_OBJECT,
    sha256=_HASH,
)
FIELDS = tuple(key for key in SCHEMA["properties"] if key not in ("checksums", "sha256"))
_FIRST = object_of(**{k: v for k, v in SCHEMA["properties"].items() if k != "placebos"})


def canonical(value: object) -> bytes:
    """The bytes that are hashed: JSON in ASCII, keys sorted, no white space, numbers as Python's.

    Raises ValueError, TypeError or RecursionError for what is no JSON value.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def sealed(fields: dict) -> dict:
    """The fields with a checksum of each and, last, one of all before it."""
    content = {key: fields[key] for key in FIELDS if key in fields}
    content["checksums"] = {key: sha256(canonical(content[key])) for key in content}
    return content | {"sha256": sha256(canonical(content))}


def statement_of(
    radius: float, tau: float | None, num_sources: int, placebos: Sequence[float] | None = None
) -> str | None:
    """What follows from the distances for ``tau``, in the words of 3.5; None without one."""
    if tau is None:
        return None
    if radius == 0:
        text = (
            f"The sample is unattributable: each of its {num_sources} counterfactuals is equal to "
            "it, a certificate of non-attributability to the source that it was made without."
        )
    else:
        text = (
            f"The sample is nearly unattributable: each of its {num_sources} counterfactuals lies "
            f"less than tau = {tau!r} from it, a certificate of non-attributability to the source "
            "that it was made without."
        )
    return text if placebos is None else f"{text} {placebo_words(radius, placebos)}"


def placebo_words(radius: float, placebos: Sequence[float]) -> str:
    """Where a radius lies among the distances along codewords that no source owns."""
    farther = sum(placebo >= radius for placebo in placebos)
    return (
        f"Along {len(placebos)} codewords that no source owns it moves by up to {max(placebos):.6g}"
        f", and {farther} of them move it as far as the radius or farther."
    )


def check_content(content: object) -> None:
    """Types, sizes, checksums and arithmetic of a certificate.

    Raises :class:`CertificateRefused` that names the first field that does not fit.
    """
    # 1 and not True, which is equal to it
    first = isinstance(content, dict) and repr(content.get("version")) == "1"
    if odd := misfit(content, _FIRST if first else SCHEMA):
        raise refused(odd[0] or "of all", odd[1])
    fields = [field for field in FIELDS if field in content]
    if set(content["checksums"]) != set(fields):
        raise refused("checksums", "must have one checksum of each field and no other")
    for field in fields:
        if content["checksums"][field] != _checksum(content[field], field):
            raise refused(field, "does not fit its checksum: edited or damaged")
    rest = {key: value for key, value in content.items() if key != "sha256"}
    if content["sha256"] != _checksum(rest, "checksums"):
        raise refused("sha256", "is not that of the rest: edited or damaged")

    recipe = recipe_of(content)
    ensemble = content["ensemble"]
    distances = content["landscape"]["distances"]
    trained = recipe.diffusion.train_steps
    if content["sampling"]["steps"] > trained:
        raise refused("sampling.steps", f"is more than the {trained} that were trained")
    folder = Store.folder_name(recipe.label, recipe.model_spec)
    if ensemble["artefact"] != folder:
        why = f"is not what an ensemble of this recipe is called, {folder}"
        raise refused("ensemble.artefact", why)
    book, code, N = codebook_of(content), recipe.code, recipe.data.num_sources
    if (book.n, book.weight, book.num_sources) != (code.n, code.weight, N):
        why = f"is not of n = {code.n}, weight {code.weight} and {N} sources, as recipe.spec says"
        raise refused("ensemble.codebook", why)
    if len(ensemble["members"]) != book.n:
        why = f"has {len(ensemble['members'])} hashes, but the code is of {book.n} members"
        raise refused("ensemble.members", why)
    if len(distances) != N:
        why = f"has {len(distances)} distances, but there are {N} sources"
        raise refused("landscape.distances", why)
    placebos = content.get("placebos")
    if placebos and len(book.unowned(len(placebos))) != len(placebos):
        why = f"has {len(placebos)} distances, more than there are codewords that no source owns"
        raise refused("placebos", why)
    if len(content["factual"]["shape"]) != 3:
        raise refused("factual.shape", "must be channels, height and width")
    decode_image(content["factual"])
    radius, tau, farthest = content["radius"], content["tau"], max(distances)
    if radius != farthest:
        why = f"is {radius!r}, but the largest of landscape.distances is {farthest!r}"
        raise refused("radius", why)
    # Nearly unattributable is a sample whose radius is under tau (3.5).
    if tau is not None and not radius < tau:
        raise refused("tau", f"is {tau!r}, and the radius {radius!r} is not below it")
    if content["statement"] != statement_of(radius, tau, N, placebos):
        raise refused("statement", "is not what follows from the radius, tau and the placebos")


def _checksum(value: object, field: str) -> str:
    try:
        return sha256(canonical(value))
    except (ValueError, TypeError, RecursionError):
        raise refused(field, "holds what is no JSON value, such as an infinite number") from None


def codebook_of(content: dict) -> Codebook:
    """The certificate's code."""
    rows = content["ensemble"]["codebook"]
    if len({len(row) for row in rows}) != 1:
        raise refused("ensemble.codebook", "has codewords of different lengths")
    try:
        return Codebook(np.array([[int(bit) for bit in row] for row in rows], np.uint8))
    except BadValue as error:
        raise refused("ensemble.codebook", f"is no codebook: {error}") from None
