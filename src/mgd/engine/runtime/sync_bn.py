"""BatchNorm over all processes, on GPUs by PyTorch's own module and on CPUs by this one."""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # torch has no public name for all of them

from mgd import ranks

Network = TypeVar("Network", bound=nn.Module)


class CpuSyncBatchNorm(_BatchNorm):
    """BatchNorm whose training statistics are those of all ranks' images together.

    PyTorch's SyncBatchNorm runs on GPUs alone. One differentiable all-reduce of sum, sum of
    squares and count per call; the same parameters and buffers.
    """

    # Private, but what the base class asks of every subclass.
    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape, normalised."""
        if not (self.training and ranks.are_several()):
            return super().forward(input)
        axes = [0, *range(2, input.dim())]
        count = torch.full((1,), input.numel() / input.shape[1], device=input.device)
        sums = torch.cat([input.sum(axes), input.square().sum(axes), count])
        total, squares, count = ranks.sum_with_gradient(sums).split([self.num_features] * 2 + [1])
        mean = total / count
        variance = squares / count - mean.square()
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                assert self.num_batches_tracked is not None
                self.num_batches_tracked.add_(1)
                momentum = self.momentum
                if momentum is None:  # then the plain mean of all batches
                    momentum = 1 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * count / (count - 1), momentum)
        shape = [1, -1] + [1] * (input.dim() - 2)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        normalised: Tensor = input * scale.view(shape) + (self.bias - mean * scale).view(shape)
        return normalised


def synchronize(network: Network) -> Network:
    """Replaces every BatchNorm in a network by one over all processes, keeping its state."""
    if torch.cuda.is_available():
        converted: Network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return converted
    for name, module in list(network.named_modules()):
        if isinstance(module, _BatchNorm) and module.affine:
            twin = CpuSyncBatchNorm(module.num_features, module.eps, module.momentum)
            twin.load_state_dict(module.state_dict())
            network.set_submodule(name, twin)
    return network
