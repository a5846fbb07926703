"""The losses of Matching Guided Distillation: one value per image, so that no batch is nominal."""

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
) -> Float[Tensor, " batch"]:
    """Pulls the student to its target, except where both would be cut off by the ReLU.

    With `t' = max(target, margin)`: `sum over channels and positions of (s - t')^2 where
    s > t' or t' > 0`; Heo et al., ICCV 2019, https://arxiv.org/abs/1904.01866. A student that
    is below a negative target is right already: the ReLU makes both zero.

    Args:
        student: Normalised student features before the activation, (B, S, H, W).
        target: Reduced teacher features, (B, S, H, W); no gradient flows into it.
        margin: (S,), from `margin_from_norm` and a reducer.
        inplace: May overwrite `target` with what the backward needs, which saves a tensor.

    Returns:
        (B,) float32, summed over channels and positions of each image. It can be differentiated
        once.

    Example:
        >>> student = torch.tensor([3.0, -5.0]).view(1, 1, 1, 2)
        >>> target = torch.tensor([1.0, -2.0]).view(1, 1, 1, 2)
        >>> mgd.partial_l2(student, target, margin=torch.tensor([-0.5]))  # (3 - 1)^2, no more
        tensor([4.])
    """
    with torch.autocast(student.device.type, enabled=False):
        target, margin = target.detach(), margin.float()[:, None, None]
        if torch.compiler.is_compiling():  # which fuses the formula better than we can
            target = torch.maximum(target.float(), margin)
            difference = student.float() - target
            counted = (difference > 0) | (target > 0)
            return torch.where(counted, difference, 0).square().sum((1, 2, 3))
        losses: Tensor = _PartialL2.apply(student, target, margin, inplace)
    return losses


class _PartialL2(torch.autograd.Function):
    """Keeps one tensor, the difference where it counts: half the gradient.

    Autograd of the formula would keep three, and on a CPU most of its time would go into the
    memory of nine temporary ones; see `memory_blocks`.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, target: Tensor, margin: Tensor, inplace: bool) -> Tensor:
        takes_target = inplace and target.dtype == torch.float32
        difference = target if takes_target else torch.empty_like(student, dtype=torch.float32)
        losses = margin.new_empty(len(student))
        for block in memory_blocks(student):
            wanted, kept = torch.maximum(target[block].float(), margin), difference[block]
            torch.sub(student[block].float(), wanted, out=kept)
            # Below a target that is not positive there is nothing to learn: the lowest difference
            # that counts is 0 there, else none. A `where` would take five times as long on a CPU.
            lowest = wanted.clamp_min_(0).sign_().mul_(torch.finfo(wanted.dtype).min)
            torch.maximum(kept, lowest, out=kept)
            losses[block] = torch.square(kept, out=wanted).sum((1, 2, 3))
        ctx.save_for_backward(difference)
        ctx.student_type = student.dtype
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (difference,) = ctx.saved_tensors
        scale = 2 * gradient[:, None, None, None]
        return (difference * scale).to(ctx.student_type), None, None, None


def point_weights(num_points: int) -> Float[Tensor, " points"]:
    """Returns the published weights of the points, `2^-(n - 1 - i)`: the deepest weighs 1.

    Args:
        num_points: n, at least 0.

    Returns:
        (n,) float32 on the CPU, from the point nearest to the input to the deepest.

    Example:
        >>> mgd.point_weights(3)
        tensor([0.2500, 0.5000, 1.0000])
    """
    return 0.5 ** torch.arange(num_points - 1, -1, -1, dtype=torch.float32)
