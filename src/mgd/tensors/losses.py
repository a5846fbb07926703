"""The feature losses of Matching Guided Distillation, one value per image.

With one value per image, a mean over any batch gives every image the same weight.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from mgd.tensors.memory import memory_blocks


def partial_l2(
    student: Float[Tensor, "batch student height width"],
    target: Float[Tensor, "batch student height width"],
    margin: Float[Tensor, " student"],
    inplace: bool = False,
    weights: Float[Tensor, "batch height width"] | None = None,
) -> Float[Tensor, " batch"]:
    """Pulls the student to its target, except where the ReLU makes both zero anyway.

    With `t' = max(target, margin)`, the loss of an image is the sum over channels and positions of
    `(s - t')^2` where `s > t'` or `t' > 0`; Heo et al., ICCV 2019,
    https://arxiv.org/abs/1904.01866. Where the target is negative and the student is below it,
    there is no loss: the ReLU makes both zero.

    Args:
        student: Normalised student features before the activation, (B, S, H, W).
        target: Reduced teacher features, (B, S, H, W); no gradient flows into it.
        margin: (S,), from `margin_from_norm` and a reducer.
        inplace: Whether `target` may be overwritten, which saves the memory of one tensor.
        weights: How much each position counts, (B, H, W); `None` is 1 everywhere.

    Returns:
        (B,) float32, summed over channels and positions of each image. It has a first derivative,
        but no second.

    Example:
        >>> import torch, mgd
        >>> student = torch.tensor([-3.0, -1.0, 1.0]).view(1, 1, 1, 3)
        >>> target = torch.tensor([-2.0, -2.0, 3.0]).view(1, 1, 1, 3)
        >>> mgd.partial_l2(student, target, margin=torch.tensor([-1.5]))  # 0 + 0.5 ** 2 + 2 ** 2
        tensor([4.2500])
    """
    with torch.autocast(student.device.type, enabled=False):
        target, margin = target.detach(), margin.float()[:, None, None]
        if torch.compiler.is_compiling():  # the compiler fuses the plain formula
            target = torch.maximum(target.float(), margin)
            difference = student.float() - target
            counted = (difference > 0) | (target > 0)
            return _weighted_sum(torch.where(counted, difference, 0).square(), weights)
        losses: Tensor = _PartialL2.apply(student, target, margin, inplace, weights)
    return losses


def squared_l2(
    student: Float[Tensor, "batch channels height width"],
    target: Float[Tensor, "batch channels height width"],
    weights: Float[Tensor, "batch height width"] | None = None,
) -> Float[Tensor, " batch"]:
    """Pulls the student to its target everywhere: `(s - t)^2`, for features without a ReLU behind.

    Args:
        student: (B, C, H, W).
        target: (B, C, H, W); no gradient flows into it.
        weights: How much each position counts, (B, H, W); `None` is 1 everywhere.

    Returns:
        (B,) float32, summed over channels and positions of each image.

    Example:
        >>> import torch, mgd
        >>> student = torch.tensor([-3.0, 1.0]).view(1, 1, 1, 2)
        >>> mgd.squared_l2(student, torch.zeros_like(student))
        tensor([10.])
    """
    with torch.autocast(student.device.type, enabled=False):
        difference: Tensor = student.float() - target.detach().float()
        return _weighted_sum(difference.square(), weights)


def _weighted_sum(values: Tensor, weights: Tensor | None) -> Tensor:
    return (values if weights is None else values * weights[:, None]).sum((1, 2, 3))


class _PartialL2(torch.autograd.Function):
    """Keeps one tensor for the backward: the difference, 0 where it has no loss.

    Twice this difference is the gradient. Autograd would keep three tensors, and on a CPU it would
    spend most of its time on the memory of nine temporary ones; see `memory_blocks`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        target: Tensor,
        margin: Tensor,
        inplace: bool,
        weights: Tensor | None,
    ) -> Tensor:
        takes_target = inplace and target.dtype == torch.float32
        difference = target if takes_target else torch.empty_like(student, dtype=torch.float32)
        losses = margin.new_empty(len(student))
        for block in memory_blocks(student):
            wanted, kept = torch.maximum(target[block].float(), margin), difference[block]
            torch.sub(student[block].float(), wanted, out=kept)
            # Where the target is at most 0, a negative difference has no loss, so the lowest
            # difference is 0; elsewhere there is no lowest. `where` takes five times as long on a
            # CPU.
            lowest = wanted.clamp_min_(0).sign_().mul_(torch.finfo(wanted.dtype).min)
            torch.maximum(kept, lowest, out=kept)
            weighing = None if weights is None else weights[block]
            losses[block] = _weighted_sum(torch.square(kept, out=wanted), weighing)
        ctx.save_for_backward(difference, weights)
        ctx.student_type = student.dtype
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        difference, weights = ctx.saved_tensors
        scale = 2 * gradient[:, None, None, None]
        if weights is not None:
            scale = scale * weights[:, None]
        return (difference * scale).to(ctx.student_type), None, None, None, None


def point_weights(num_points: int) -> Float[Tensor, " points"]:
    """Returns the published weights of n points, `2^-(n - 1 - i)`; the deepest point has 1.

    Args:
        num_points: n.

    Returns:
        (n,) weights, from the shallowest point to the deepest.

    Example:
        >>> import mgd
        >>> mgd.point_weights(3)
        tensor([0.2500, 0.5000, 1.0000])
    """
    return 0.5 ** torch.arange(num_points - 1, -1, -1, dtype=torch.float32)
