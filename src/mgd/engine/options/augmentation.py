"""Options of the augmentation: random changes beside those of `augment`."""

from dataclasses import dataclass
from typing import ClassVar

from mgd.data.transforms import AutoAugment
from mgd.engine.options.option import TRAINING, Command, Group, option


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig(Group):
    """Augmentation."""

    listed_for: ClassVar[tuple[Command, ...]] = TRAINING

    auto_augment: AutoAugment = option(
        "none",
        "random changes of colour and shape after those of --augment. ta_wide: TrivialAugment, "
        "with shifts of up to 32 px at any size; ra: RandAugment; augmix: AugMix; imagenet, "
        "cifar10, svhn: AutoAugment as learned on that data set",
    )
    random_erase: float = option(
        0.0,
        "probability, from 0 to 1, that a rectangle of an image is painted over in the mean colour",
        least=0,
        most=1,
    )
    mixup_alpha: float = option(
        0.0,
        "mix the images of a batch by pairs, and their labels, with shares from the distribution "
        "Beta(X, X), such as 0.2; 0: do not. With --cutmix-alpha each batch takes one of the two",
        least=0,
    )
    cutmix_alpha: float = option(
        0.0,
        "paste a rectangle of one image into another, and mix their labels by its area, whose "
        "share comes from the distribution Beta(X, X), such as 1; 0: do not",
        least=0,
    )

    @property
    def is_mixing(self) -> bool:
        """Whether images are made of two, with shares of two labels."""
        return bool(self.mixup_alpha or self.cutmix_alpha)
