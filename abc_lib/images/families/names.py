"""What the families are called, by us, by torchvision, and in a sentence."""

TITLES = {
    "digits": "digits",
    "mnist": "MNIST",
    "fashion": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "celeba": "CelebA",
    "metfaces": "MetFaces",
    "artbench": "ArtBench-10",
}
TORCHVISION = {
    "mnist": "MNIST",
    "fashion": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}
REMEDIES = {
    "celeba": "download img_align_celeba.zip, identity_CelebA.txt and list_eval_partition.txt from "
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and put them, the zip unpacked, into celeba/",
    "metfaces": "download metfaces.json and images/ from https://github.com/NVlabs/metfaces-dataset and put them into metfaces/",
    "artbench": "download artbench-10-imagefolder-split.tar and ArtBench-10.csv from https://github.com/liaopeiyuan/artbench "
    "and put them, the tar unpacked, into artbench/",
}
"""for the families that torchvision does not download here: what to fetch, and which folder to put it in"""
