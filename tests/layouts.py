"""Tiny data sets in the layouts that the real ones unpack to."""

import csv
import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    """A smooth RGB image of ``size`` (width, height), unlike that of any other seed."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BILINEAR)


def celeba(root: Path, counts: tuple[int, ...] = (3, 2, 4, 3, 2, 3), test: int = 4) -> Path:
    """``counts`` images of each of some celebrities (numbers 10, 20, ...) in the training split,
    one by one, and some others.
    """
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    people = [10 * (k + 1) for k, many in enumerate(counts) for _ in range(many)]
    rows = [(person, 0) for person in people] + [(5, 1)] + [(7, 2)] * test
    names = [f"{k + 1:06d}.jpg" for k in range(len(rows))]
    for k, name in enumerate(names):
        picture(k, (178, 218)).save(folder / "img_align_celeba" / name)
    (folder / "identity_CelebA.txt").write_text(
        "".join(f"{n} {person}\n" for n, (person, _) in zip(names, rows))
    )
    (folder / "list_eval_partition.txt").write_text(
        "".join(f"{n} {part}\n" for n, (_, part) in zip(names, rows))
    )
    return folder


ARTISTS = ("Rembrandt", "Gilbert Stuart", "", "Rembrandt ", "Goya", "")


def metfaces(root: Path) -> Path:
    """Six images of three artists with names and two works without one."""
    folder = root / "metfaces"
    (folder / "images").mkdir(parents=True)
    entries = []
    for k, artist in enumerate(ARTISTS):
        path = f"images/{100 + k}-00.png"
        picture(k, (1024, 1024)).save(folder / path, compress_level=1)
        entries.append(
            {
                "obj_id": str(100 + k),
                "image_path": path,
                "title": "Portrait",
                "artist_display_name": artist,
                "face_idx": 0,
            }
        )
    (folder / "metfaces.json").write_text(json.dumps(entries))
    return folder


PAINTINGS = {
    "baroque": ("abraham-storck_view.jpg", "abraham-storck_harbour.jpg", "guido-reni_saint.jpg"),
    "realism": ("ilya-repin_barge.jpg", "ilya-repin_cossacks.jpg", "camille-corot_landscape.jpg"),
}


def artbench(root: Path, layout: str = "split", table: bool = False) -> Path:
    """Six paintings of four artists in the training split and one in the test split, in either
    layout.
    """
    folder = root / "artbench"
    rows, seed = [], 0
    for split, styles in (
        ("train", PAINTINGS),
        ("test", {"baroque": ("peter-paul-rubens_hunt.jpg",)}),
    ):
        for style, names in styles.items():
            where = (
                folder
                / (
                    "artbench-10-imagefolder-split/" + split
                    if layout == "split"
                    else "artbench-10-imagefolder"
                )
                / style
            )
            where.mkdir(parents=True, exist_ok=True)
            for name in names:
                picture(seed, (256, 256)).save(where / name)
                seed += 1
                rows.append(
                    {
                        "name": name,
                        "artist": name.split("_")[0].title(),
                        "label": style,
                        "split": split,
                    }
                )
    if table or layout == "whole":
        with open(folder / "ArtBench-10.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


def idx(root: Path, family: str) -> dict[str, bytes]:
    """Thirty images of both splits as IDX files; their content by part, as ``t10k-images``."""
    rng, found = np.random.default_rng(len(family)), {}
    folder = root / family
    folder.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        for kind, array in (
            ("images", rng.integers(0, 256, (30, 28, 28))),
            ("labels", np.arange(30) % 10),
        ):
            head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(
                f">{array.ndim}I", *array.shape
            )
            found[f"{prefix}-{kind}"] = head + array.astype(np.uint8).tobytes()
            (folder / f"{prefix}-{kind}-idx{array.ndim}-ubyte").write_bytes(
                found[f"{prefix}-{kind}"]
            )
    return found


def jpeg_zips(root: Path, family: str) -> None:
    """Thirty images of ten classes in each split, as zips of JPEG files."""
    folder = root / f"{family}_jpeg"
    folder.mkdir(parents=True)
    for seed, split in enumerate(("train", "test")):
        with zipfile.ZipFile(folder / f"{split}.zip", "w") as archive:
            for k in range(30):
                buffer = io.BytesIO()
                picture(100 * seed + k, (32, 32)).save(buffer, "JPEG")
                archive.writestr(f"class{k % 10}/{k}.jpg", buffer.getvalue())
