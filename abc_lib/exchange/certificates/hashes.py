"""Hashes of what is certified: members, exogenous noise, images."""

import base64
import hashlib
import math

import numpy as np
import torch

from abc_lib.ground.errors import CertificateRefused
from abc_lib.ground.seeds import generator
from abc_lib.method.diffusion import ExogenousNoise
from abc_lib.method.network import NoisePredictor


def refused(field: str, why: str) -> CertificateRefused:
    """The error that names a field."""
    return CertificateRefused(f"the certificate is refused: its field '{field}' {why}")


def sha256(data: bytes) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _bits(x: torch.Tensor) -> bytes:
    return x.contiguous().numpy().astype("<f4", copy=False).tobytes()


def member_sha256(member: NoisePredictor) -> str:
    """Of one member's parameters by name: name, shape as text, float32 bits, little-endian.

    Members stored in 16 bits are exact in float32, so that the hash is theirs too.
    """
    hashed = hashlib.sha256()
    for name, value in sorted(member.state_dict().items()):
        hashed.update(f"{name} {list(value.shape)}\n".encode())
        hashed.update(_bits(value.detach().float().cpu()))
    return hashed.hexdigest()


def noise_hashes(noise: ExogenousNoise, seed: int) -> dict:
    """Of one sample's exogenous noise, with the ``seed`` and ``index`` that it is drawn from.

    ``sha256`` is of its float32 bits, first step to last. Normal numbers are made from
    uniform ones by logarithms and cosines, whose last bit differs from one kind of CPU
    to another. So there is also ``stream_sha256``, of uniform numbers of the same
    generator, equal everywhere; and ``rounding``, of some normal numbers that are always
    the same ones: where it is equal, the noise must be equal to the bit.
    """
    drawn = noise.initial if noise.steps is None else torch.cat([noise.initial, noise.steps[:, 0]])
    index = int(noise.indices[0])
    stream = torch.rand(drawn.shape, generator=generator("exogenous noise", seed, index))
    always = torch.randn(4096, generator=generator("how this CPU rounds"))
    return {
        "seed": int(seed),
        "index": index,
        "stream_sha256": sha256(_bits(stream)),
        "sha256": sha256(_bits(drawn)),
        "rounding": sha256(_bits(always))[:16],
    }


def encode_image(image: torch.Tensor) -> dict:
    """An image (C, H, W) in [0, 1], row by row: in uint8 where that loses nothing, else float32."""
    levels = (image.double() * 255).round()
    exact = torch.equal((levels / 255).float(), image.float())
    data = levels.to(torch.uint8).numpy().tobytes() if exact else _bits(image)
    return {
        "shape": list(image.shape),
        "dtype": "uint8" if exact else "float32",
        "base64": base64.b64encode(data).decode(),
        "sha256": sha256(data),
    }


def decode_image(factual: dict) -> torch.Tensor:
    """What :func:`encode_image` made, float32 (C, H, W); refused if its parts do not fit."""
    shape, dtype = factual["shape"], factual["dtype"]
    try:
        data = base64.b64decode(factual["base64"], validate=True)
    except ValueError:
        raise refused("factual.base64", "is not base64") from None
    kind = np.dtype("u1" if dtype == "uint8" else "<f4")
    if len(data) != math.prod(shape) * kind.itemsize:
        why = f"has {len(data)} bytes, which are no {dtype} image of shape {shape}"
        raise refused("factual.base64", why)
    if sha256(data) != factual["sha256"]:
        raise refused("factual.sha256", "is not that of the image in factual.base64")
    pixels = torch.from_numpy(np.frombuffer(data, kind).reshape(shape).astype(np.float64))
    if kind.itemsize == 1:
        pixels = pixels / 255
    if not bool(((pixels >= 0) & (pixels <= 1)).all()):
        raise refused("factual.base64", "has pixels outside [0, 1] or NaN")
    return pixels.float()
