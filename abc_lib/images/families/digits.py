"""Scikit-learn's digits, which every machine has: not in the paper."""

from pathlib import Path

import numpy as np
import torch

from abc_lib.ground.seeds import generator
from abc_lib.images.family import Family


def _load(root: Path, split: str) -> tuple[torch.Tensor, torch.Tensor, str]:
    """One of the two halves."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    # 1,024 images are for ensembles; the other 773 are never seen by one, so that whatever
    # has to be trained on something else (a classifier, say) can use them.
    order = torch.randperm(len(digits.images), generator=generator("digits split"))
    chosen = {"ensemble": order[:1024], "held out": order[1024:]}[split]
    # Grey levels are 0..16; 255 / 16 keeps white at exactly 255.
    images = torch.from_numpy((digits.images * 255 / 16).round().astype(np.uint8))[:, None]
    labels = torch.from_numpy(digits.target).long()
    return images[chosen], labels[chosen], f"scikit-learn digits, {split} half"


FAMILY = Family(
    name="digits",
    title="digits",
    shape=(1, 8, 8),
    splits=("ensemble", "held out"),
    reference={"ensemble": "held out"},
    present=lambda root, split: True,
    read=_load,
    unseen="held out",
    steps=20_000,
    laptop_members=14,
)
