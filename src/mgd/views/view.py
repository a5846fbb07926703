"""View: how one network sees an image, as plain values, and the module that shows it so."""

import dataclasses
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as images_

from mgd.errors import InputError
from mgd.views.proof import prove
from mgd.views.sources import read_view
from mgd.views.values import MOST_PIXELS, Reader, choice, number, numbers, read_size

MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's red, green and blue, where white is 1."""
STD = (0.229, 0.224, 0.225)
"""Standard deviation of the same."""

Interpolation = Literal["nearest", "bilinear", "bicubic"]
Crop = Literal["center", "squash", "border"]
Colour = Literal["RGB", "BGR", "L"]

_READERS: dict[str, Reader] = {
    "mean": numbers(0, 1),
    "std": numbers(0.0001, 10),
    "size": read_size,
    "interpolation": choice(*get_args(Interpolation)),
    "crop_pct": number(0.01, 2),
    "crop": choice(*get_args(Crop)),
    "colour": choice(*get_args(Colour)),
}
# What a side of an image may be of the other: with more, the ends are cut off before it is resized.
_LONGEST = 16


@dataclass(frozen=True)
class View:
    """How a network sees an image, from the file to the numbers that go into the network.

    A network that is shown images with another mean, size or crop than in its training loses
    accuracy without an error. So a view is read from where the network comes from, and is kept
    with the weights.

    Args:
        mean: Subtracted from each colour, where white is 1; from 0 to 1. One value for each
            channel, in the order of the channels.
        std: Divides each colour after that; from 0.0001 to 10.
        size: Height and width that the network takes, in pixels; from 2 to 4096.
        interpolation: How an image is resized: "nearest", "bilinear" or "bicubic".
        crop_pct: Share of the resized image's side that evaluation keeps, from 0.01 to 2: the side
            is `floor(size / crop_pct)` before the centre of `size` is cut out. Above 1 the image
            gets a border.
        crop: What is resized to that side. "center": the shorter side, so that the ends of a long
            image are lost; "squash": both sides, whatever the proportions; "border": the longer
            side, with a border of the mean colour.
        colour: "RGB", "BGR" or "L", which is grey.

    Raises:
        InputError: For a value out of range.

    Example:
        >>> import torch, mgd
        >>> view = mgd.View(size=32, crop_pct=1.0)
        >>> photo = torch.randint(256, (3, 60, 80), dtype=torch.uint8)
        >>> view(photo).shape
        torch.Size([3, 32, 32])
        >>> print(view)
        32 px, center 100 %, bilinear, mean and std of ImageNet
    """

    mean: Sequence[float] = MEAN
    std: Sequence[float] = STD
    size: int = 224
    interpolation: Interpolation = "bilinear"
    crop_pct: float = 0.875
    crop: Crop = "center"
    colour: Colour = "RGB"

    def __post_init__(self) -> None:
        for name, read in _READERS.items():
            # Frozen for all others. A list becomes a tuple, so that a view can be a key.
            object.__setattr__(self, name, read(name, getattr(self, name)))
        for name in ("mean", "std"):
            if len(getattr(self, name)) != self.num_channels:
                raise InputError(
                    f"`{name}` (={_numbers(getattr(self, name))}) must have {self.num_channels} "
                    f"values, one for each channel of {self.colour}"
                )
        # torch cannot resize bytes to a single pixel.
        if not 2 <= self.resized <= MOST_PIXELS:
            raise InputError(
                f"`crop_pct` (={self.crop_pct:g}) makes an image of {self.resized} px before the "
                f"crop to `size` (={self.size}); 2 to {MOST_PIXELS} px are possible"
            )

    @property
    def num_channels(self) -> int:
        """Channels that the network takes: 3, or 1 for grey."""
        return 1 if self.colour == "L" else 3

    @property
    def resized(self) -> int:
        """Side of the image before its centre is cut out, in pixels."""
        # 224 / (224 / 232) is a little below 232.
        return math.floor(self.size / self.crop_pct + 1e-6)

    @classmethod
    def from_network(cls, source: Any) -> "View":
        """Reads the view that a network was published with.

        A source that can be called shows two images, which the view must show in the same way. So
        a step that no view has is refused.

        Args:
            source: A name as in `mgd.create_model` (`timm:NAME`, `torchvision:NAME`, or a built-in
                one), or `hf:NAME` for a processor of Hugging Face; a timm network; the transforms
                or weights of torchvision; or an image processor of Hugging Face.

        Raises:
            InputError: If nothing tells the view, no view shows the same images, or the package
                that does is missing.

        Example:
            >>> import mgd
            >>> print(mgd.View.from_network("timm:vit_base_patch16_224.augreg_in21k_ft_in1k"))
            224 px, center 90 %, bicubic, mean 0.5 0.5 0.5, std 0.5 0.5 0.5
        """
        published = read_view(source)
        try:
            view = cls.from_plain(published.plain)
            if published.show is not None:
                prove(view, published.show)
        except InputError as error:
            raise InputError(
                f"{published.name} sees images in a way that no mgd.View has: {error}"
            ) from error
        return view

    @classmethod
    def from_plain(cls, values: Any) -> "View":
        """Makes a view of what `to_plain` gave; names that are missing keep their default.

        Args:
            values: A mapping. It may come from a file: everything in it is checked.

        Raises:
            InputError: If a name is unknown, or a value is of another kind or out of range.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"a view is a mapping of names to values, not {reprlib.repr(values)}")
        if unknown := [name for name in values if name not in _READERS]:
            raise InputError(
                f"a view has no value {reprlib.repr(unknown[0])}; its values are "
                f"{', '.join(_READERS)}"
            )
        return cls(**{name: _READERS[name](name, value) for name, value in values.items()})

    def to_plain(self) -> dict[str, Any]:
        """Returns the view as JSON has it."""
        plain = dataclasses.asdict(self)
        return {**plain, "mean": list(self.mean), "std": list(self.std)}

    def replace(self, **values: Any) -> "View":
        """Returns a copy with some values changed.

        Raises:
            InputError: For a value out of range.
        """
        return dataclasses.replace(self, **values)

    @property
    def cut(self) -> tuple[object, ...]:
        """What `transform` depends on: two views that share it can share an image's pixels."""
        border = self.mean if self.crop == "border" else ()
        return self.size, self.interpolation, self.crop, self.crop_pct, border

    def transform(self) -> v2.Transform:
        """Returns what evaluation does with an image: uint8 (3, H, W) -> uint8 (3, size, size)."""
        steps: dict[str, list[v2.Transform]] = {
            "center": [v2.Lambda(_middle), v2.Resize(self.resized, self.mode, antialias=True)],
            "squash": [v2.Resize((self.resized,) * 2, self.mode, antialias=True)],
            "border": [v2.Lambda(self._frame)],
        }
        return v2.Compose([*steps[self.crop], v2.CenterCrop(self.size)])

    def _frame(self, image: Tensor) -> Tensor:
        """Resizes the longer side, and adds a border of the mean colour where that leaves room.

        The centre crop after it would add a black one.
        """
        ratio = max(image.shape[-2:]) / self.resized
        height, width = (max(1, round(side / ratio)) for side in image.shape[-2:])
        resized = images_.resize(image, [height, width], self.mode, antialias=True)
        rows, columns = max(0, self.size - height), max(0, self.size - width)
        padding = [columns // 2, rows // 2, columns - columns // 2, rows - rows // 2]
        framed: Tensor = images_.pad(resized, padding, self.mean_colour)
        return framed

    @property
    def mean_colour(self) -> list[int]:
        """The mean as a colour in RGB, 0 to 255, which the network sees as 0."""
        colour = self.mean if self.colour == "RGB" else (*self.mean[::-1],) * (3 // len(self.mean))
        return [round(255 * value) for value in colour]

    @property
    def mode(self) -> v2.InterpolationMode:
        """The interpolation, as torchvision names it."""
        if self.interpolation == "nearest":
            return v2.InterpolationMode.NEAREST_EXACT  # as Pillow's; torchvision's own is shifted
        return v2.InterpolationMode(self.interpolation)

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """Returns an image as the network takes it in evaluation.

        Args:
            image: uint8 (3, H, W) in RGB.

        Returns:
            float32 (C, size, size), normalised.
        """
        seen: Tensor = Preprocess(self)(self.transform()(image)[None])[0]
        return seen

    def __str__(self) -> str:
        values = f"mean {_numbers(self.mean)}, std {_numbers(self.std)}"
        if (self.mean, self.std) == (MEAN, STD):
            values = "mean and std of ImageNet"
        colour = "" if self.colour == "RGB" else f", {self.colour}"
        return (
            f"{self.size} px, {self.crop} {100 * self.crop_pct:.3g} %, {self.interpolation}, "
            f"{values}{colour}"
        )


class Preprocess(nn.Module):
    """Gives a network its view of a batch, on the device: resized, in its colours, normalised.

    Args:
        view: Of the network.

    Example:
        >>> import torch, mgd
        >>> from mgd.views import Preprocess
        >>> crops = torch.randint(256, (8, 3, 64, 64), dtype=torch.uint8)
        >>> Preprocess(mgd.View(size=32))(crops).shape
        torch.Size([8, 3, 32, 32])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, view: View):
        super().__init__()
        self.view = view
        for name, values in (("mean", view.mean), ("std", view.std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1) * 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Returns float32 (B, C, size, size).

        Args:
            images: RGB crops (B, 3, H, W), uint8; or floating-point numbers, where white is 1.
        """
        seen = images.float()
        if images.is_floating_point():
            seen = seen * 255
        side = [self.view.size, self.view.size]
        if list(images.shape[-2:]) != side:
            seen = images_.resize(seen, side, self.view.mode, antialias=True)
            # Bicubic goes beyond black and white at an edge.
            seen = seen.clamp(0, 255)
        if self.view.colour == "BGR":
            seen = seen.flip(1)
        elif self.view.colour == "L":
            seen = images_.rgb_to_grayscale(seen)
        return seen.sub_(self.mean).div_(self.std)


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def _middle(image: Tensor) -> Tensor:
    """Cuts off the ends of a very long image, which the centre crop removes anyway.

    Without it, an image of 20 000 x 1 pixels, resized by its shorter side, would take gigabytes.
    """
    height, width = image.shape[-2:]
    longest = _LONGEST * min(height, width)
    if max(height, width) <= longest:
        return image
    middle: Tensor = images_.center_crop(image, [min(height, longest), min(width, longest)])
    return middle
