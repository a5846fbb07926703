"""Folds a frozen network's BatchNorms into the convolutions in front of them."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode

from mgd.errors import InputError
from mgd.inside import Tap, evaluating
from mgd.inside.outputs import tensors_in


class FoldedBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm whose work the convolution in front of it does; its parameters are still read."""

    def forward(self, input: Tensor) -> Tensor:
        """Returns its input."""
        return input


@torch.no_grad()
def fold_batch_norms(network: nn.Module, images: Tensor, taps: Iterable[Tap] = ()) -> int:
    """Folds every BatchNorm that is the only reader of a convolution's output.

    For networks that stay in eval mode. Modules stay the same objects under the same names, so
    that hooks and taps on them, and margins from their parameters, stay right. Weights cannot be
    loaded into the network any more.

    Args:
        network: Edited in place.
        images: An example, to see what reads what.
        taps: Places that must go on reading what they read: what one of them sees between a
            convolution and its BatchNorm is not folded away.

    Returns:
        How many BatchNorms were folded.
    """
    tapped = {(tap.path, tap.side) for tap in taps}
    names = {module: name for name, module in network.named_modules()}
    pairs = [
        (convolution, norm)
        for convolution, norm in _pairs(network, images)
        if (names[convolution], "output") not in tapped and (names[norm], "input") not in tapped
    ]
    for convolution, norm in pairs:
        _fold(convolution, norm)
        norm.__class__ = FoldedBatchNorm2d  # replaced, it would leave its hooks behind
    if pairs:
        network.register_load_state_dict_pre_hook(_refuse)
    return len(pairs)


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    # In float64, so that nothing is lost but the last rounding.
    weight, bias = fuse_conv_bn_weights(
        convolution.weight.double(),
        None if convolution.bias is None else convolution.bias.double(),
        norm.running_mean.double(),
        norm.running_var.double(),
        norm.eps,
        norm.weight.double(),
        norm.bias.double(),
    )
    kind = convolution.weight
    convolution.weight = nn.Parameter(weight.to(kind), requires_grad=False)
    convolution.bias = nn.Parameter(bias.to(kind), requires_grad=False)


def _refuse(*arguments: Any) -> None:
    raise InputError("weights cannot be loaded once BatchNorms are folded; load, then fold")


def _pairs(network: nn.Module, images: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Runs the network and returns (convolution, BatchNorm) pairs that can be folded."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # holds the outputs, so that ids stay theirs
    read: list[tuple[int, nn.BatchNorm2d]] = []
    calls: Counter[nn.Module] = Counter()
    readers = _Readers()

    def after(module: nn.Conv2d, args: Any, output: Tensor) -> None:
        calls[module] += 1
        made[id(output)] = module, output
        readers.count[id(output)] = 0  # those so far read another tensor, gone by now

    def before(module: nn.BatchNorm2d, args: tuple[Tensor]) -> None:
        calls[module] += 1
        if id(args[0]) in made:  # later, that id may be another tensor's
            read.append((id(args[0]), module))

    handles = []
    for module in network.modules():
        if type(module) is nn.Conv2d:
            handles.append(module.register_forward_hook(after))
        elif type(module) is nn.BatchNorm2d and module.track_running_stats and module.affine:
            handles.append(module.register_forward_pre_hook(before))
    try:
        with evaluating(network), readers:
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return [
        (made[key][0], norm)
        for key, norm in read
        if readers.count[key] == calls[norm] == calls[made[key][0]] == 1
    ]


class _Readers(TorchFunctionMode):
    """Counts the operations that compute something from each tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if tensors_in(result):
            self.count.update({id(tensor) for tensor in tensors_in((args, kwargs))})
        return result
