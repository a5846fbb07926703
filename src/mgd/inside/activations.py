"""Activations: what goes into each of them, whether a module or a function computes it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from torch import nn
from torch.autograd.graph import Node

from mgd.inside.graph import (
    first_before,
    is_activation_function,
    is_norm,
    is_pooling,
    is_reshaping,
    is_slice,
)
from mgd.inside.probe import Sighting, Trace
from mgd.inside.tap import is_activation

# Their results scale other features, as in squeeze-and-excitation.
_SIGMOIDS = (nn.Sigmoid, nn.Hardsigmoid, nn.LogSigmoid)


@dataclass(frozen=True)
class Activation:
    """An activation of a network, and where its input can be read."""

    sighting: Sighting
    """The input, or the tensor nearest to it that a tap can read."""
    node: Node | None
    """The operation that computes the activation."""


def find_activations(trace: Trace) -> list[Activation]:
    """Returns the activations of a network, modules and functions.

    Sigmoids do not count: they make factors for other features, and their input is no feature map.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Sigmoid())
        >>> found = find_activations(Trace(network, torch.zeros(1, 3, 8, 8)))
        >>> [(activation.sighting.path, activation.sighting.side) for activation in found]
        [('1', 'input')]
    """
    functions: dict[Node, Activation] = {}
    # A function has no input to tap. The first of three stand-ins that exists is taken.
    ways = (_returned_before(trace), _returned_behind(trace), _read_by_norm_before(trace))
    for node, sighting in chain(*ways):
        functions.setdefault(node, Activation(sighting, node))
    return [*_of_modules(trace), *functions.values()]


def _of_modules(trace: Trace) -> Iterator[Activation]:
    for sighting in trace.sightings.values():
        module = trace.modules[sighting.path]
        if sighting.side != "input" or sighting.path not in trace.returned:
            continue
        if is_activation(module) and not isinstance(module, _SIGMOIDS):
            yield Activation(sighting, trace.returned[sighting.path].node)


def _functions_of(trace: Trace, sighting: Sighting) -> list[Node]:
    """Returns the activation functions that read a tensor."""
    return [node for node in trace.consumers_of(sighting.node) if _is_function(trace, node)]


def _returned_before(trace: Trace) -> Iterator[tuple[Node, Sighting]]:
    """Yields functions with what the module in front returned, unless it is overwritten."""
    for sighting in trace.returned.values():
        for node in () if sighting.overwritten else _functions_of(trace, sighting):
            yield node, sighting


def _returned_behind(trace: Trace) -> Iterator[tuple[Node, Sighting]]:
    """Yields functions with their own result, where a module around them returns it."""
    for sighting in trace.returned.values():
        if sighting.node is not None and _is_function(trace, sighting.node):
            yield sighting.node, sighting


def _read_by_norm_before(trace: Trace) -> Iterator[tuple[Node, Sighting]]:
    """Yields functions that overwrite a norm's output, with what that norm read."""
    for sighting in trace.returned.values():
        source = trace.sightings.get((sighting.path, "input"))
        if not sighting.overwritten or sighting.node is None or source is None:
            continue
        for node in _functions_of(trace, sighting) if is_norm(sighting.node) else ():
            yield node, source


def _is_function(trace: Trace, node: Node) -> bool:
    """Tells whether an operation is an activation that no activation module computes."""
    return is_activation_function(node) and not any(map(is_activation, trace.makers_of(node)))


def is_activated(trace: Trace, node: Node | None) -> bool:
    """Tells whether a tensor is the result of an activation, with only pooling in between.

    Args:
        trace: What a probe saw in the network.
        node: The operation that made the tensor.
    """
    made = first_before(node, lambda before: is_reshaping(before) or is_pooling(before))
    by_module = any(map(is_activation, trace.makers_of(made)))
    return made is not None and (by_module or _is_function(trace, made))


def is_in_mlp(trace: Trace, activation: Activation) -> bool:
    """Tells whether an activation reads a linear layer at many positions of the image.

    So it is in the MLP of a transformer's or ConvNeXt's block. A 1x1 convolution without a norm
    counts as a linear layer.
    """
    tensor = activation.sighting.tensor
    if reads_pointwise_conv(trace, activation):
        return True
    has_one_position = tensor.numel() == tensor.shape[0] * tensor.shape[-1]
    if tensor.dim() < 3 or has_one_position:
        return False

    def is_on_the_way(node: Node) -> bool:
        # A gated MLP splits what its linear layer returns.
        return (is_reshaping(node) or is_slice(node)) and not _is_linear(trace, node)

    made = first_before(activation.sighting.node, is_on_the_way)
    return _is_linear(trace, made) or tensor.dim() == 3


def _is_linear(trace: Trace, node: Node | None) -> bool:
    return any(isinstance(module, nn.Linear) for module in trace.makers_of(node))


def reads_pointwise_conv(trace: Trace, activation: Activation) -> bool:
    """Tells whether an activation reads a 1x1 convolution directly, at many positions."""
    tensor = activation.sighting.tensor
    is_map = tensor.dim() == 4 and tensor[0, 0].numel() > 1
    return is_map and any(
        isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)
        for module in trace.makers_of(activation.sighting.node)
    )
