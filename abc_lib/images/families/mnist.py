"""MNIST: handwritten digits in IDX files, checked by their MD5."""

from abc_lib.images.family import Family
from abc_lib.images.formats import IdxFiles

MD5 = {
    "t10k-images": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels": "27ae3e4e09519cfbb04c329615203637",
    "train-images": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels": "a25bea736e30d166cdddb491f175f624",
}
_FILES = IdxFiles("MNIST", ("mnist", "MNIST/raw"), MD5)

FAMILY = Family(
    name="mnist",
    title="MNIST",
    shape=(1, 32, 32),
    splits=("train", "test"),
    reference={"test": "train"},
    present=_FILES.present,
    read=_FILES.load,
    folder="mnist",
    torchvision="MNIST",
    unseen="train",
    steps=0,
    laptop_members=16,
)
