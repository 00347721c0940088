"""Certificates as values and as files."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from abc_lib.exchange.certificates.content import check_content
from abc_lib.exchange.certificates.hashes import decode_image
from abc_lib.exchange.guards import decoding, sound_json
from abc_lib.ground.errors import CertificateRefused
from abc_lib.ground.files import atomic_file, bounded_file

MOST_BYTES = 32 * 2**20


@dataclass(frozen=True, eq=False)
class Certificate:
    """A sample's counterfactual distances, with all that it takes to make them again.

    ``content`` is the JSON object: ``recipe``, ``ensemble``, ``sampling``, ``noise``,
    ``factual``, ``landscape``, ``placebos``, ``radius``, ``tau``, ``statement`` and checksums.
    Types, sizes, checksums and that its parts fit each other are checked when a certificate is
    made or read. That does not make it true; :func:`verify_certificate` finds that out.
    """

    content: dict

    def __post_init__(self):
        check_content(self.content)

    @property
    def distances(self) -> np.ndarray:
        """How far the counterfactual without each source lies, (N,) float64."""
        return np.array(self.content["landscape"]["distances"])

    @property
    def placebos(self) -> np.ndarray | None:
        """How far the sample moves along codewords that no source owns, (P,) float64, or None."""
        known = self.content.get("placebos")
        return None if known is None else np.array(known)

    @property
    def radius(self) -> float:
        """Counterfactual radius (definition 1)."""
        return self.content["radius"]

    @property
    def tau(self) -> float | None:
        """The threshold that the radius is below, or None."""
        return self.content["tau"]

    @property
    def statement(self) -> str | None:
        """What the certificate claims for tau (3.5), or None."""
        return self.content["statement"]

    @property
    def factual(self) -> torch.Tensor:
        """The sample, (C, H, W) float32 in [0, 1]."""
        return decode_image(self.content["factual"])


def write_certificate(certificate: Certificate, path: Path | str) -> None:
    """Writes the JSON file, whole or not at all."""
    text = json.dumps(certificate.content, indent=1, ensure_ascii=True, allow_nan=False) + "\n"
    with atomic_file(path) as file:
        file.write(text.encode())


def read_certificate(path: Path | str) -> Certificate:
    """Reads a certificate from whoever it comes.

    Raises :class:`CertificateRefused`, which names the field: missing, unknown, of
    another type or size, not fitting its checksum or the other fields. What is no sound
    JSON file at all is an :class:`ArtefactError`.
    """
    with bounded_file(path, MOST_BYTES) as file:
        raw = file.read(MOST_BYTES)
    with decoding(path, "sound JSON"):
        content = sound_json(raw.decode("ascii"))
    try:
        return Certificate(content)
    except CertificateRefused as error:
        raise CertificateRefused(f"{path}: {error}") from None
