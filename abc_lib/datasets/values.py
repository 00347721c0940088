"""The images of an ensemble and who owns them, as a value."""

import dataclasses
import hashlib
from dataclasses import dataclass

import torch

from .files import ImageFiles


@dataclass(frozen=True)
class TrainingSet:
    """The images of an ensemble and who owns them.

    ``images`` (K, C, H, W) float32 in [0, 1], or :class:`ImageFiles` that read as such a
    tensor; ``labels`` (K,) int64; ``sources`` (K,) int64 in 0..N-1; ``where`` (K,) int64,
    each image's index in its split; ``origin`` says in words which copy of the data this is.
    """

    images: torch.Tensor | ImageFiles
    labels: torch.Tensor
    sources: torch.Tensor
    where: torch.Tensor
    origin: str

    def __len__(self) -> int:
        return len(self.images)

    def of_sources(self, sources) -> "TrainingSet":
        """Only the images of some sources, in their order here."""
        return self._only(torch.isin(self.sources, torch.as_tensor(sources, dtype=torch.int64)))

    def without(self, source: int) -> "TrainingSet":
        """Everything but one source's images; the other sources keep their numbers."""
        return self._only(self.sources != source)

    def _only(self, keep: torch.Tensor) -> "TrainingSet":
        images = self.images.select(keep) if isinstance(self.images, ImageFiles) else self.images[keep]
        return dataclasses.replace(self, images=images, labels=self.labels[keep], sources=self.sources[keep], where=self.where[keep])

    @property
    def fingerprint(self) -> str:
        """A hash of the images in their order, whoever owns them: of pixels, or of files' names and sizes."""
        if isinstance(self.images, ImageFiles):
            return self.images.fingerprint
        return hashlib.sha256(self.images.numpy().tobytes()).hexdigest()

    @property
    def checksum(self) -> str:
        """SHA-256 of images and sources: two sets with the same one train the same members."""
        lazy = isinstance(self.images, ImageFiles)
        digest = hashlib.sha256(self.images.fingerprint.encode() if lazy else self.images.numpy().tobytes())
        digest.update(self.sources.numpy().tobytes())
        return digest.hexdigest()
