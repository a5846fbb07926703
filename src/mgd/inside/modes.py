"""Changes to a network that last as long as a `with` block and are undone at its end."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


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
