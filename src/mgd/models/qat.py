"""Quantisation-aware training: convolutions and linear layers compute on 8 bits while they train.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018, https://arxiv.org/abs/1712.05877. The modules stay where they are, under the
same names and with the same weights: a tap finds them, and their weights load into the network as
its library builds it. Neither holds of `torch.export`, which PT2E needs.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

BITS = 8
_LARGEST = 2 ** (BITS - 1) - 1


class RoundedConv2d(nn.Conv2d):
    """A convolution whose input and weight are rounded to 8 bits in training mode."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        if not self.training:
            return super().forward(input)
        # torch's own helper, which knows the modes of padding.
        rounded: Tensor = self._conv_forward(
            round_values(input), round_weight(self.weight), self.bias
        )
        return rounded


class RoundedLinear(nn.Linear):
    """A linear layer whose input and weight are rounded to 8 bits in training mode."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., C) -> (..., C')."""
        if not self.training:
            return super().forward(input)
        return F.linear(round_values(input), round_weight(self.weight), self.bias)


_ROUNDED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: RoundedConv2d,
    nn.Linear: RoundedLinear,
}


def round_in_training(network: nn.Module) -> int:
    """Makes convolutions and linear layers of a network round to 8 bits in training mode.

    In eval mode the network computes as before. A step of training then sees what int8 will do to
    it: what `quantise_onnx` quantises, with the same scales for each weight, and for activations
    the range of the batch. Gradients pass through the rounding unchanged. Layers of other classes
    stay, also classes derived from these two.

    Args:
        network: Edited in place.

    Returns:
        How many layers round.
    """
    layers = [module for module in network.modules() if type(module) in _ROUNDED]
    for module in layers:
        module.__class__ = _ROUNDED[type(module)]  # replaced, it would leave its hooks behind
    return len(layers)


def round_weight(weight: Float[Tensor, " channels *rest"]) -> Float[Tensor, " channels *rest"]:
    """Rounds a weight to int8 with a scale for each output channel: its largest magnitude / 127."""
    with torch.autocast(weight.device.type, enabled=False):
        values = weight.float()
        scale = values.detach().abs().flatten(1).amax(1).div(_LARGEST).clamp(min=_tiny())
        zero = torch.zeros_like(scale, dtype=torch.int32)
        rounded = torch.fake_quantize_per_channel_affine(
            values, scale, zero, 0, -_LARGEST, _LARGEST
        )
        return rounded.to(weight.dtype)


def round_values(values: Float[Tensor, " *axes"]) -> Float[Tensor, " *axes"]:
    """Rounds activations to int8 with one scale, whose range is that of the values and zero."""
    with torch.autocast(values.device.type, enabled=False):
        exact = values.float()
        low, high = exact.detach().aminmax()
        low, high = low.clamp(max=0), high.clamp(min=0)
        scale = ((high - low) / (2 * _LARGEST + 1)).clamp(min=_tiny())
        zero = (-_LARGEST - 1 - low / scale).round().to(torch.int32)
        rounded = torch.fake_quantize_per_tensor_affine(exact, scale, zero, -_LARGEST - 1, _LARGEST)
        return rounded.to(values.dtype)


def _tiny() -> float:
    return torch.finfo(torch.float32).eps
