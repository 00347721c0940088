"""The landscape paintings of ArtBench, picked by what OpenCLIP sees in them (B.1)."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from abc_lib.ground.store import Store
from abc_lib.images.files import ImageFiles

PHRASES = ("a realistic high quality landscape painting", "a blurry mess")
MODEL = "ViT-H-14-378-quickgelu"
_BATCH = 16


def are_landscapes(cosines: torch.Tensor) -> torch.Tensor:
    """Which images are taken, (K,), by their cosine similarities with the two phrases, (K, 2): 0.25 or more, and below 0.2."""
    return (cosines[:, 0] >= 0.25) & (cosines[:, 1] < 0.2)


def load_clip(device: torch.device) -> tuple[torch.nn.Module, Callable]:
    """OpenCLIP "ViT-H-14-378-quickgelu", pretrained on "dfn5b", both halves, and its tokenizer."""
    # Metrics are a higher room; this set alone is chosen by one of their networks.
    from abc_lib.metrics.perceptual import CLIP, CLIP_PACKAGE, _package, _without
    from abc_lib.metrics.weights import fetch, misfit, read

    open_clip = _package(*CLIP_PACKAGE, "the landscapes subset")
    path: Path = fetch(CLIP, "the landscapes subset")
    with _without("No pretrained weights loaded"):
        network = open_clip.create_model(MODEL)
    try:
        network.load_state_dict(read(path, CLIP))
    except RuntimeError as error:
        raise misfit(path, CLIP, error) from None
    return network.requires_grad_(False).eval().to(device), open_clip.get_tokenizer(MODEL)


@torch.inference_mode()
def _cosines(
    files: ImageFiles, network: torch.nn.Module, tokenizer: Callable, device: torch.device
) -> torch.Tensor:
    from abc_lib.ground.tasks import tqdm
    from abc_lib.metrics.perceptual import CLIP_INPUT

    phrases = F.normalize(network.encode_text(tokenizer(list(PHRASES)).to(device)), dim=-1)
    found = []
    for start in tqdm(
        range(0, len(files), _BATCH), desc="OpenCLIP on ArtBench-10", unit="batch", mininterval=1.0
    ):
        images = network.encode_image(CLIP_INPUT(files[start : start + _BATCH].to(device)))
        found.append((F.normalize(images, dim=-1) @ phrases.T).cpu())
    return torch.cat(found)


def cosines(
    files: ImageFiles,
    store: Store | None = None,
    device: str | torch.device = "auto",
    load: Callable = load_clip,
) -> torch.Tensor:
    """Cosine similarities of the images' OpenCLIP embeddings with those of the two phrases, (K, 2) float32.

    They take hours on a CPU and are kept in the cache. The whole image is seen, as by the
    metric ``openclip``. Raises :class:`NotAvailable` where the package or its weights are
    missing.
    """
    from abc_lib.ground.devices import resolve_device

    store = store or Store()
    spec = {
        "images": files.fingerprint,
        "phrases": list(PHRASES),
        "model": MODEL,
        "pretrained": "dfn5b",
    }
    found = store.find("cosines", "artbench", spec)
    if found is None:
        device = resolve_device(device) if isinstance(device, str) else device
        network, tokenizer = load(device)
        values = _cosines(files, network, tokenizer, device)
        info = {
            "sha256": hashlib.sha256(values.numpy().tobytes()).hexdigest(),
            "taken": int(are_landscapes(values).sum()),
        }
        found = store.write(
            "cosines", "artbench", spec, {"cosines.safetensors": {"cosines": values}}, info, device
        )
    return found.tensors("cosines.safetensors")["cosines"]
