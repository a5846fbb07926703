"""Weights: how much each of the teacher's terms counts beside the cross-entropy."""

from collections.abc import Sequence
from typing import Literal

from mgd.errors import InputError
from mgd.tensors.losses import point_weights

PUBLISHED_WEIGHT = 20.0
"""The weight per element that the published factor 1e4 means for ResNet-50 -> MobileNet-V1 at
224 px: its four points have 200 704 weighted elements."""

FEWEST_ELEMENTS = 4_000
"""With fewer weighted elements an image, each would pull harder than the label at the published
weight, so the weight falls in proportion; measured, docs/method.md."""

ADAPTER_WEIGHT, ADAPTER_ELEMENTS = 60.0, 1_500
"""The same two for method "mgd-adapter", whose elements are those of the teacher's channels: the
best weights on the validation parts of CIFAR-10, and of the digits, 30; docs/evidence.md."""

ENOUGH_LABELS = 100
"""Labelled images of a class from which on the last layer needs no help of the teacher's logits;
chosen between what was measured, docs/method.md."""


def feature_weights(
    elements: Sequence[int],
    feature_weight: float | Literal["auto"] = "auto",
    loss_factor: float | None = None,
    method: str = "mgd",
    shares: Sequence[float] | None = None,
) -> list[float]:
    """Returns the weight of each point's loss, which is a sum over its elements.

    The published shares are `2^-(n - 1 - i)`: the deepest point weighs most. `E` is the sum of
    share times number of elements. Point i is weighted with `share_i feature_weight / E`, so that
    all points together are `feature_weight` times the weighted mean per element, at any image size
    and for any pair of networks. `docs/method.md` derives the rule.

    Args:
        elements: Elements of one image that each point compares, from input to output.
        feature_weight: At least 0; "auto" is 20, and `20 E / 4000` below 4 000 weighted elements;
            for method "mgd-adapter" it is 60, and `60 E / 1500` below 1 500.
        loss_factor: The paper's way to weigh, above 0: `share_i / loss_factor`. It takes the place
            of `feature_weight`.
        method: A name in `mgd.method.choices.METHODS`.
        shares: Of each point; `None` takes the published ones.

    Raises:
        InputError: For a weight or factor out of range.

    Example:
        >>> from mgd.method.weights import feature_weights
        >>> feature_weights([1000, 500], feature_weight=10)  # E = 0.5 * 1000 + 500
        [0.005, 0.01]
        >>> feature_weights([1000, 500], loss_factor=1e4)
        [5e-05, 0.0001]
    """
    shares = point_weights(len(elements)).tolist() if shares is None else list(shares)
    if loss_factor is not None:
        if not loss_factor > 0:
            raise InputError(f"`loss_factor` (={loss_factor}) must be above 0, or None")
        return [share / loss_factor for share in shares]
    if not elements:
        return []
    total = sum(share * count for share, count in zip(shares, elements, strict=True))
    if feature_weight == "auto":
        best, enough = PUBLISHED_WEIGHT, FEWEST_ELEMENTS
        if method == "mgd-adapter":
            best, enough = ADAPTER_WEIGHT, ADAPTER_ELEMENTS
        feature_weight = best * min(1.0, total / enough)
    if isinstance(feature_weight, str) or not feature_weight >= 0:
        raise InputError(f"`feature_weight` (={feature_weight}) must be at least 0, or 'auto'")
    return [share * feature_weight / total for share in shares]


def logit_weight(labels_per_class: float) -> float:
    """Returns the weight of the loss on the logits beside that of the features.

    `1 - n / 100`, at least 0, for n labelled images of a class. The features teach all layers but
    the last. Where labels are few, the teacher's logits help to train that one; where they are
    many, they take accuracy away. `docs/method.md` has the measurements.

    Args:
        labels_per_class: Labelled training images for each class, on average; at least 0.

    Example:
        >>> from mgd.method.weights import logit_weight
        >>> logit_weight(0), logit_weight(10), logit_weight(450)
        (1.0, 0.9, 0.0)
    """
    return max(0.0, 1.0 - labels_per_class / ENOUGH_LABELS)
