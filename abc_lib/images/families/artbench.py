"""ArtBench-10: paintings of ten styles, whose data sources are the artists (B.1).

Two layouts of the official 256x256 images are understood, in ``artbench/`` or right in
the data folder:

- ``artbench-10-imagefolder-split/{train,test}/<style>/<artist>_<title>.jpg``,
- ``artbench-10-imagefolder/<style>/<artist>_<title>.jpg`` with ``ArtBench-10.csv``, which
  says which split an image is in.

Where ``ArtBench-10.csv`` is there, it names the artists; otherwise files' names do. The split
``landscapes`` holds the landscape paintings of ``train``, picked by what OpenCLIP sees in them.
"""

import csv
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from abc_lib.ground.errors import DataCorrupt
from abc_lib.ground.here import Here
from abc_lib.images.family import Family
from abc_lib.images.files import ImageFiles, numbered, odd_images, read_text

_SPLIT = "artbench-10-imagefolder-split"
_WHOLE = "artbench-10-imagefolder"
_LIST = "ArtBench-10.csv"


def _folder(root: Path) -> Path | None:
    for folder in (root / "artbench", root):
        if (folder / _SPLIT).is_dir() or (folder / _WHOLE).is_dir():
            return folder
    return None


def _present(root: Path, split: str) -> bool:
    return _folder(root) is not None


def _listed(path: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """Style and name of each image in the csv file, with its artist and its split."""
    rows = list(csv.DictReader(io.StringIO(read_text(path, "ArtBench-10"))))
    if not rows or not {"name", "artist", "label", "split"} <= set(rows[0]):
        raise DataCorrupt(
            f"{path} has no columns name, artist, label and split; replace it with a fresh copy"
        )
    return {(row["label"], row["name"]): (row["artist"], row["split"]) for row in rows}


def _artist(name: str, where: Path) -> str:
    artist, mark, _ = name.partition("_")
    if not (artist and mark):
        raise DataCorrupt(
            f"{where / name} does not begin with its artist and '_'; put {_LIST} beside the "
            "images, or restore its name"
        )
    return artist


def _load(root: Path, split: str) -> tuple[ImageFiles, torch.Tensor, str]:
    """A split: 256x256 images; labels are the styles by name, owners the artists by name."""
    if split == "landscapes":
        images, labels, _ = _load(root, "train")
        taken = are_landscapes(cosines(images))
        return (
            images.select(taken),
            labels[taken],
            "ArtBench-10 train split, landscapes by OpenCLIP",
        )
    folder = _folder(root)
    places = [folder / _LIST, folder / _SPLIT / _LIST, folder / _WHOLE / _LIST]
    table = next((path for path in places if path.is_file()), None)
    listed = _listed(table) if table else {}
    if (folder / _SPLIT).is_dir():
        images = folder / _SPLIT / split
        keys = [(path.parent.name, path.name) for path in images.glob("*/*.jpg")]
    else:
        images = folder / _WHOLE
        if table is None:
            raise DataCorrupt(
                f"{folder / _LIST} is missing, and {images} does not say which split an image is "
                "in; put the file there"
            )
        keys = [key for key, (_, part) in listed.items() if part == split]
    keys.sort()
    if not keys:
        raise DataCorrupt(
            f"{images} holds no images of the {split} split; unpack ArtBench-10 again"
        )
    artists = [
        listed[key][0] if key in listed else _artist(key[1], images / key[0]) for key in keys
    ]
    names = tuple(f"{style}/{name}" for style, name in keys)
    files = ImageFiles(
        title="ArtBench-10",
        root=images,
        names=names,
        owners=numbered(artists),
        owner="artist",
        expected=(256, 256),
        crop=256,
        size=256,
        odd=odd_images(),
    ).checked()
    styles = dict(zip(names, numbered(style for style, _ in keys).tolist()))
    return files, torch.tensor([styles[name] for name in files.names]), f"ArtBench-10 {split} split"


# --- landscape paintings ---

PHRASES = ("a realistic high quality landscape painting", "a blurry mess")
MODEL = "ViT-H-14-378-quickgelu"
_BATCH = 16


def are_landscapes(cosines: torch.Tensor) -> torch.Tensor:
    """Which images are taken, (K,), by their cosine similarities with the two phrases, (K, 2).

    Those with 0.25 or more to the first and below 0.2 to the second.
    """
    return (cosines[:, 0] >= 0.25) & (cosines[:, 1] < 0.2)


def load_clip(device: torch.device) -> tuple[torch.nn.Module, Callable]:
    """OpenCLIP "ViT-H-14-378-quickgelu" of "dfn5b", both halves, and its tokenizer."""
    from abc_lib.metrics.perceptual import CLIP, CLIP_PACKAGE, import_package, log_without
    from abc_lib.metrics.weights import fetch, misfit, read

    open_clip = import_package(*CLIP_PACKAGE, "the landscapes subset")
    path = fetch(CLIP, "the landscapes subset")
    with log_without("No pretrained weights loaded"):
        network = open_clip.create_model(MODEL)
    try:
        network.load_state_dict(read(path, CLIP))
    except RuntimeError as error:
        raise misfit(path, CLIP, error) from None
    return network.requires_grad_(False).eval().to(device), open_clip.get_tokenizer(MODEL)


@torch.inference_mode()
def _cosines(
    files: ImageFiles, network: torch.nn.Module, tokenizer: Callable, here: Here
) -> torch.Tensor:
    from abc_lib.ground.tasks import tqdm
    from abc_lib.metrics.perceptual import CLIP_INPUT

    phrases = F.normalize(network.encode_text(tokenizer(list(PHRASES)).to(here.device)), dim=-1)
    rows = []
    for start in tqdm(
        range(0, len(files), _BATCH),
        desc="OpenCLIP on ArtBench-10",
        unit="batch",
        mininterval=1.0,
        disable=not here.progress,
    ):
        images = CLIP_INPUT(files[start : start + _BATCH].to(here.device))
        embedded = F.normalize(network.encode_image(images), dim=-1)
        rows.append((embedded @ phrases.T).cpu())
    return torch.cat(rows)


def cosines(
    files: ImageFiles, load: Callable = load_clip, here: Here | None = None
) -> torch.Tensor:
    """Cosine similarities of the images' OpenCLIP embeddings with the two phrases', (K, 2) float32.

    They take hours on a CPU and are kept in the cache. The whole image is seen, as by the
    metric ``openclip``. Raises :class:`NotAvailable` where the package or its weights are
    missing.
    """
    here = here or Here()
    spec = {
        "images": files.fingerprint,
        "phrases": list(PHRASES),
        "model": MODEL,
        "pretrained": "dfn5b",
    }
    artefact = here.store.find("cosines", "artbench", spec)
    if artefact is None:
        values = _cosines(files, *load(here.device), here)
        info = {
            "sha256": hashlib.sha256(values.numpy().tobytes()).hexdigest(),
            "taken": int(are_landscapes(values).sum()),
        }
        content = {"cosines.safetensors": {"cosines": values}}
        artefact = here.store.write("cosines", "artbench", spec, content, info, here.device)
    return artefact.tensors("cosines.safetensors")["cosines"]


FAMILY = Family(
    name="artbench",
    title="ArtBench-10",
    shape=(3, 256, 256),
    splits=("train", "test", "landscapes"),
    reference={"train": "test"},
    present=_present,
    read=_load,
    folder="artbench",
    remedy=f"download {_SPLIT}.tar and {_LIST} from https://github.com/liaopeiyuan/artbench "
    "and put them, the tar unpacked, into artbench/",
    flips=True,
    laptop_members=16,
)
