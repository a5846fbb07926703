"""Parts: which modules of a network can hold their weights elsewhere until they are called.

A large network that is spread over several processes has each part's weights gathered when the part
is called, and given back when it returns. That is right only for a module whose weights nothing
reads from outside its own call. Many networks have others: attention reads the weight of its output
layer and never calls that layer. So the network is run once, and watched.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mgd.inside.modes import evaluating
from mgd.inside.outputs import tensors_in

MOST, LEAST = 1 / 16, 1 / 1000
"""Shares of a network's parameters: a part above `MOST` is cut into its own parts, if it can be; a
part below `LEAST` is not worth a call of its own, and stays with what is around it."""


def separate_parts(network: nn.Module, images: Tensor) -> list[nn.Module]:
    """Returns the modules whose weights can be gathered one after the other.

    A part holds at most 1/16 of the network's parameters, where modules that small read their
    weights alone; and at least 1/1000.

    Args:
        network: Run once, in eval mode and without gradients.
        images: An example, as the network takes it.

    Returns:
        Parts; one that lies inside another comes before it. The network itself is not among them,
        and holds what is left.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))
        >>> [part.out_features for part in separate_parts(network, torch.zeros(1, 4))]
        [4, 2]
    """
    watch = _watch_reads(network, images)
    total = sum(parameter.numel() for parameter in network.parameters())
    parts: list[nn.Module] = []
    seen = {network}

    def left_over(module: nn.Module) -> int:
        """Adds the parts in a module; returns how many of its parameters are in none."""
        seen.add(module)
        count = sum(parameter.numel() for parameter in module.parameters())
        is_alone = module in watch.called and all(
            module in watch.readers.get(id(p), {module}) for p in module.parameters()
        )
        if count > MOST * total or not is_alone:
            own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
            count = own + sum(left_over(child) for child in module.children() if child not in seen)
        if count < max(1, LEAST * total) or not is_alone:
            return count
        parts.append(module)
        return 0

    for child in network.children():
        if child not in seen:
            left_over(child)
    return parts


@torch.no_grad()
def _watch_reads(network: nn.Module, images: Tensor) -> "_Reads":
    """Runs a network, and returns what was seen."""
    watch = _Reads({id(parameter) for parameter in network.parameters()})
    handles = []
    for module in network.modules():
        handles.append(module.register_forward_pre_hook(watch.begin))
        handles.append(module.register_forward_hook(watch.end))
    try:
        with evaluating(network), watch:
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return watch


class _Reads(TorchFunctionMode):
    """Notes which modules are being called whenever one of some tensors is read.

    Args:
        watched: The ids of these tensors.
    """

    def __init__(self, watched: set[int]):
        super().__init__()
        self.watched = watched
        self.called: set[nn.Module] = set()
        self.readers: dict[int, set[nn.Module]] = {}
        """By the id of a tensor, the modules that were being called at every read of it."""
        self._running: list[nn.Module] = []

    def begin(self, module: nn.Module, arguments: Any) -> None:
        """Notes that a call begins."""
        self._running.append(module)
        self.called.add(module)

    def end(self, module: nn.Module, arguments: Any, output: Any) -> None:
        """Notes that the last call ends."""
        self._running.pop()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        now = set(self._running)
        for read in self.watched.intersection(map(id, tensors_in((args, kwargs)))):
            self.readers[read] = self.readers.get(read, now) & now
        return func(*args, **(kwargs or {}))
