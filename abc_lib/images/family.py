"""What a family of images is (B.1): a value that its file in ``families`` makes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from abc_lib.images.files import ImageFiles
from abc_lib.method.recipe import Shape

Split = tuple[torch.Tensor | ImageFiles, torch.Tensor, str]
"""images, uint8 (K, C, H, W) or in their files; labels int64 (K,); where they come from"""


@dataclass(frozen=True)
class Family:
    """A data set that ensembles are drawn from: what it is called, where it lies, how it is read.

    ``present(root, split)`` says whether a data folder has a split, ``read(root, split)`` reads it
    from a folder that has it. What cannot be downloaded through ``torchvision`` has a ``remedy``.
    """

    name: str
    title: str
    """its name in a sentence"""
    shape: Shape
    splits: tuple[str, ...]
    """empty where any digest may name one"""
    present: Callable[[Path, str], bool]
    read: Callable[[Path, str], Split]
    folder: str = ""
    """what to put into a data folder; empty where it is built in"""
    torchvision: str = ""
    """its class in ``torchvision.datasets``, which downloads it"""
    remedy: str = ""
    """where torchvision does not: what to fetch, and which folder to put it in"""
    scaled: Mapping[str, Shape] = field(default_factory=dict)
    """the shape of its images where a space takes another one (B.1), by space"""
    normalisation: tuple[float, float] = (0.5, 2.0)
    """shift and factor of its pixels (B.2)"""
    flips: bool = False
    """whether training mirrors its images (B.2)"""
    unseen: str = ""
    """a split that the ensembles in its latents do not see: its autoencoder is trained on it"""
    reference: Mapping[str, str] = field(default_factory=dict)
    """the split that samples are compared with in a FID (C.1), by the split their ensemble is from;
    without one it is that same split"""
    steps: int = 200_000
    """of training at the paper's scale, which the paper does not print; 0 where the authors'
    released script says it"""
    laptop_members: int = 20
    """n of all its ensembles at the laptop scale: enough codewords for the largest"""
