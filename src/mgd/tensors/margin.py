"""Margin: how negative a student channel has to be where its teacher is negative.

The margin of a teacher channel is its expected negative response, `E[x | x < 0]`. A target that is
lower is raised to the margin, and a student below it has no loss. Heo et al., "A Comprehensive
Overhaul of Feature Distillation", ICCV 2019, https://arxiv.org/abs/1904.01866.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm  # no public name for the base of 1d to 3d
from torchvision.ops import FrozenBatchNorm2d


def margin_from_norm(batch_norm: _BatchNorm | FrozenBatchNorm2d) -> Float[Tensor, " teacher"]:
    """Computes `E[x | x < 0]` of each output channel of a BatchNorm, from its weight and bias.

    The output of a BatchNorm channel is taken as normally distributed, with mean mu = bias and
    standard deviation sigma = |weight|. With Phi, the normal distribution function, the margin is
    `mu - sigma exp(-(mu/sigma)^2 / 2) / (sqrt(2 pi) Phi(-mu/sigma))`. Where the channel is almost
    never negative, `Phi(-mu/sigma) <= 0.001`, it is `-3 sigma`. A channel with weight 0 is the
    constant `mu`: its margin is `min(mu, 0)`.

    Args:
        batch_norm: The last BatchNorm before the tap, with T channels; torchvision's
            `FrozenBatchNorm2d`, which its detectors have, counts as one.

    Returns:
        (T,) margins, at most zero, float32, on the module's device.

    Example:
        >>> import torch, mgd
        >>> mgd.margin_from_norm(torch.nn.BatchNorm2d(2))  # a new one: mean 0, deviation 1
        tensor([-0.7979, -0.7979])
    """
    if batch_norm.weight is None:  # affine=False: mean 0, deviation 1
        weight = torch.ones(batch_norm.num_features)
        bias = torch.zeros(batch_norm.num_features)
    else:
        weight, bias = batch_norm.weight.detach(), batch_norm.bias.detach()
    # Where Phi is near 0.001, float32 has too few digits for the ratio below. The CPU computes in
    # float64, because some devices (MPS) cannot.
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
    """Measures `E[x | x < 0]` of each channel, where no BatchNorm before the tap gives it.

    Args:
        features: Teacher features before the activation, (B, T, H, W).

    Returns:
        (T,) margins, float32, at most zero. A channel that is never negative has the margin zero,
        which does not change its targets.

    Example:
        >>> import torch, mgd
        >>> mgd.margin_from_features(torch.tensor([-3.0, -1.0, 5.0]).view(1, 1, 1, 3))
        tensor([-2.])
    """
    total, count = negative_sums(features)
    return total / count.clamp_min(1)


def negative_sums(
    features: Float[Tensor, "batch teacher height width"],
) -> tuple[Float[Tensor, " teacher"], Float[Tensor, " teacher"]]:
    """Returns the sum (T,) and the number (T,) of each channel's negative values.

    Both can be added up over batches.
    """
    values = features.detach().float()
    counts = values.sign().clamp_max_(0).sum((0, 2, 3)).neg_()
    return values.clamp_max(0).sum((0, 2, 3)), counts
