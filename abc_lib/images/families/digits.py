"""Scikit-learn's digits, which every machine has."""

import numpy as np
import torch

from abc_lib.ground.seeds import generator


def load(split: str) -> tuple[torch.Tensor, torch.Tensor, str]:
    """One of the two halves."""
    from sklearn.datasets import load_digits

    found = load_digits()
    # 1,024 images are for ensembles; the other 773 are never seen by one, so that whatever
    # has to be trained on something else (a classifier, say) can use them.
    order = torch.randperm(len(found.images), generator=generator("digits split"))
    chosen = {"ensemble": order[:1024], "held out": order[1024:]}[split]
    # Grey levels are 0..16; 255 / 16 keeps white at exactly 255.
    images = torch.from_numpy((found.images * 255 / 16).round().astype(np.uint8))[:, None]
    return (
        images[chosen],
        torch.from_numpy(found.target).long()[chosen],
        f"scikit-learn digits, {split} half",
    )
