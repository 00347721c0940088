"""CIFAR-100: photographs of 100 kinds of things, in torchvision's folder or zips of JPEG files."""

from abc_lib.images.family import Family
from abc_lib.images.formats import CifarFiles

_FILES = CifarFiles("CIFAR-100", "CIFAR100", "cifar-100-python", "cifar100_jpeg")

FAMILY = Family(
    name="cifar100",
    title="CIFAR-100",
    shape=(3, 32, 32),
    splits=("train", "test"),
    reference={"train": "test"},
    present=_FILES.present,
    read=_FILES.load,
    folder="cifar-100-python",
    torchvision="CIFAR100",
    # B.2 prints (x - 1) * 4, which would put images in [-4, 0]. It also says that data were
    # normalised to mean 0 and standard deviation 1; (x - 0.5) * 4 does nearly that on [0, 1] and
    # is what we take it to mean.
    normalisation=(0.5, 4.0),
    flips=True,
    unseen="test",
)
