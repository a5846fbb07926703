"""Mixup and CutMix: a training batch whose images are made of two, with the labels of both.

The teacher and the student see the same mixed image (Beyer et al., "Knowledge distillation: A good
teacher is patient and consistent", CVPR 2022, https://arxiv.org/abs/2106.05237).
"""

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as images_

from mgd.data.loading import Batch, drawing_from, mix


class BatchMixing:
    """Mixes each image of a batch with the one before it, the first with the last.

    What is drawn is a function of (seed, epoch, step). So all ranks mix by the same share or the
    same rectangle, each within its own part of the batch. Where both kinds have an alpha, each
    batch takes one of them at random.

    Args:
        num_classes: K.
        seed: Of the run.
        mixup_alpha: Parameter of the beta distribution of the share, at least 0; 0 leaves the kind
            out. See `torchvision.transforms.v2.MixUp`.
        cutmix_alpha: The same of `torchvision.transforms.v2.CutMix`.

    Example:
        >>> from mgd.data.mixing import BatchMixing
        >>> images = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
        >>> mixing = BatchMixing(num_classes=3, seed=0, mixup_alpha=0.2)
        >>> mixed, labels = mixing((images, torch.tensor([2, 0, -1, -1])), epoch=0, step=0)
        >>> mixed.dtype, labels.shape, round(float(labels.sum()))
        (torch.float32, torch.Size([4, 3]), 2)
    """

    def __init__(
        self, num_classes: int, seed: int, mixup_alpha: float = 0.0, cutmix_alpha: float = 0.0
    ):
        self.num_classes, self.seed = num_classes, seed
        self._kinds: list[Any] = []
        if mixup_alpha:
            self._kinds.append(v2.MixUp(alpha=mixup_alpha))
        if cutmix_alpha:
            self._kinds.append(v2.CutMix(alpha=cutmix_alpha))

    def __call__(self, batch: Batch, epoch: int, step: int) -> Batch:
        """Returns a mixed batch; the batch itself where no kind has an alpha.

        Args:
            batch: uint8 images (B, 3, H, W), and labels (B,), -1 for an image without one.
            epoch: Counted from 0.
            step: Of the epoch, counted from 0.

        Returns:
            Images in float32, from 0 to 1, since whole numbers would be rounded; and the share of
            each class in each image, (B, K). An image without a label has a share in no class, so
            the shares of an image made of one with and one without a label sum to less than 1.
        """
        if not self._kinds:
            return batch
        images, labels = batch
        images = images_.to_dtype(images, torch.float32, scale=True)
        # Not the numbers that the step itself is seeded by, nor those of an image.
        with drawing_from(mix(mix(self.seed, epoch, step), 0, 1)):
            mixed: Batch = v2.RandomChoice(self._kinds)(images, as_shares(labels, self.num_classes))
        return mixed


def as_shares(labels: Tensor, num_classes: int) -> Tensor:
    """Returns the share of each class, (B, K): 1 for the label, and 0 throughout for -1."""
    # `F.one_hot` takes no -1.
    return (labels[:, None] == torch.arange(num_classes, device=labels.device)).float()


def largest_class(labels: Tensor) -> Tensor:
    """Returns the class (B,) with the largest share, -1 where no class has one.

    Args:
        labels: Classes (B,), which stay as they are; or the share of each class, (B, K).
    """
    if not labels.is_floating_point():
        return labels
    shares, classes = labels.max(1)
    return classes.where(shares > 0, -1)
