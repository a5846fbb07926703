"""Boxes: images with the objects on them, for training, validation and test."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from mgd.data.decode import BitDepth, decode
from mgd.data.loading import Key, drawing_from, mix
from mgd.errors import InputError

logger = logging.getLogger(__name__)

Target = dict[str, Tensor]
"""`boxes` (N, 4) float32, left, top, right and bottom in pixels; `labels` (N,), from 1 on; and
`crowd` (N,), bool."""
Known = TypeVar("Known")
"""What is known of an image: a `Target`, or a label."""
_ROUNDING = 1.0
"""Pixels by which a box may lie outside its image, as rounding makes it; it is then cut."""
_LEAST = 1.0
"""Pixels that a side of a box has at least after a random change; a narrower one is left out."""


@dataclass(frozen=True)
class Box:
    """An object on an image."""

    label: int
    """Number of its class, from 1 on: detectors keep 0 for what is no object."""
    corners: tuple[float, float, float, float]
    """Left, top, right and bottom edge, in pixels from the left and upper edge of the image."""
    is_crowd: bool = False
    """Whether it is too difficult, or a group of objects: neither trained on nor measured."""


@dataclass(frozen=True)
class BoxedImage:
    """An image file and the objects on it; there may be none."""

    path: str
    width: int
    height: int
    boxes: tuple[Box, ...]


class BoxSplit:
    """Images with boxes, numbered from 0. An image is decoded only when it is asked for.

    Args:
        images: The files.
        bit_depth: How many bits the grey values in 16-bit files have; see `decode`.
    """

    def __init__(self, images: Sequence[BoxedImage], bit_depth: BitDepth = "auto"):
        self.images, self.bit_depth = list(images), bit_depth

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_boxes(self) -> int:
        """Number of the boxes on all images that are trained on or measured."""
        return sum(not box.is_crowd for each in self.images for box in each.boxes)

    def image(self, index: int) -> Tensor:
        """Decodes one image to uint8 RGB, (3, H, W).

        Raises:
            InputError: As `decode`, and for a file of another size than its boxes are for.
        """
        given = self.images[index]
        image = decode(given.path, self.bit_depth)
        height, width = image.shape[-2:]
        if (width, height) != (given.width, given.height):
            is_turned = (height, width) == (given.width, given.height)
            turned = ", as its EXIF orientation turns it" if is_turned else ""
            raise InputError(
                f"'{given.path}' has {width} x {height} px{turned}, but its boxes are for "
                f"{given.width} x {given.height}; correct the size in the annotations, or the file"
            )
        return image

    def target(self, index: int) -> Target:
        """Returns what is on one image."""
        boxes = self.images[index].boxes
        corners = torch.tensor([box.corners for box in boxes], dtype=torch.float32)
        return {
            "boxes": corners.reshape(-1, 4),
            "labels": torch.tensor([box.label for box in boxes], dtype=torch.int64),
            "crowd": torch.tensor([box.is_crowd for box in boxes], dtype=torch.bool),
        }

    def name(self, index: int) -> str:
        """Returns the file's path."""
        return self.images[index].path


@dataclass(frozen=True)
class BoxSplits:
    """A data set of images with boxes. The best epoch is chosen on `valid`."""

    classes: list[str]
    """Names of the classes; the first has the number 1."""
    train: BoxSplit
    valid: BoxSplit
    test: BoxSplit | None = None
    """Images that choose nothing, if there are such."""


class BoxDataset(Dataset[tuple[Tensor, Target]]):
    """The images of a split with their boxes; the random changes are reproducible.

    Args:
        split: Where they come from.
        changes: The random changes, if any: a function of (seed, epoch, image number).
        seed: Of the changes.
    """

    def __init__(self, split: BoxSplit, changes: v2.Transform | None, seed: int):
        self.split, self.changes, self.seed = split, changes, seed

    def __getitem__(self, key: Key) -> tuple[Tensor, Target]:
        epoch, index = key
        image, target = self.split.image(index), self.split.target(index)
        if self.changes is None:
            return image, target
        height, width = image.shape[-2:]
        target["boxes"] = tv_tensors.BoundingBoxes(
            target["boxes"], format="XYXY", canvas_size=(height, width)
        )
        with drawing_from(mix(self.seed, epoch, index)):
            image, target = self.changes(tv_tensors.Image(image), target)
        target["boxes"] = target["boxes"].as_subclass(Tensor).clone()
        return image.as_subclass(Tensor).contiguous(), target


