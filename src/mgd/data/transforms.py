"""The random changes of training images, on uint8 tensors.

What evaluation does with an image is its network's `mgd.View`. Both networks see the same random
changes; each gets the result at its own size and normalisation later, on the device.
"""

from functools import partial
from typing import Any, Literal, get_args

from torchvision.transforms import v2

from mgd.views import View

Augment = Literal["auto", "imagenet", "cifar", "shift", "none"]
Learned = Literal["imagenet", "cifar10", "svhn"]
AutoAugment = Literal["none", "ta_wide", "ra", "augmix"] | Learned
"""Random changes of colour and shape, by the names of torchvision's training scripts."""


def random_changes(augment: Augment, size: int) -> Augment:
    """Resolves "auto": up to 40 px "cifar" (a random scale loses too much), else "imagenet"."""
    return ("cifar" if size <= 40 else "imagenet") if augment == "auto" else augment


def train_transform(
    view: View,
    augment: Augment = "auto",
    auto_augment: AutoAugment = "none",
    random_erase: float = 0.0,
) -> v2.Transform:
    """Builds the training transform: uint8 (3, H, W) -> uint8 (3, size, size).

    Args:
        view: Its size, interpolation and, with "none", its crop are used.
        augment: "imagenet": crop at a random scale, and a random horizontal flip. "cifar": resize,
            pad by an eighth of the size, random crop, random horizontal flip. "shift": as "cifar",
            without the flip. "none": as in evaluation. "auto": "cifar" up to 40 px, else
            "imagenet".
        auto_augment: Changes of colour and shape after those of `augment`. "ta_wide":
            `v2.TrivialAugmentWide`; "ra": `v2.RandAugment`; "augmix": `v2.AugMix`; a name in
            `v2.AutoAugmentPolicy`: `v2.AutoAugment`.
        random_erase: Probability, from 0 to 1, that `v2.RandomErasing` paints a rectangle, last of
            all. Its colour is the mean of the view, which the network sees as 0.
    """
    steps = _cropping(view, augment)
    if auto_augment != "none":
        steps.append(_POLICIES[auto_augment](interpolation=v2.InterpolationMode.BILINEAR))
    if random_erase:
        steps.append(v2.RandomErasing(random_erase, value=view.mean_colour))
    return v2.Compose(steps)


_POLICIES: dict[str, Any] = {
    "ta_wide": v2.TrivialAugmentWide,
    "ra": v2.RandAugment,
    "augmix": v2.AugMix,
    **{name: partial(v2.AutoAugment, v2.AutoAugmentPolicy(name)) for name in get_args(Learned)},
}


def _cropping(view: View, augment: Augment) -> list[Any]:
    size, changes = view.size, random_changes(augment, view.size)
    flip: list[Any] = [v2.RandomHorizontalFlip()]
    if changes == "imagenet":
        crop = v2.RandomResizedCrop(size, interpolation=view.mode, antialias=True)
        return [crop, *flip]
    if changes in ("cifar", "shift"):
        resize = v2.Resize((size, size), view.mode, antialias=True)
        shift = v2.RandomCrop(size, padding=max(1, size // 8))
        return [resize, shift, *(flip if changes == "cifar" else [])]
    return [view.transform()]
