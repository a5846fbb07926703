"""Modes and gradients of a network: changed for a while, and given back as they were."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


class AsGiven:
    """Every module's mode and every weight's `requires_grad`, as they are now; `restore` sets them.

    Args:
        network: The network to remember.

    Example:
        >>> network = nn.Linear(2, 2)
        >>> given = AsGiven(network)
        >>> network = network.eval().requires_grad_(False)
        >>> given.restore()
        >>> network.training, network.weight.requires_grad
        (True, True)
    """

    def __init__(self, network: nn.Module):
        self._modes = [(module, module.training) for module in network.modules()]
        # By name: a weight that is replaced meanwhile, as where a BatchNorm is folded into it, may
        # be large, and is not kept alive here.
        self._learned = [
            (module, name, weight.requires_grad)
            for module in network.modules()
            for name, weight in module.named_parameters(recurse=False)
        ]

    def restore(self) -> None:
        """Sets modes and gradients back, once; a second call leaves the network alone."""
        for module, mode in self._modes:
            module.training = mode
        for module, name, is_learned in self._learned:
            if isinstance(weight := getattr(module, name, None), nn.Parameter):
                weight.requires_grad_(is_learned)
        self._modes, self._learned = [], []


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Puts networks into eval mode; at the end every module gets its own mode back.

    Example:
        >>> from torch import nn
        >>> from mgd.inside import evaluating
        >>> network = nn.Dropout()
        >>> with evaluating(network):
        ...     network.training
        False
        >>> network.training
        True
    """
    modes = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def constant_weights(network: nn.Module) -> Iterator[None]:
    """Keeps the weights out of autograd's graph.

    The graph then shows only what is computed from the images.

    Example:
        >>> network = nn.Linear(2, 2)
        >>> with constant_weights(network):
        ...     network.weight.requires_grad
        False
        >>> network.weight.requires_grad
        True
    """
    learned = [weight for weight in network.parameters() if weight.requires_grad]
    try:
        for weight in learned:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in learned:
            weight.requires_grad_(True)


class Buffers:
    """What the buffers of a network hold now; `restore` gives it back to them.

    A forward may change them in eval mode as well: the observers of quantisation-aware training do.

    Args:
        network: The network to remember. Buffers that have no shape yet are left alone.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> given = Buffers(norm)
        >>> output = norm(torch.randn(8, 2))
        >>> given.restore()
        >>> norm.running_mean
        tensor([0., 0.])
    """

    def __init__(self, network: nn.Module):
        self._kept: list[tuple[Tensor, Tensor]] = [
            (buffer, buffer.clone()) for buffer in network.buffers() if not is_lazy(buffer)
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Gives every buffer its values back, and its shape."""
        for buffer, values in self._kept:
            if buffer.shape != values.shape:  # observers begin with an empty one
                buffer.resize_(values.shape)
            buffer.copy_(values)
