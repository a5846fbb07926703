"""Splits: the labelled images of a data set for training, validation and test."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mgd.data.transforms import Augment
from mgd.errors import InputError


class Split(ABC):
    """Labelled images, numbered from 0. `labels` has the class number of each."""

    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def image(self, index: int) -> Tensor:
        """Returns one image, uint8 (3, H, W)."""

    def name(self, index: int) -> str:
        """Returns the name of an image for messages."""
        return f"image {index}"

    def mark(self, index: int) -> bytes:
        """Returns what tells an image from any other: its values, where nothing else does."""
        image = self.image(index).contiguous()
        return hashlib.sha256(f"{tuple(image.shape)}".encode() + image.numpy().tobytes()).digest()

    def digest(self) -> str:
        """Returns a digest of the images and their order. Labels take no part."""
        every = hashlib.sha256()
        for index in range(len(self)):
            mark = self.mark(index)
            every.update(len(mark).to_bytes(8, "little") + mark)
        return every.hexdigest()


class TensorSplit(Split):
    """Images in memory.

    Args:
        images: uint8 (N, 3, H, W).
        labels: N class numbers.
    """

    def __init__(self, images: Tensor, labels: Sequence[int]):
        self.images, self.labels = images, labels

    def image(self, index: int) -> Tensor:
        """Returns one image, uint8 (3, H, W)."""
        return self.images[index]


class Subset(Split):
    """Some images of another split.

    Args:
        whole: The other split.
        indices: Numbers of the images in it.
    """

    def __init__(self, whole: Split, indices: Sequence[int]):
        self.whole, self.indices = whole, indices
        self.labels = [whole.labels[index] for index in indices]

    def image(self, index: int) -> Tensor:
        """Returns one image, uint8 (3, H, W)."""
        return self.whole.image(self.indices[index])

    def name(self, index: int) -> str:
        """Returns the name that the image has in the other split."""
        return self.whole.name(self.indices[index])

    def mark(self, index: int) -> bytes:
        """Returns what tells the image from any other, as the other split does."""
        return self.whole.mark(self.indices[index])


class Joined(Split):
    """Two splits as one: the images of the second are numbered after those of the first."""

    def __init__(self, first: Split, second: Split):
        self.first, self.second = first, second
        self.labels = [*first.labels, *second.labels]

    def _place(self, index: int) -> tuple[Split, int]:
        before = len(self.first)
        return (self.first, index) if index < before else (self.second, index - before)

    def image(self, index: int) -> Tensor:
        """Returns one image, uint8 (3, H, W)."""
        split, number = self._place(index)
        return split.image(number)

    def name(self, index: int) -> str:
        """Returns the name that the image has in its split."""
        split, number = self._place(index)
        return split.name(number)

    def mark(self, index: int) -> bytes:
        """Returns what tells the image from any other, as its split does."""
        split, number = self._place(index)
        return split.mark(number)


class Labelled(Split):
    """Another split's images, with labels that were found for them.

    Args:
        whole: The other split.
        labels: Class number of each image.
    """

    def __init__(self, whole: Split, labels: Sequence[int]):
        self.whole, self.labels = whole, labels

    def image(self, index: int) -> Tensor:
        """Returns one image, uint8 (3, H, W)."""
        return self.whole.image(index)

    def name(self, index: int) -> str:
        """Returns the name that the image has in the other split."""
        return self.whole.name(index)

    def mark(self, index: int) -> bytes:
        """Returns what tells the image from any other, as the other split does."""
        return self.whole.mark(index)


def renumbered(split: Split, numbers: Sequence[int]) -> Split:
    """Returns a split whose classes have other numbers.

    Args:
        split: Its images stay.
        numbers: New number of each class, by its old one; the last is that of the label -1.
    """
    return Labelled(split, [numbers[label] for label in split.labels])


@dataclass(frozen=True)
class Splits:
    """A data set: its classes and its splits.

    The best epoch is chosen on `valid`. `test`, if there is one, is only measured.
    """

    classes: list[str]
    """Names of the classes, in the order of their numbers."""
    train: Split
    valid: Split
    test: Split | None = None
    unlabelled: Split | None = None
    """Images to train on of which the class is not known: every label is -1."""
    augment: Augment = "auto"
    """The training transform that suits these images; see `transforms.train_transform`."""

    @property
    def trained_on(self) -> Split:
        """All images to train on: those with a label, and then those without."""
        return Joined(self.train, self.unlabelled) if self.unlabelled else self.train

    def with_classes(self, classes: Sequence[str]) -> "Splits":
        """Numbers the classes as a network does that knows them by name.

        Args:
            classes: Names in the order of the network's outputs: all of the data, and perhaps more.
        """
        if list(classes) == self.classes:
            return self
        numbers = [list(classes).index(name) for name in self.classes] + [-1]  # of no class
        test = renumbered(self.test, numbers) if self.test is not None else None
        return replace(
            self,
            classes=list(classes),
            train=renumbered(self.train, numbers),
            valid=renumbered(self.valid, numbers),
            test=test,
        )

    def hold_out(self, share: float, seed: int) -> "Splits":
        """Cuts a new `valid` from `train`; the old `valid` becomes `test`, unless there is one.

        Args:
            share: Share of the training images of each class to cut, in (0, 1).
            seed: The same seed cuts the same images.

        Raises:
            InputError: If a class would have no training images left.
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

    def hold_out_unlabelled(self, share: float, seed: int) -> "Splits":
        """Cuts `valid` from the images without a label.

        Args:
            share: Of these images, in (0, 1); at least one image is cut.
            seed: The same seed cuts the same images.

        Raises:
            InputError: If no image would be left.
        """
        assert self.unlabelled is not None
        kept, held = _cut(self.unlabelled.labels, share, seed)
        if not kept:
            raise InputError(
                f"`share` (={share}) leaves no image to train on; use a smaller one, or add images"
            )
        valid, rest = (Subset(self.unlabelled, numbers) for numbers in (held, kept))
        return replace(self, valid=valid, unlabelled=rest)

    def take(self, num_images: int, seed: int) -> "Splits":
        """Keeps a part of the training images, the same share of each class.

        Args:
            num_images: How many to keep, from the number of classes to the number of training
                images. Rounding in each class can change the total by a few.
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
    """Splits image numbers at random into (rest, taken); `taken` has `share` of each class."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator).tolist()
    members: dict[int, list[int]] = {}
    for index in order:
        members.setdefault(labels[index], []).append(index)
    taken = [
        index for group in members.values() for index in group[: max(1, round(len(group) * share))]
    ]
    return sorted(set(order) - set(taken)), sorted(taken)
