"""The autoencoder of Stable Diffusion v1-5, through diffusers (B.1).

It is looked for in ``$ABC_WEIGHTS/stable-diffusion-v1-5/vae`` (``config.json`` and
``diffusion_pytorch_model.safetensors`` or ``.bin``, 335 MB), then in the cache of
huggingface_hub, then downloaded into that cache.
"""

import os
from functools import lru_cache
from pathlib import Path

import torch

from abc_lib.ground.digests import identity_of
from abc_lib.ground.errors import DataCorrupt, NotAvailable
from abc_lib.images.autoencoders.base import Autoencoder
from abc_lib.method.space import STABLE_IMAGE, STABLE_LATENT

REPOSITORY, SUBFOLDER = "stable-diffusion-v1-5/stable-diffusion-v1-5", "vae"
FOLDER = "stable-diffusion-v1-5/vae"
TITLE = "the Stable Diffusion v1-5 autoencoder (335 MB)"
REMEDY = (
    "put config.json and diffusion_pytorch_model.safetensors of "
    f"https://huggingface.co/{REPOSITORY}/tree/main/{SUBFOLDER} "
    f"into the folder that ABC_WEIGHTS names, as {FOLDER}/"
)


class StableDiffusion(Autoencoder):
    """An ``AutoencoderKL`` between images of 3x256x256 and latents of 4x32x32.

    A latent is the mean of the encoder's distribution, not a draw from it, times the
    scaling factor of the network's configuration (0.18215): the paper does not say which,
    and the mean needs no chance.
    """

    title = "Stable Diffusion v1-5 autoencoder"
    shape, image_shape = STABLE_LATENT, STABLE_IMAGE
    # A 256x256 image takes a few hundred MB on its way through the decoder.
    batch = 2

    def __init__(self, network: torch.nn.Module, identity: str = ""):
        super().__init__(network)
        self.identity = identity or identity_of(
            [{name: value.cpu() for name, value in network.state_dict().items()}]
        )
        self.factor = float(network.config.scaling_factor)

    def _encode(self, images):
        return self.network.encode(images * 2 - 1).latent_dist.mode() * self.factor

    def _decode(self, latents):
        # Not network.decode, which looks at its argument's type.
        latents = latents / self.factor
        post = getattr(self.network, "post_quant_conv", None)
        return self.network.decoder(latents if post is None else post(latents)) * 0.5 + 0.5


def _local() -> Path | None:
    named = os.environ.get("ABC_WEIGHTS")
    folder = Path(named) / FOLDER if named else None
    return folder if folder and (folder / "config.json").is_file() else None


def _cached() -> Path | None:
    """The folder in huggingface_hub's cache, which holds whole files only."""
    from huggingface_hub import try_to_load_from_cache

    names = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
    config = try_to_load_from_cache(REPOSITORY, f"{SUBFOLDER}/config.json")
    weights = [try_to_load_from_cache(REPOSITORY, f"{SUBFOLDER}/{name}") for name in names]
    return (
        Path(config).parent
        if isinstance(config, str) and any(isinstance(w, str) for w in weights)
        else None
    )


def _download() -> Path:
    from huggingface_hub import hf_hub_download

    print(
        f"{TITLE} is not on this machine; downloading it from https://huggingface.co/{REPOSITORY}"
    )
    try:
        config = hf_hub_download(REPOSITORY, f"{SUBFOLDER}/config.json")
        hf_hub_download(REPOSITORY, f"{SUBFOLDER}/diffusion_pytorch_model.safetensors")
    except Exception as error:
        # The client has errors of its own; some take several lines.
        raise NotAvailable(
            f"{TITLE} could not be downloaded ({_reason(error)}): {REMEDY}, or try again with a "
            "network"
        ) from None
    return Path(config).parent


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def at_hand() -> bool:
    """Whether the weights are on this machine; nothing is read."""
    return bool(_local() or _cached())


def find_stable() -> StableDiffusion | None:
    """The autoencoder if its weights are on this machine, else None."""
    folder = _local() or _cached()
    return None if folder is None else _read(folder)


def get_stable() -> StableDiffusion:
    """The autoencoder, downloaded if it must be; raises :class:`NotAvailable` and
    :class:`DataCorrupt`.
    """
    return find_stable() or _read(_download())


def _read(folder: Path) -> StableDiffusion:
    changed = tuple(
        sorted(
            (p.name, p.stat().st_size, p.stat().st_mtime_ns)
            for p in folder.iterdir()
            if p.is_file()
        )
    )
    return StableDiffusion(*_load(folder, changed))


@lru_cache(maxsize=1)
def _load(folder: Path, changed: tuple) -> tuple[torch.nn.Module, str]:
    """The network in a folder and its identity, read again when a file there has ``changed``."""
    from diffusers import AutoencoderKL

    try:
        # It renames the parameters of older files, and would let missing ones be random.
        network, told = AutoencoderKL.from_pretrained(
            folder, output_loading_info=True, low_cpu_mem_usage=False, torch_dtype=torch.float32
        )
        wrong = [
            *told["missing_keys"],
            *told["unexpected_keys"],
            *told["mismatched_keys"],
            *told["error_msgs"],
        ]
    except Exception as error:
        # Torch, safetensors, json and diffusers each raise something else for a file that is cut
        # short.
        raise DataCorrupt(
            f"{folder} is not {TITLE} or not whole ({_reason(error)}): {REMEDY}"
        ) from None
    downs = len(network.config.block_out_channels) - 1
    if wrong or network.config.latent_channels != STABLE_LATENT[0] or downs != 3:
        why = (
            f"{len(wrong)} tensors do not fit, {wrong[0]}"
            if wrong
            else "its latents of a 256x256 image are not 4x32x32"
        )
        raise DataCorrupt(f"{folder} is not {TITLE} or not whole ({why}): {REMEDY}")
    return network, StableDiffusion(network).identity
