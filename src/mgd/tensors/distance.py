"""Channel distance: how differently two networks' channels answer to the same images."""

import torch
from jaxtyping import Float
from torch import Tensor


def channel_distance(
    student: Float[Tensor, "batch student height width"],
    teacher: Float[Tensor, "batch teacher height width"],
) -> Float[Tensor, "student teacher"]:
    """Measures the distance of every student channel to every teacher channel.

    `D[s, t] = mean over images of 2 - 2 cos(student_s, teacher_t)`, each channel map
    flattened over its positions; Yue et al., "Matching Guided Distillation", ECCV 2020,
    https://arxiv.org/abs/2008.09958. The cosine ignores scale, so only the place where a
    channel fires counts. All pairs come out of one matrix product over images and positions.

    Args:
        student: Features before the activation, (B, S, H, W), any floating type.
        teacher: Features of the same images and positions, (B, T, H, W).

    Returns:
        (S, T) float32 distances in [0, 4]. A dead channel (all zero) is at distance 2 from all.

    Raises:
        ValueError: If images or positions of the two differ.

    Example:
        >>> teacher = torch.randn(4, 8, 7, 7)
        >>> student = 3 * teacher.flip(1)  # the same channels in reverse, three times as large
        >>> mgd.channel_distance(student, teacher).argmin(dim=1)
        tensor([7, 6, 5, 4, 3, 2, 1, 0])
    """
    if student.shape[0] != teacher.shape[0] or student.shape[2:] != teacher.shape[2:]:
        raise ValueError(
            f"channel_distance: student {tuple(student.shape)} and teacher {tuple(teacher.shape)} "
            "need the same images, height and width; pool the larger one first"
        )
    num_images = student.shape[0]
    # Half precision keeps too few digits of a cosine to rank channels; autocast would put it back.
    with torch.autocast(student.device.type, enabled=False):
        cosine = _unit_maps(student) @ _unit_maps(teacher).T / num_images
    return (2 - 2 * cosine).clamp_(0, 4)


def _unit_maps(
    features: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "channels positions"]:
    features = features.detach().float()
    rows = features.permute(0, 2, 3, 1).flatten(1, 2)
    if rows.is_contiguous() and not features.is_contiguous():  # channels last lie as needed
        return rows.mul(_inverse_norm(rows, dim=1)).flatten(0, 1).T
    maps = features.flatten(2)
    units = maps.new_empty(maps.shape[1], maps.shape[0], maps.shape[2])
    # Scaled and reordered in one pass.
    torch.mul(maps.transpose(0, 1), _inverse_norm(maps, dim=2).transpose(0, 1), out=units)
    return units.flatten(1)


def _inverse_norm(maps: Tensor, dim: int) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(maps, dim=dim, keepdim=True)
    return norm.clamp_min_(1e-12).reciprocal_()
