"""Image transforms, on uint8 tensors; floating point starts on the device, batch by batch."""

from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

Augment = Literal["auto", "imagenet", "cifar", "shift", "none"]

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def _recipe(augment: Augment, size: int) -> Augment:
    """Chooses for "auto": up to 40 px the CIFAR recipe; a random scale is too rough for those."""
    return ("cifar" if size <= 40 else "imagenet") if augment == "auto" else augment


def train_transform(size: int, augment: Augment = "auto") -> v2.Transform:
    """Builds the training transform: uint8 (3, H, W) -> uint8 (3, size, size).

    "imagenet": RandomResizedCrop and flip. "cifar": resize, pad by an eighth, random crop, flip.
    "shift": the same without the flip. "none": as in evaluation.
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

    "imagenet": the shorter side to size · 256 / 224, then the centre. Otherwise the whole image.
    """
    if _recipe(augment, size) == "imagenet":
        shorter = round(size * 256 / 224)
        resize = v2.Resize(shorter, antialias=True)
        return v2.Compose([v2.Lambda(_middle), resize, v2.CenterCrop(size)])
    return v2.Resize((size, size), antialias=True)


def _middle(image: Tensor) -> Tensor:
    """Cuts the ends of a long image, which the centre crop drops anyway.

    Scaled by its shorter side, one of 20 000 x 1 pixels would take gigabytes before that.
    """
    height, width = image.shape[-2:]
    longest = 2 * min(height, width)
    if max(height, width) <= longest:
        return image
    middle: Tensor = v2.functional.center_crop(image, [min(height, longest), min(width, longest)])
    return middle


class Normalize(nn.Module):
    """Turns uint8 images into ImageNet-normalised float32, on the images' device."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1) * 255, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> float32."""
        return images.float().sub_(self.mean).div_(self.std)
