"""The losses of Matching Guided Distillation: one value per image, so that no batch is nominal."""

import torch
import torch.nn.functional as F
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


def logit_kd(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    temperature: float = 1.5,
) -> Float[Tensor, " batch"]:
    """Pulls the student's softened class probabilities to the teacher's.

    `T^2 KL(softmax(teacher / T) || softmax(student / T))`; Hinton et al., "Distilling the
    Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K); no gradient flows into it.
        temperature: T > 0; above 1 the unlikely classes weigh more.

    Returns:
        (B,) float32, at least zero.

    Raises:
        ValueError: If the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"logit_kd: `temperature` (={temperature}) must be above 0")
    with torch.autocast(student_logits.device.type, enabled=False):
        student = F.log_softmax(student_logits.float() / temperature, dim=1)
        teacher = F.log_softmax(teacher_logits.detach().float() / temperature, dim=1)
        divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
    return divergence * temperature**2


def point_weights(num_points: int) -> Float[Tensor, " points"]:
    """Returns the published weights of the points, `2^-(n - 1 - i)`: the deepest weighs 1."""
    return 0.5 ** torch.arange(num_points - 1, -1, -1, dtype=torch.float32)
