"""View: how one network sees an image, as plain values, and the module that shows it so."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as images_

from mgd.errors import InputError
from mgd.views.sources import read_view

MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's red, green and blue, where white is 1."""
STD = (0.229, 0.224, 0.225)
"""Standard deviation of the same."""

Interpolation = Literal["nearest", "bilinear", "bicubic"]
Crop = Literal["center", "squash", "border"]
Colour = Literal["RGB", "BGR", "L"]


@dataclass(frozen=True)
class View:
    """How a network sees an image, from the file to the numbers that go into the network.

    A network that is shown images with another mean, size or crop than in its training loses
    accuracy without an error. So a view is read from where the network comes from, and is kept
    with the weights.

    Args:
        mean: Subtracted from each colour, where white is 1; one value for each channel.
        std: Divides each colour after that; above 0.
        size: Height and width that the network takes, in pixels; at least 1.
        interpolation: How an image is resized: "nearest", "bilinear" or "bicubic".
        crop_pct: Share of the resized image's side that evaluation keeps, above 0 and at most 1:
            the side is `floor(size / crop_pct)` before the centre of `size` is cut out.
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
        32 px, center 100 %, bilinear, mean 0.485 0.456 0.406, std 0.229 0.224 0.225
    """

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    size: int = 224
    interpolation: Interpolation = "bilinear"
    crop_pct: float = 0.875
    crop: Crop = "center"
    colour: Colour = "RGB"

    def __post_init__(self) -> None:
        for name, choices in (("interpolation", Interpolation), ("crop", Crop), ("colour", Colour)):
            if getattr(self, name) not in get_args(choices):
                raise InputError(
                    f"`{name}` (={getattr(self, name)}) is unknown; choose one of "
                    f"{', '.join(get_args(choices))}"
                )
        if self.size < 1:
            raise InputError(f"`size` (={self.size}) must be at least 1 pixel")
        if not 0 < self.crop_pct <= 1:
            raise InputError(f"`crop_pct` (={self.crop_pct}) must be above 0 and at most 1")
        for name in ("mean", "std"):
            self._check_channels(name, getattr(self, name))
        if not all(value > 0 for value in self.std):
            raise InputError(f"`std` (={_numbers(self.std)}) must be above 0")

    def _check_channels(self, name: str, values: tuple[float, ...]) -> None:
        if len(values) != self.num_channels or not all(map(math.isfinite, values)):
            raise InputError(
                f"`{name}` (={_numbers(values)}) must be {self.num_channels} numbers, one for each "
                f"channel of {self.colour}"
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

        Args:
            source: A name as in `mgd.create_model` (`timm:NAME`, `torchvision:NAME`, or a built-in
                one), or `hf:NAME` for a processor of Hugging Face; a timm network; the transforms
                or weights of torchvision; or an image processor of Hugging Face.

        Raises:
            InputError: If nothing tells the view, or the package that does is missing.

        Example:
            >>> import mgd
            >>> print(mgd.View.from_network("timm:vit_base_patch16_224.augreg_in21k_ft_in1k"))
            224 px, center 90 %, bicubic, mean 0.5 0.5 0.5, std 0.5 0.5 0.5
        """
        return cls.from_plain(read_view(source))

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "View":
        """Makes a view of what `to_plain` gave; names that are missing keep their default.

        Raises:
            InputError: If a value is of another kind or out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        given = {name: value for name, value in values.items() if name in known}
        try:
            for name in {"mean", "std"} & given.keys():
                given[name] = tuple(float(value) for value in given[name])
            for name, kind in (("size", int), ("crop_pct", float)):
                if name in given:
                    given[name] = kind(given[name])
        except (TypeError, ValueError) as error:
            raise InputError(f"the view {dict(values)} has a value of another kind") from error
        return cls(**given)

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
    def cut(self) -> tuple[int, str, str, float, tuple[float, ...]]:
        """What `transform` depends on: two views that share it can share an image's pixels."""
        border = self.mean if self.crop == "border" else ()
        return self.size, self.interpolation, self.crop, self.crop_pct, border

    def transform(self) -> v2.Transform:
        """Returns what evaluation does with an image: uint8 (3, H, W) -> uint8 (3, size, size)."""
        steps: list[Any] = []
        if self.crop == "center":
            steps = [v2.Lambda(_middle), v2.Resize(self.resized, self.mode, antialias=True)]
        elif self.crop == "border":
            # Padded here, since the centre crop below would pad with black.
            longer = v2.Resize(None, self.mode, max_size=self.resized, antialias=True)
            steps = [longer, v2.Lambda(self._add_border)]
        else:
            steps = [v2.Resize((self.resized, self.resized), self.mode, antialias=True)]
        if self.crop != "squash" or self.resized != self.size:
            steps.append(v2.CenterCrop(self.size))
        return v2.Compose(steps) if len(steps) > 1 else steps[0]

    def _add_border(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        rows, columns = max(0, self.size - height), max(0, self.size - width)
        colour = self.mean if self.colour == "RGB" else self.mean[::-1] * (3 // len(self.mean))
        padding = [columns // 2, rows // 2, columns - columns // 2, rows - rows // 2]
        padded: Tensor = images_.pad(image, padding, [round(255 * value) for value in colour])
        return padded

    @property
    def mode(self) -> v2.InterpolationMode:
        """The interpolation, as torchvision names it."""
        return v2.InterpolationMode(self.interpolation)

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """Returns an image as the network takes it in evaluation.

        Args:
            image: uint8 (3, H, W) in RGB, as `torchvision.io.decode_image(path, "RGB")` gives it.

        Returns:
            float32 (C, size, size), normalised.
        """
        seen: Tensor = Preprocess(self)(self.transform()(image)[None])[0]
        return seen

    def __str__(self) -> str:
        colour = "" if self.colour == "RGB" else f", {self.colour}"
        return (
            f"{self.size} px, {self.crop} {100 * self.crop_pct:.3g} %, {self.interpolation}, "
            f"mean {_numbers(self.mean)}, std {_numbers(self.std)}{colour}"
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
        seen = images * 255.0 if images.is_floating_point() else images.float()
        side = [self.view.size, self.view.size]
        if list(images.shape[-2:]) != side:
            seen = images_.resize(seen, side, self.view.mode, antialias=True)
        if self.view.colour == "BGR":
            seen = seen.flip(1)
        elif self.view.colour == "L":
            seen = images_.rgb_to_grayscale(seen)
        return seen.sub_(self.mean).div_(self.std)


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def _middle(image: Tensor) -> Tensor:
    """Cuts off the ends of a very long image, which the centre crop removes anyway.

    Without it, an image of 20 000 x 1 pixels, resized by its shorter side, would take gigabytes.
    """
    height, width = image.shape[-2:]
    longest = 2 * min(height, width)
    if max(height, width) <= longest:
        return image
    middle: Tensor = images_.center_crop(image, [min(height, longest), min(width, longest)])
    return middle
