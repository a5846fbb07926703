"""Splits: what a data set is to the engine, and how parts are cut from it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mgd.data.transforms import Augment
from mgd.errors import InputError


class Split(ABC):
    """Labelled images, numbered from 0."""

    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def image(self, index: int) -> Tensor:
        """Returns one image, uint8 (3, H, W)."""

    def name(self, index: int) -> str:
        """Returns what to call an image in a message."""
        return f"image {index}"


class TensorSplit(Split):
    """Images in memory, uint8 (N, 3, H, W)."""

    def __init__(self, images: Tensor, labels: Sequence[int]):
        self.images, self.labels = images, labels

    def image(self, index: int) -> Tensor:
        """Returns one image, uint8 (3, H, W)."""
        return self.images[index]


class Subset(Split):
    """Some images of another split."""

    def __init__(self, whole: Split, indices: Sequence[int]):
        self.whole, self.indices = whole, indices
        self.labels = [whole.labels[index] for index in indices]

    def image(self, index: int) -> Tensor:
        """Returns one image, uint8 (3, H, W)."""
        return self.whole.image(self.indices[index])

    def name(self, index: int) -> str:
        """Returns what the whole calls it."""
        return self.whole.name(self.indices[index])


@dataclass(frozen=True)
class Splits:
    """A data set. Epochs are chosen on `valid`; `test`, if there is one, chooses nothing."""

    classes: list[str]
    train: Split
    valid: Split
    test: Split | None = None
    augment: Augment = "auto"
    """The training transform that suits these images; see `transforms.train_transform`."""

    def hold_out(self, share: float, seed: int) -> "Splits":
        """Cuts a validation part from `train`, so that the old `valid` becomes the test.

        Args:
            share: Of each class, in (0, 1).
            seed: The same seed cuts the same images.

        Raises:
            InputError: If a class is too small to be cut.

        Example:
            >>> from mgd.data import load_splits
            >>> held = load_splits("digits").hold_out(0.2, seed=0)
            >>> len(held.train), len(held.valid)
            (718, 179)
        """
        kept, held = _cut(self.train.labels, share, seed)
        left = {self.train.labels[index] for index in kept}
        for label, name in enumerate(self.classes):
            if label not in left:
                raise InputError(
                    f"`share` (={share}) leaves class '{name}' no training images; use a smaller "
                    "share, or add images to the class"
                )
        return replace(
            self,
            train=Subset(self.train, kept),
            valid=Subset(self.train, held),
            test=self.test or self.valid,
        )

    def take(self, num_images: int, seed: int) -> "Splits":
        """Keeps so many training images, the same share of each class.

        Args:
            num_images: From the number of classes to that of the training images.
            seed: The same seed keeps the same images.

        Raises:
            InputError: If there are fewer images, or `num_images` is below one for each class.
        """
        if not len(self.classes) <= num_images <= len(self.train):
            raise InputError(
                f"`num_images` (={num_images}) must be from {len(self.classes)}, one for each "
                f"class, to {len(self.train)}, which is all"
            )
        _, taken = _cut(self.train.labels, num_images / len(self.train), seed)
        return replace(self, train=Subset(self.train, taken))


def _cut(labels: Sequence[int], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Splits image numbers into (rest, taken), at random, `share` of each class taken."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator).tolist()
    members: dict[int, list[int]] = {}
    for index in order:
        members.setdefault(labels[index], []).append(index)
    taken = [
        index for group in members.values() for index in group[: max(1, round(len(group) * share))]
    ]
    return sorted(set(order) - set(taken)), sorted(taken)
