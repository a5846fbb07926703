"""Losses on logits, one value per image. Each can be added to any distillation of features."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

_IMPOSSIBLE = -1e9
"""A logit whose probability is 0. With minus infinity the divergence would be NaN."""
_LEAST_VARIANCE = 1e-12
"""Of logits: a smaller one is rounding, which must not be blown up; the root of 0 has no slope."""

Logits = Float[Tensor, "batch classes"]
PerImage = Float[Tensor, " batch"]


def logit_kd(student_logits: Logits, teacher_logits: Logits, temperature: float = 1.5) -> PerImage:
    """Pulls the student's softened class probabilities to the teacher's.

    `T^2 KL(softmax(teacher / T) || softmax(student / T))`; Hinton et al., "Distilling the
    Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K); no gradient flows into it.
        temperature: T > 0. A value above 1 gives unlikely classes more weight.

    Returns:
        (B,) float32, at least zero.

    Raises:
        ValueError: If the temperature is not positive.

    Example:
        >>> import torch, mgd
        >>> mgd.logit_kd(torch.zeros(1, 3), torch.tensor([[3.0, 0.0, 0.0]]))
        tensor([0.9743])
    """
    _check(temperature)
    with torch.autocast(student_logits.device.type, enabled=False):
        student, teacher = _softened(student_logits, teacher_logits, temperature)
        return _divergence(student.log_softmax(1), teacher.log_softmax(1)) * temperature**2


def decoupled_kd(
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Int64[Tensor, " batch"],
    temperature: float = 4.0,
    beta: float = 8.0,
) -> PerImage:
    """Distils the probability of the label and the ranking of the other classes separately.

    `T^2 (TCKD + beta NCKD)`. TCKD is the KL divergence of the two probabilities (label, any other
    class). NCKD is the KL divergence of the softmax over the other classes alone. Plain KD
    multiplies NCKD by the teacher's probability of the other classes, which is small for a
    confident teacher; here beta takes its place. Zhao et al., "Decoupled Knowledge Distillation",
    CVPR 2022, https://arxiv.org/abs/2203.08679, with its alpha = 1.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K); no gradient flows into it.
        labels: (B,), in [0, K).
        temperature: T > 0. Published values are 4 for CIFAR-100 and 1 for ImageNet.
        beta: Weight of NCKD. Published values are 0.5 for ImageNet and 1 to 8 for CIFAR-100,
            larger for a more confident teacher.

    Returns:
        (B,) float32, at least zero.

    Raises:
        ValueError: If the temperature is not positive.

    Example:
        >>> student, teacher = torch.zeros(1, 3), torch.tensor([[4.0, 2.0, 1.0]])
        >>> mgd.decoupled_kd(student, teacher, labels=torch.tensor([0]))
        tensor([1.7356])
    """
    _check(temperature)
    with torch.autocast(student_logits.device.type, enabled=False):
        student, teacher = _softened(student_logits, teacher_logits, temperature)
        is_label = F.one_hot(labels, student.shape[1]).bool()
        target = _divergence(_binary(student, is_label), _binary(teacher, is_label))
        rest = [_others(logits, is_label).log_softmax(1) for logits in (student, teacher)]
        return (target + beta * _divergence(*rest)) * temperature**2


def dist_kd(student_logits: Logits, teacher_logits: Logits, temperature: float = 1.0) -> PerImage:
    """Pulls the student to probabilities that correlate with the teacher's; they may differ.

    `T^2 ((1 - corr over the classes of an image) + mean over classes of (1 - corr over the images
    of a class))`, where corr is Pearson's correlation of the probabilities at temperature T.
    Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022,
    https://arxiv.org/abs/2205.10536, with its beta = gamma = 1.

    Args:
        student_logits: (B, K). The second term compares the images of this batch, so it needs
            B > 1. Under DDP these are the images of one rank.
        teacher_logits: (B, K); no gradient flows into it.
        temperature: T > 0. Published values are 4 for CIFAR-100 and 1 for ImageNet.

    Returns:
        (B,) float32, in [0, 4 T^2]; the second term is the same for every image.

    Raises:
        ValueError: If the temperature is not positive.

    Example:
        >>> teacher = torch.tensor([[4.0, 2.0, 1.0], [0.0, 3.0, 1.0]])
        >>> mgd.dist_kd(teacher, teacher).abs() < 1e-5
        tensor([True, True])
    """
    _check(temperature)
    with torch.autocast(student_logits.device.type, enabled=False):
        student, teacher = _softened(student_logits, teacher_logits, temperature)
        student, teacher = student.softmax(1), teacher.softmax(1)
        between_classes = 1 - _correlation(student, teacher)
        within_classes = 1 - _correlation(student.T, teacher.T).mean()
        return (between_classes + within_classes) * temperature**2


def standardised_kd(
    student_logits: Logits, teacher_logits: Logits, temperature: float = 2.0
) -> PerImage:
    """Pulls the student to the teacher's ranking of the classes, at any scale of the logits.

    `logit_kd` of standardised logits: of each image the mean over the classes is subtracted, and
    the rest divided by the standard deviation. So a small student need not reach logits as large
    as those of a certain teacher. Sun et al., "Logit Standardization in Knowledge Distillation",
    CVPR 2024, https://arxiv.org/abs/2403.01427.

    Args:
        student_logits: (B, K), K at least 2. An image whose logits are all equal gets no gradient.
        teacher_logits: (B, K); no gradient flows into it.
        temperature: T > 0, the published base temperature: 2, with a weight of 9.

    Returns:
        (B,) float32, at least zero.

    Raises:
        ValueError: If the temperature is not positive.

    Example:
        >>> teacher = torch.tensor([[4.0, 2.0, 1.0]])
        >>> mgd.standardised_kd(10 * teacher - 3, teacher).abs() < 1e-6
        tensor([True])
    """
    _check(temperature)
    with torch.autocast(student_logits.device.type, enabled=False):
        student, teacher = map(_standardised, (student_logits, teacher_logits.detach()))
        return logit_kd(student, teacher, temperature)


@dataclass(frozen=True)
class LogitLoss:
    """A loss on the logits, which users choose by name."""

    title: str
    loss: Callable[..., Tensor]
    """`(student, teacher, temperature) -> (B,)`. If `needs_labels` is true, it is
    `(student, teacher, labels, temperature, beta) -> (B,)`, with labels (B,)."""
    needs_labels: bool = False


LOGIT_LOSSES: dict[str, LogitLoss] = {
    "kd": LogitLoss("Hinton et al. 2015", logit_kd),
    "dkd": LogitLoss("decoupled, Zhao et al. 2022", decoupled_kd, needs_labels=True),
    "dist": LogitLoss("correlations, Huang et al. 2022", dist_kd),
    "standardised": LogitLoss("of standardised logits, Sun et al. 2024", standardised_kd),
}
"""Name, as in `--kd`, -> loss on the logits."""


def _check(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"`temperature` (={temperature}) must be above 0")


def _softened(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    return student.float() / temperature, teacher.detach().float() / temperature


def _standardised(logits: Tensor) -> Tensor:
    """Returns logits of mean 0 and standard deviation 1 over the classes; zeros for equal ones."""
    logits = logits.float()
    variance = logits.var(1, keepdim=True).clamp_min(_LEAST_VARIANCE)
    return (logits - logits.mean(1, keepdim=True)) / variance.sqrt()


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of log-probabilities, summed over the classes."""
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)


def _binary(logits: Tensor, is_label: Tensor) -> Tensor:
    """Returns log-probabilities (B, 2) of the label and of all other classes together.

    Computed from logits: `log(1 - p)` would lose its digits where p is nearly 1.
    """
    label = logits.where(is_label, 0).sum(1)
    return torch.stack((label, _others(logits, is_label).logsumexp(1)), dim=1).log_softmax(1)


def _others(logits: Tensor, is_label: Tensor) -> Tensor:
    """Sets the label's probability to 0; removing it would change the shape and wait for a GPU."""
    return logits.masked_fill(is_label, _IMPOSSIBLE)


def _correlation(left: Tensor, right: Tensor) -> Tensor:
    """Returns Pearson's correlation of each row; 0 for a constant row."""
    left, right = (x - x.mean(1, keepdim=True) for x in (left, right))
    return F.cosine_similarity(left, right, dim=1, eps=1e-8)
