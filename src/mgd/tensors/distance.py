"""Channel distance: how differently the channels of two networks respond to the same images."""

import torch
from jaxtyping import Float
from torch import Tensor


def channel_distance(
    student: Float[Tensor, "batch student height width"],
    teacher: Float[Tensor, "batch teacher height width"],
) -> Float[Tensor, "student teacher"]:
    """Measures the distance between every student channel and every teacher channel.

    `D[s, t] = mean over images of 2 - 2 cos(student_s, teacher_t)`, where each feature map is
    flattened to a vector; Yue et al., "Matching Guided Distillation", ECCV 2020,
    https://arxiv.org/abs/2008.09958. The cosine ignores the scale of a channel, so the distance
    depends only on the positions where a channel responds. One matrix product computes all of D.

    Args:
        student: Features before the activation, (B, S, H, W), any floating type.
        teacher: Features of the same images and positions, (B, T, H, W).

    Returns:
        (S, T) float32 distances in [0, 4]. A dead channel, which is 0 on every image, has
        distance 2 to all channels.

    Raises:
        ValueError: If the two differ in the number of images, in height or in width.

    Example:
        >>> import torch, mgd
        >>> channels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 2)  # one image
        >>> mgd.channel_distance(channels, channels)
        tensor([[0., 2.],
                [2., 0.]])
    """
    if student.shape[0] != teacher.shape[0] or student.shape[2:] != teacher.shape[2:]:
        raise ValueError(
            f"channel_distance: student {tuple(student.shape)} and teacher {tuple(teacher.shape)} "
            "need the same images, height and width; pool the larger one first"
        )
    num_images = student.shape[0]
    # A cosine in half precision has too few digits to rank channels, and autocast would use it.
    with torch.autocast(student.device.type, enabled=False):
        cosine = _unit_maps(student) @ _unit_maps(teacher).T / num_images
    return (2 - 2 * cosine).clamp_(0, 4)


def _unit_maps(
    features: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "channels positions"]:
    features = features.detach().float()
    rows = features.permute(0, 2, 3, 1).flatten(1, 2)
    if rows.is_contiguous() and not features.is_contiguous():  # channels last already
        return rows.mul(_inverse_norm(rows, dim=1)).flatten(0, 1).T
    maps = features.flatten(2)
    units = maps.new_empty(maps.shape[1], maps.shape[0], maps.shape[2])
    # This multiplies and transposes in one pass over memory.
    torch.mul(maps.transpose(0, 1), _inverse_norm(maps, dim=2).transpose(0, 1), out=units)
    return units.flatten(1)


def _inverse_norm(maps: Tensor, dim: int) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(maps, dim=dim, keepdim=True)
    return norm.clamp_min_(1e-12).reciprocal_()
