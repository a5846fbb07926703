"""Canvas: the pixels that a network's layers see, where the network resizes and pads its images.

A detector of torchvision takes images of different sizes. Its transform resizes each and puts it at
the top left of a canvas that is as large as the largest. Maps of features lie over the canvas; what
a map has beyond an image belongs to no image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from mgd.errors import InputError
from mgd.inside.modes import evaluating

Images = Num[Tensor, "batch colours height width"] | Sequence[Num[Tensor, "colours _ _"]]
"""A batch of images of one size, or a list of images (C, H, W) as detectors take them."""
Size = tuple[int, int]


@dataclass(frozen=True)
class Canvas:
    """Where the images of a batch lie in what a network's layers see.

    Example:
        >>> from mgd import Canvas
        >>> canvas = Canvas((4, 6), image_sizes=((4, 3), (2, 6)), original_sizes=((8, 6), (4, 12)))
        >>> canvas.mask()[1].tolist()[1:3]
        [[1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    """

    size: Size
    """(H, W) of the canvas in pixels."""
    image_sizes: tuple[Size, ...]
    """(h, w) of each image in it, at the top left."""
    original_sizes: tuple[Size, ...]
    """(h, w) of each image as it was given."""

    @property
    def is_filled(self) -> bool:
        """Whether every image fills it, so that there is no padding."""
        return all(size == self.size for size in self.image_sizes)

    def mask(self) -> Float[Tensor, "batch height width"]:
        """Returns 1 where an image is and 0 where padding is."""
        inside = torch.zeros(len(self.image_sizes), *self.size)
        for part, (height, width) in zip(inside, self.image_sizes, strict=True):
            part[:height, :width] = 1
        return inside


def canvas_of(network: nn.Module, images: Images) -> Canvas:
    """Returns where the images lie in what a network's layers see.

    Args:
        network: One with torchvision's `GeneralizedRCNNTransform`, as its detectors have it, is
            asked; any other takes the images as they are.
        images: A tensor, or a list of images.

    Raises:
        InputError: For a list of images of different sizes and a network whose canvas is unknown.

    Example:
        >>> import torch
        >>> from mgd.inside import canvas_of
        >>> canvas_of(torch.nn.ReLU(), torch.zeros(2, 3, 8, 8)).size
        (8, 8)
    """
    originals = tuple((image.shape[-2], image.shape[-1]) for image in images)
    transform = find_transform(network)
    if transform is not None:
        # On the meta device an image has a size but no pixels, so that this takes no time.
        without_pixels = [torch.empty(image.shape, device="meta") for image in images]
        with evaluating(transform):  # in training mode it draws a random number for the size
            batch, _ = transform(without_pixels)
        height, width = batch.tensors.shape[-2:]
        return Canvas((height, width), tuple(batch.image_sizes), originals)
    if len(set(originals)) != 1:
        raise InputError(
            f"the images have {len(set(originals))} different sizes, and {type(network).__name__} "
            "has no GeneralizedRCNNTransform of torchvision, so where it puts them is unknown; "
            "give images of one size, padded ones with `weights` that are 0 in the padding"
        )
    return Canvas(originals[0], originals, originals)


def find_transform(network: nn.Module) -> GeneralizedRCNNTransform | None:
    """Returns the module that resizes and pads a detector's images; `None` if there is none."""
    modules = network.modules()
    return next((each for each in modules if isinstance(each, GeneralizedRCNNTransform)), None)


def check_one_canvas(teacher: nn.Module, student: nn.Module) -> None:
    """Checks that two networks put the same pixel at the same place.

    Raises:
        InputError: If their transforms differ, or choose a size at random.
    """
    transforms = {"teacher": find_transform(teacher), "student": find_transform(student)}
    places = {}
    for owner, transform in transforms.items():
        if transform is None:
            continue
        if len(transform.min_size) > 1:
            raise InputError(
                f"the {owner} chooses its `min_size` at random from {transform.min_size}, so the "
                "two networks would see an image at different sizes; give one, and resize images "
                "at random before both networks"
            )
        places[owner] = _places(transform)
    if len(places) == 2 and places["teacher"] != places["student"]:
        raise InputError(
            f"teacher and student resize images differently: {places['teacher']} and "
            f"{places['student']}; make both detectors with the same values"
        )


def _places(transform: GeneralizedRCNNTransform) -> str:
    if transform.fixed_size is not None:
        return f"fixed_size={tuple(transform.fixed_size)}"
    values = {
        "min_size": transform.min_size[0],
        "max_size": transform.max_size,
        "size_divisible": transform.size_divisible,
    }
    return ", ".join(f"{name}={value}" for name, value in values.items())
