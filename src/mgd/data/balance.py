"""Balance: what makes classes with few images count as much as those with many."""

from collections.abc import Sequence

import torch
from torch import Tensor


def balanced_weights(labels: Sequence[int], num_classes: int) -> Tensor:
    """Returns a weight for each class that makes all classes count alike.

    `n / (K n_k)` for n images in K classes, of which n_k are in class k, as scikit-learn's
    `class_weight="balanced"`. Its mean over the images is 1.

    Args:
        labels: Class of each image, at least one.
        num_classes: Classes there may be; those without an image do not count in K and get 1.

    Returns:
        float64 (num_classes,).

    Example:
        >>> from mgd.data.balance import balanced_weights
        >>> balanced_weights([0, 0, 0, 1], num_classes=3)
        tensor([0.6667, 2.0000, 1.0000], dtype=torch.float64)
    """
    counts = torch.bincount(torch.tensor(labels), minlength=num_classes).double()
    weights = len(labels) / (counts.count_nonzero() * counts)
    return weights.where(counts > 0, 1.0)
