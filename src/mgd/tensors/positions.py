"""Positions: a loss that compares where channels respond, and weights over positions."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def position_kl(
    student: Float[Tensor, "batch channels height width"],
    target: Float[Tensor, "batch channels height width"],
    temperature: float = 4.0,
    weights: Float[Tensor, "batch height width"] | None = None,
) -> Float[Tensor, " batch"]:
    """Compares where each channel responds, whatever the size of its response.

    Channel-wise distillation: Shu et al., "Channel-wise Knowledge Distillation for Dense
    Prediction", ICCV 2021, https://arxiv.org/abs/2011.13256. With
    `p(x) = softmax over positions of x / temperature`, the loss of an image is
    `temperature^2 KL(p(target) || p(student))`, the mean over channels. Weights w over positions
    make it `p(x) = w exp(x / temperature) / sum`: a position of weight 0 is left out, and weights
    times a constant change nothing.

    Args:
        student: Features without an activation behind them, (B, C, H, W).
        target: What they follow, (B, C, H, W); no gradient flows into it.
        temperature: Above 0; the larger, the more positions count.
        weights: (B, H, W), at least 0; `None` is 1 everywhere.

    Returns:
        (B,) float32; 0 for an image whose weights are all 0.

    Example:
        >>> import torch, mgd
        >>> maps = torch.tensor([[1.0, 2.0], [0.0, 4.0]]).view(1, 2, 1, 2)
        >>> float(mgd.position_kl(maps + 3, maps))  # the same places, a larger response
        0.0
    """
    with torch.autocast(student.device.type, enabled=False):
        ours = student.float().flatten(2) / temperature
        theirs = target.detach().float().flatten(2) / temperature
        if weights is not None:
            lowest = torch.finfo(torch.float32).min / 4
            measure = weights.float().flatten(1).log().clamp_min(lowest)[:, None]
            ours, theirs = ours + measure, theirs + measure
        divergence = F.kl_div(
            ours.log_softmax(2), theirs.log_softmax(2), reduction="none", log_target=True
        )
        return temperature**2 * divergence.sum(2).mean(1)


def resize_weights(
    weights: Float[Tensor, "batch rows columns"], size: tuple[int, int]
) -> Float[Tensor, "batch height width"]:
    """Brings weights over positions to another height and width, by the mean of what is covered.

    Args:
        weights: (B, rows, columns).
        size: (H, W).

    Example:
        >>> import torch
        >>> resize_weights(torch.tensor([[[1.0, 0.0, 2.0, 2.0]]]), (1, 2))
        tensor([[[0.5000, 2.0000]]])
    """
    if weights.shape[1:] == size:
        return weights
    return F.adaptive_avg_pool2d(weights[:, None], size)[:, 0]
