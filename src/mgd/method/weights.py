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

Weight = float | Literal["auto"]


def feature_weights(
    elements: Sequence[int],
    feature_weight: Weight = "auto",
    loss_factor: float | None = None,
) -> list[float]:
    """Returns the weight of each point's loss, which is a sum over its elements.

    The published shares are `2^-(n - 1 - i)`: the deepest point weighs most. `E` is the sum of
    share times number of elements. Point i is weighted with `share_i feature_weight / E`, so that
    all points together are `feature_weight` times the weighted mean per element, at any image size
    and for any pair of networks. `docs/method.md` derives the rule.

    Args:
        elements: Elements of one image that each point compares, from input to output.
        feature_weight: At least 0; "auto" is 20, and `20 E / 4000` below 4 000 weighted elements.
        loss_factor: The paper's way to weigh, above 0: `share_i / loss_factor`. It takes the place
            of `feature_weight`.

    Raises:
        InputError: For a weight or factor out of range.

    Example:
        >>> from mgd.method.weights import feature_weights
        >>> feature_weights([1000, 500], feature_weight=10)  # E = 0.5 * 1000 + 500
        [0.005, 0.01]
        >>> feature_weights([1000, 500], loss_factor=1e4)
        [5e-05, 0.0001]
    """
    shares, total = _weighed(elements)
    if loss_factor is not None:
        if not loss_factor > 0:
            raise InputError(f"`loss_factor` (={loss_factor}) must be above 0, or None")
        return [share / loss_factor for share in shares]
    if not elements:
        return []
    if feature_weight == "auto":
        feature_weight = PUBLISHED_WEIGHT * min(1.0, total / FEWEST_ELEMENTS)
    if isinstance(feature_weight, str) or not feature_weight >= 0:
        raise InputError(f"`feature_weight` (={feature_weight}) must be at least 0, or 'auto'")
    return [share * feature_weight / total for share in shares]


def logit_weight(elements: Sequence[int], kd_weight: Weight = "auto") -> float:
    """Returns the weight of the loss on the logits beside that of the features.

    "auto" is `1 - E / 4000`, at least 0, with `E` as in `feature_weights`: what the automatic
    weight of the features takes away where there are few, the logits get. Where there are many,
    the loss on the logits is left out, because there it takes accuracy away; docs/method.md has
    the measurements.

    Args:
        elements: Of one image that each point compares, from input to output; none without points.
        kd_weight: At least 0.

    Raises:
        InputError: For a weight out of range.

    Example:
        >>> from mgd.method.weights import logit_weight
        >>> logit_weight([1000, 500]), logit_weight([100_000, 50_000]), logit_weight([])
        (0.75, 0.0, 1.0)
    """
    if kd_weight == "auto":
        return max(0.0, 1.0 - _weighed(elements)[1] / FEWEST_ELEMENTS)
    if isinstance(kd_weight, str) or not kd_weight >= 0:
        raise InputError(
            f"`kd_weight` (={kd_weight}) must be at least 0; 0 leaves KD out, and 'auto' does so "
            "where there are many features"
        )
    return kd_weight


def _weighed(elements: Sequence[int]) -> tuple[list[float], float]:
    """Returns the share of each point, and `E`."""
    shares = point_weights(len(elements)).tolist()
    return shares, sum(share * count for share, count in zip(shares, elements, strict=True))
