"""Image transforms for training and evaluation.

They work on uint8 tensors. `Normalize` makes floating-point numbers later, of a batch on the
device.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

Augment = Literal["auto", "imagenet", "cifar", "shift", "none"]

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def _recipe(augment: Augment, size: int) -> Augment:
    """Resolves "auto": up to 40 px "cifar" (a random scale loses too much), else "imagenet"."""
    return ("cifar" if size <= 40 else "imagenet") if augment == "auto" else augment


def train_transform(size: int, augment: Augment = "auto") -> v2.Transform:
    """Builds the training transform: uint8 (3, H, W) -> uint8 (3, size, size).

    Args:
        size: Height and width of the result, in pixels.
        augment: "imagenet": crop at a random scale, and a random horizontal flip. "cifar": resize,
            pad by an eighth of the size, random crop, random horizontal flip. "shift": as "cifar",
            without the flip. "none": as in evaluation. "auto": "cifar" up to 40 px, else
            "imagenet".
    """
    recipe = _recipe(augment, size)
    if recipe == "imagenet":
        return v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()])
    if recipe in ("cifar", "shift"):
        resize = v2.Resize((size, size), antialias=True)
        shift = v2.RandomCrop(size, padding=max(1, size // 8))
        flip = [v2.RandomHorizontalFlip()] if recipe == "cifar" else []
        return v2.Compose([resize, shift, *flip])
    return eval_transform(size, augment)


def eval_transform(size: int, augment: Augment = "auto") -> v2.Transform:
    """Builds the evaluation transform: uint8 (3, H, W) -> uint8 (3, size, size).

    Args:
        size: Height and width of the result, in pixels.
        augment: As in `train_transform`. With "imagenet" the shorter side is resized to
            size · 256 / 224, and the centre is cut out. Otherwise the whole image is resized.
    """
    if _recipe(augment, size) == "imagenet":
        shorter = round(size * 256 / 224)
        resize = v2.Resize(shorter, antialias=True)
        return v2.Compose([v2.Lambda(_middle), resize, v2.CenterCrop(size)])
    return v2.Resize((size, size), antialias=True)


def _middle(image: Tensor) -> Tensor:
    """Cuts off the ends of a very long image, which the centre crop removes anyway.

    Without it, an image of 20 000 x 1 pixels, resized by its shorter side, would take gigabytes.
    """
    height, width = image.shape[-2:]
    longest = 2 * min(height, width)
    if max(height, width) <= longest:
        return image
    middle: Tensor = v2.functional.center_crop(image, [min(height, longest), min(width, longest)])
    return middle


class Normalize(nn.Module):
    """Normalises uint8 images to float32, with ImageNet's mean and standard deviation."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1) * 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Returns float32 of uint8 images; both (B, 3, H, W)."""
        return images.float().sub_(self.mean).div_(self.std)
