"""Widths: a network whose channels were pruned, built from the shapes of its weights."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # torch has no public name for all of them

from mgd.errors import InputError

PRUNABLE = (nn.Conv2d, nn.Linear, _BatchNorm)
"""Modules whose channels can be removed: their sizes are those of their weights."""


@torch.no_grad()
def fit_widths(
    network: nn.Module, weights: Mapping[str, Tensor], source: str, head: Collection[str] = ()
) -> None:
    """Narrows a network to the shapes of the weights that are to be loaded into it.

    The new parameters are zero; load the weights next. A depth-wise convolution stays one.

    Args:
        network: As its library builds it; edited in place.
        weights: By name. Weights that the network does not have are left to whoever loads them.
        source: What to call them in an error, such as the path of their file.
        head: Names of the last layer's parameters: their first size, the classes, stays.

    Raises:
        InputError: If a shape is larger than the network's, or belongs to a module that cannot be
            narrowed.
    """
    for path, module in network.named_modules():
        prefix = f"{path}." if path else ""
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        narrowed = False
        for name, tensor in own:
            key = prefix + name
            shape = tuple(weights[key].shape) if key in weights else tuple(tensor.shape)
            if key in head:
                shape = (*tensor.shape[:1], *shape[1:])
            if shape == tuple(tensor.shape):
                continue
            if not isinstance(module, PRUNABLE) or not _is_within(shape, tensor.shape):
                raise InputError(
                    f"'{source}' is of a pruned network, but {key} {shape} cannot be a part of "
                    f"{tuple(tensor.shape)}; name the network that was pruned"
                )
            new = tensor.new_zeros(shape)
            is_parameter = isinstance(tensor, nn.Parameter)
            setattr(module, name, nn.Parameter(new, tensor.requires_grad) if is_parameter else new)
            narrowed = True
        if narrowed:
            _tell_sizes(module)


def is_depthwise(convolution: nn.Conv2d) -> bool:
    """Tells whether each output channel of a convolution reads one channel of its own."""
    groups = convolution.groups
    return groups > 1 and groups == convolution.in_channels == convolution.out_channels


def _is_within(shape: tuple[int, ...], whole: torch.Size) -> bool:
    return len(shape) == len(whole) and all(
        0 < part <= most for part, most in zip(shape, whole, strict=True)
    )


def _tell_sizes(module: nn.Module) -> None:
    """Sets the sizes that a module keeps beside its parameters."""
    if isinstance(module, nn.Conv2d):
        channels, share = module.weight.shape[:2]
        if is_depthwise(module):
            module.groups = channels
        module.out_channels, module.in_channels = channels, share * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _BatchNorm):
        # Of a module without weights the statistics tell it.
        sized = module.weight if module.running_mean is None else module.running_mean
        module.num_features = len(sized)
