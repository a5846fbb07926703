"""Margin: the level below which a teacher's negative response carries no more information.

A student channel may be as negative as it likes where its teacher is negative; it is asked to
reach only the margin, the expected value of the teacher's negative part. Heo et al., "A
Comprehensive Overhaul of Feature Distillation", ICCV 2019, https://arxiv.org/abs/1904.01866.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm  # no public name for the base of 1d to 3d


def margin_from_norm(batch_norm: _BatchNorm) -> Float[Tensor, " teacher"]:
    """Computes `E[x | x < 0]` of each channel behind a BatchNorm, from its affine parameters.

    With sigma = |weight|, mu = bias and Phi the normal distribution function:
    `m = mu - sigma exp(-(mu/sigma)^2 / 2) / (sqrt(2 pi) Phi(-mu/sigma))`, and `-3 sigma` where
    the channel is almost never negative, `Phi(-mu/sigma) <= 0.001`. A channel with weight zero
    is the constant `mu`: its margin is `min(mu, 0)`.

    Args:
        batch_norm: The last BatchNorm in front of the tap, with T channels.

    Returns:
        (T,) margins, at most zero, float32, on the module's device.

    Example:
        >>> mgd.margin_from_norm(nn.BatchNorm2d(2))  # weight 1 and bias 0: -sqrt(2 / pi)
        tensor([-0.7979, -0.7979])
    """
    if batch_norm.weight is None:  # affine=False: standard normal outputs
        weight = torch.ones(batch_norm.num_features)
        bias = torch.zeros(batch_norm.num_features)
    else:
        weight, bias = batch_norm.weight.detach(), batch_norm.bias.detach()
    # In float32 the ratio below loses its digits at Phi near 0.001; devices without float64
    # (MPS) get theirs back from the CPU.
    device = weight.device
    sigma, mu = weight.cpu().double().abs(), bias.cpu().double()
    ratio = mu / sigma.clamp_min(1e-30)
    below_zero = torch.special.ndtr(-ratio)
    expected = mu - sigma * torch.exp(-(ratio**2) / 2) / (
        (2 * torch.pi) ** 0.5 * below_zero.clamp_min(1e-30)
    )
    return torch.where(below_zero > 0.001, expected, -3 * sigma).clamp_max(0).float().to(device)


def margin_from_features(
    features: Float[Tensor, "batch teacher height width"],
) -> Float[Tensor, " teacher"]:
    """Measures `E[x | x < 0]` of each channel, for networks without a BatchNorm to read it from.

    Args:
        features: Teacher features before the activation, (B, T, H, W).

    Returns:
        (T,) margins, float32; zero for a channel that is never negative, which leaves its
        features as they are.

    Example:
        >>> features = torch.tensor([-1.0, -3.0, 5.0, 2.0]).view(1, 1, 2, 2)
        >>> mgd.margin_from_features(features)
        tensor([-2.])
    """
    total, count = negative_sums(features)
    return total / count.clamp_min(1)


def negative_sums(
    features: Float[Tensor, "batch teacher height width"],
) -> tuple[Float[Tensor, " teacher"], Float[Tensor, " teacher"]]:
    """Returns the sum and the number of each channel's negative values, to add up over batches."""
    values = features.detach().float()
    counts = values.sign().clamp_max_(0).sum((0, 2, 3)).neg_()
    return values.clamp_max(0).sum((0, 2, 3)), counts
