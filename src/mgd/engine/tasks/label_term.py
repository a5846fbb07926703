"""LabelTerm: the cross-entropy with the labels, and what it makes of them."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

LEAST_SHARE = 1 / 16
"""Where a smaller share of a batch has labels, these no longer count as if they were all of it: one
labelled image among a hundred others would move the student as far as all of them together."""


class LabelTerm(NamedTuple):
    """The cross-entropy: its weight, and how the labels are changed and weighted."""

    weight: float = 1.0
    smoothing: float = 0.0
    """Share of a label that is spread evenly over all classes, from 0 to 1."""
    class_weights: Tensor | None = None
    """Weight of each class (K,), float32, on the device of the logits."""

    def loss(self, logits: Tensor, labels: Tensor, labelled: float = 1.0) -> Tensor:
        """Returns the weighted loss of each image (B,) in float32.

        Args:
            logits: (B, K).
            labels: Classes (B,), -1 for an image without one, whose loss is 0. Or the share of each
                class, (B, K), whose sum is below 1 where a part of the image has no label: that
                part counts nothing.
            labelled: Share of the images that have a label; see `shared_weight`.
        """
        smoothing = self.smoothing
        if labels.is_floating_point():
            # Spread here, since torch would spread a whole label where there is only part of one.
            labels = labels.lerp(labels.mean(1, keepdim=True), smoothing)
            smoothing = 0.0
        losses = F.cross_entropy(
            logits.float(),
            labels,
            self.class_weights,
            ignore_index=-1,
            reduction="none",
            label_smoothing=smoothing,
        )
        weight = shared_weight(self.weight, labelled)
        return losses if weight == 1 else weight * losses


def shared_weight(weight: float, labelled: float) -> float:
    """Returns the weight of each labelled image, so that a mean over all is one over these alone.

    It is at most 16 times the weight.

    Args:
        weight: Of the cross-entropy.
        labelled: Share of the images that have a label, from 0 to 1.
    """
    return weight / max(labelled, LEAST_SHARE)