def random_box_changes() -> v2.Transform:
    """Returns a flip, and a crop of half to all of each side, that keeps the boxes' centres in it.

    The crop is that of Liu et al., "SSD", ECCV 2016, https://arxiv.org/abs/1512.02325: one
    time in seven the whole image, else one that overlaps some box by a share drawn at random.
    """
    return v2.Compose(
        [
            v2.RandomIoUCrop(min_scale=0.5, min_aspect_ratio=0.75, max_aspect_ratio=1.33),
            v2.RandomHorizontalFlip(),
            v2.SanitizeBoundingBoxes(
                min_size=_LEAST, labels_getter=lambda sample: _of_each_box(sample[1])
            ),
        ]
    )


def _of_each_box(target: Target) -> tuple[Tensor, ...]:
    return target["labels"], target["crowd"]


def as_lists(examples: Sequence[tuple[Tensor, Known]]) -> tuple[list[Tensor], list[Known]]:
    """Joins examples to a batch of lists, since the images have sizes of their own."""
    images, targets = zip(*examples, strict=True)
    return list(images), list(targets)


def checked_size(size: Iterable[float], where: str) -> tuple[int, int]:
    """Returns the width and height of an image, of which an annotation says anything.

    Args:
        size: Width and height, in pixels.
        where: File and number of the image, for an error.

    Raises:
        InputError: For a size that no image has.
    """
    width, height = size
    if not all(each >= 1 and float(each).is_integer() for each in (width, height)):  # also of NaN
        raise InputError(
            f"{where}: the size of the image is {width:g} x {height:g} px, and needed are whole "
            "numbers from 1 on; correct it"
        )
    return int(width), int(height)


def checked_box(
    label: int,
    corners: Sequence[float],
    size: tuple[int, int],
    where: str,
    is_crowd: bool = False,
) -> Box:
    """Makes a box of what an annotation says.

    Args:
        label: Number of its class.
        corners: Left, top, right and bottom edge, in pixels.
        size: Width and height of the image.
        where: File and number of the box, for an error.
        is_crowd: See `Box`.

    Raises:
        InputError: For a box outside its image, or of no area.
    """
    (left, top, right, bottom), (width, height) = corners, size
    shown = f"{left:g}, {top:g}, {right:g}, {bottom:g}"
    if not (left < right and top < bottom):  # also of NaN
        raise InputError(
            f"{where}: the box ({shown}) has no area; correct it, or remove the object"
        )
    most = width + _ROUNDING, height + _ROUNDING
    if min(left, top) < -_ROUNDING or right > most[0] or bottom > most[1]:
        raise InputError(
            f"{where}: the box ({shown}) lies outside its image of {width} x {height} px; correct "
            "it, or remove the object"
        )
    inside = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise InputError(f"{where}: the box ({shown}) lies outside its image; remove the object")
    return Box(label, inside, is_crowd)


def check_parts(splits: BoxSplits, data: str) -> None:
    """Checks that there is something to train on and to choose the epoch by.

    An image that is in two parts gets a warning: what is measured on it says little.

    Raises:
        InputError: If a part has no images, or no image of it has a box; or if an image is there
            twice in a part, where the boxes of one time are missing the other time.
    """
    parts: dict[str, str] = {}
    for name, part in _parts(splits):
        if not len(part):
            raise InputError(f"the part `{name}` of '{data}' has no images; add some")
        if not part.num_boxes:
            raise InputError(
                f"no image in the part `{name}` of '{data}' has a box; images without boxes are "
                "used, but some must have boxes (crowds and difficult objects do not count)"
            )
        numbers: dict[str, int] = {}
        for number, each in enumerate(part.images, start=1):
            path = os.path.normpath(each.path)
            if path in numbers:
                raise InputError(
                    f"'{path}' is image {numbers[path]} and image {number} of the part `{name}`; "
                    "keep one of the two, with the boxes of both"
                )
            numbers[path] = number
        shared = sorted(numbers.keys() & parts.keys())
        if shared:
            logger.warning(
                "the parts `%s` and `%s` share %d of their images, such as '%s'; what is measured "
                "on images that were trained on says little: take them out of one part",
                *(parts[shared[0]], name, len(shared), shared[0]),
            )
        parts.update(dict.fromkeys(numbers, name))


def _parts(splits: BoxSplits) -> Iterator[tuple[str, BoxSplit]]:
    yield "train", splits.train
    yield "valid", splits.valid
    if splits.test is not None:
        yield "test", splits.test
