"""The random changes of training images, on uint8 tensors.

What evaluation does with an image is its network's `mgd.View`. Both networks see the same random
crop and flip; each gets it at its own size and normalisation later, on the device.
"""

from typing import Any, Literal

from torchvision.transforms import v2

from mgd.views import View

Augment = Literal["auto", "imagenet", "cifar", "shift", "none"]


def random_changes(augment: Augment, size: int) -> Augment:
    """Resolves "auto": up to 40 px "cifar" (a random scale loses too much), else "imagenet"."""
    return ("cifar" if size <= 40 else "imagenet") if augment == "auto" else augment


def train_transform(view: View, augment: Augment = "auto") -> v2.Transform:
    """Builds the training transform: uint8 (3, H, W) -> uint8 (3, size, size).

    Args:
        view: Its size, interpolation and, with "none", its crop are used.
        augment: "imagenet": crop at a random scale, and a random horizontal flip. "cifar": resize,
            pad by an eighth of the size, random crop, random horizontal flip. "shift": as "cifar",
            without the flip. "none": as in evaluation. "auto": "cifar" up to 40 px, else
            "imagenet".
    """
    size, changes = view.size, random_changes(augment, view.size)
    flip: list[Any] = [v2.RandomHorizontalFlip()]
    if changes == "imagenet":
        crop = v2.RandomResizedCrop(size, interpolation=view.mode, antialias=True)
        return v2.Compose([crop, *flip])
    if changes in ("cifar", "shift"):
        resize = v2.Resize((size, size), view.mode, antialias=True)
        shift = v2.RandomCrop(size, padding=max(1, size // 8))
        return v2.Compose([resize, shift, *(flip if changes == "cifar" else [])])
    return view.transform()
