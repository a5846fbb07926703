"""Short logits: those of the likeliest classes in 16 bits, to be kept on a disk."""

import math

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

LEAST = torch.finfo(torch.float16).min
"""The lowest number of 16 bits, -65504, in place of any below. In a softmax its share is 0."""


def shorten(
    logits: Num[Tensor, "batch classes"], most: int
) -> tuple[Float[Tensor, "batch kept"], Int[Tensor, "batch most"] | None]:
    """Returns logits in 16 bits, less the largest one of the image.

    No loss on the logits changes where the same number is added to all of an image. Less the
    largest, the likeliest classes have the smallest numbers and so the smallest errors of rounding:
    at most 1/2048 of the distance to the largest.

    Of more than `most` classes the likeliest alone are kept. The probability of all others is
    spread evenly over them: each has the logarithm of the mean of their exponentials. This is exact
    for a softmax at temperature 1, and an approximation at any other.

    Args:
        logits: (B, K).
        most: k, how many classes to keep, at least 1.

    Returns:
        With K <= k the logits (B, K), and `None`. Else (B, k + 1), whose last column is that of all
        other classes, and the numbers of the classes (B, k).

    Example:
        >>> import torch
        >>> from mgd.tensors.short_logits import lengthen, shorten
        >>> values, classes = shorten(torch.tensor([[0.0, 5.0, 0.0, 3.0]]), most=2)
        >>> values, classes
        (tensor([[ 0., -2., -5.]], dtype=torch.float16), tensor([[1, 3]], dtype=torch.int32))
        >>> lengthen(values, classes, num_classes=4)
        tensor([[-5.,  0., -5., -2.]])
    """
    logits = logits.float()
    num_classes = logits.shape[1]
    logits = logits - logits.amax(1, keepdim=True)
    if num_classes <= most:
        return logits.clamp_min(LEAST).half(), None
    likeliest, classes = logits.topk(most)
    others = logits.scatter(1, classes, -math.inf).logsumexp(1, keepdim=True)
    others = others - math.log(num_classes - most)
    return torch.cat([likeliest, others], dim=1).clamp_min(LEAST).half(), classes.int()


def lengthen(
    values: Float[Tensor, "batch kept"],
    classes: Int[Tensor, "batch most"] | None,
    num_classes: int,
) -> Float[Tensor, "batch classes"]:
    """Returns the logits (B, K), in float32, of what `shorten` returned.

    Args:
        values, classes: As `shorten` returns them.
        num_classes: K.
    """
    if classes is None:
        return values.float()
    likeliest, others = values[:, :-1].float(), values[:, -1:].float()
    return others.expand(-1, num_classes).scatter(1, classes.long(), likeliest)
