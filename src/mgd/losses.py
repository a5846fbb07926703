"""The losses of Matching Guided Distillation: one value per image, so that no batch is nominal."""

import torch
from jaxtyping import Float
from torch import Tensor


def partial_l2(
    student: Float[Tensor, "batch student height width"],
    target: Float[Tensor, "batch student height width"],
    margin: Float[Tensor, " student"],
) -> Float[Tensor, " batch"]:
    """Pulls the student to its target, except where both would be cut off by the ReLU.

    With `t' = max(target, margin)`: `sum over channels and positions of (s - t')^2 where
    s > t' or t' > 0`; Heo et al., ICCV 2019, https://arxiv.org/abs/1904.01866. A student that
    is below a negative target is right already: the ReLU makes both zero.

    Args:
        student: Normalised student features before the activation, (B, S, H, W).
        target: Reduced teacher features, (B, S, H, W); no gradient flows into it.
        margin: (S,), from `margin_from_norm` and a reducer.

    Returns:
        (B,) float32, summed over channels and positions of each image.

    Example:
        >>> mgd.partial_l2(norm(student), reducer.features(grouped), margin).mean().backward()
    """
    with torch.autocast(student.device.type, enabled=False):
        target = torch.maximum(target.detach().float(), margin.float()[:, None, None])
        difference = student.float() - target
        counted = (difference > 0) | (target > 0)
        return torch.where(counted, difference, 0).square().sum((1, 2, 3))


def point_weights(num_points: int) -> Float[Tensor, " points"]:
    """Returns the published weights of the points, `2^-(n - 1 - i)`: the deepest weighs 1."""
    return 0.5 ** torch.arange(num_points - 1, -1, -1, dtype=torch.float32)
