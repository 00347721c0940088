"""Fashion-MNIST: clothes in IDX files, checked by their MD5."""

from abc_lib.images.family import Family
from abc_lib.images.formats import IdxFiles

MD5 = {
    "t10k-images": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels": "15d484375f8d13e6eb1aabb0c3f46965",
    "train-images": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels": "9018921c3c673c538a1fc5bad174d6f9",
}
_FILES = IdxFiles("Fashion-MNIST", ("fashion", "FashionMNIST/raw"), MD5)

FAMILY = Family(
    name="fashion",
    title="Fashion-MNIST",
    shape=(1, 32, 32),
    splits=("train", "test"),
    reference={"test": "train"},
    present=_FILES.present,
    read=_FILES.load,
    folder="fashion",
    torchvision="FashionMNIST",
    flips=True,
    unseen="train",
    steps=0,
    laptop_members=16,
)
