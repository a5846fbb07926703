"""Stages: the features of any network at some strides, for a detector on top of it."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, FeaturePyramidNetwork

from mgd.errors import InputError, import_extra
from mgd.models.creation import PRETRAINED, create_model

_SIDE = 256
"""Pixels of the image that a backbone is tried on."""


class Stages(nn.Module):
    """A backbone whose forward returns the maps at some strides, finest first.

    Args:
        body: Returns a mapping of maps (B, C, H, W).
        channels: C of each.
    """

    def __init__(self, body: nn.Module, channels: Sequence[int]):
        super().__init__()
        self.body, self.channels = body, list(channels)

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Returns the maps by "0", "1", ... from the finest."""
        return self.body(images)  # type: ignore[no-any-return]  # a module's call


class Pyramid(nn.Module):
    """A backbone with a feature pyramid, by the names that torchvision gives its parts.

    The pyramid is that of Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017,
    https://arxiv.org/abs/1612.03144.

    Args:
        stages: The backbone.
        channels: Of each level.
        extra: Makes coarser levels.
    """

    def __init__(self, stages: Stages, channels: int, extra: ExtraFPNBlock):
        super().__init__()
        self.body = stages.body
        self.fpn = FeaturePyramidNetwork(stages.channels, channels, extra)
        self.out_channels = channels

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Returns the levels by name, finest first."""
        return self.fpn(self.body(images))  # type: ignore[no-any-return]  # a module's call


class _Timm(nn.Module):
    """A backbone of timm, whose list of maps becomes a mapping."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        return OrderedDict((str(n), found) for n, found in enumerate(self.network(images)))


def build_stages(name: str, strides: Sequence[int], pretrained: bool = False) -> Stages:
    """Builds a backbone that returns its last map at each of some strides.

    Args:
        name: timm:NAME, or a classifier as `create_model` takes it whose stages are children of
            the network, or of its `features`: those of torchvision that are no transformers are.
        strides: Such as (8, 16, 32), ascending.
        pretrained: Whether to load the published ImageNet weights.

    Raises:
        InputError: For a name that is unknown, or a network without maps at these strides.
    """
    library, colon, rest = name.partition(":")
    if library == "timm" and colon:
        return _of_timm(rest, strides, pretrained)
    network = create_model(name, 1000, PRETRAINED if pretrained else None)
    features = getattr(network, "features", None)
    holder = features if isinstance(features, nn.Module) else network
    found = _last_at(network, holder, strides)
    if missing := [stride for stride in strides if stride not in found]:
        raise InputError(_misfit(name, f"maps at stride {missing[0]}", strides))
    last = [found[stride][0] for stride in strides]
    children: OrderedDict[str, nn.Module] = OrderedDict()
    for child, module in holder.named_children():
        children[child] = module
        if child == last[-1]:
            break
    return Stages(_Returning(children, last), [found[stride][1] for stride in strides])


class _Returning(nn.ModuleDict):
    """Modules one after the other; what some of them return is returned."""

    def __init__(self, children: "OrderedDict[str, nn.Module]", names: Sequence[str]):
        super().__init__(children)
        self.returned = {name: str(place) for place, name in enumerate(names)}

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        found: OrderedDict[str, Tensor] = OrderedDict()
        value = images
        for name, module in self.items():
            value = module(value)
            if name in self.returned:
                found[self.returned[name]] = value
        return found


def _last_at(
    network: nn.Module, holder: nn.Module, strides: Sequence[int]
) -> dict[int, tuple[str, int]]:
    """Returns the last child at each stride, and its channels, as a trial shows them."""
    found: dict[int, tuple[str, int]] = {}

    def look(name: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.shape[-1] > 1:
            stride = _SIDE // output.shape[-1]
            if stride in strides and output.shape[-1] == output.shape[-2] == _SIDE // stride:
                found[stride] = name, output.shape[1]

    handles = [
        child.register_forward_hook(lambda _module, _input, output, name=name: look(name, output))
        for name, child in holder.named_children()
    ]
    was_training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, _SIDE, _SIDE))
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return found


def _of_timm(name: str, strides: Sequence[int], pretrained: bool) -> Stages:
    timm = import_extra("timm", "timm", f"'timm:{name}'")
    create_model(f"timm:{name}", 1000)  # tells of an unknown name
    try:
        whole = timm.create_model(name, pretrained=False, features_only=True)
        reductions = list(whole.feature_info.reduction())
        # Of several maps at a stride, the last.
        places = [len(reductions) - 1 - reductions[::-1].index(stride) for stride in strides]
        network = timm.create_model(
            name, pretrained=pretrained, features_only=True, out_indices=tuple(places)
        )
    except (RuntimeError, ValueError, AssertionError, TypeError, AttributeError) as error:
        raise InputError(_misfit(f"timm:{name}", str(error).splitlines()[0], strides)) from error
    channels = list(network.feature_info.channels())
    with torch.no_grad():
        shapes = [tuple(found.shape) for found in network.eval()(torch.zeros(1, 3, _SIDE, _SIDE))]
    network.train()
    if [shape[1] for shape in shapes] != channels or any(len(shape) != 4 for shape in shapes):
        raise InputError(_misfit(f"timm:{name}", "maps with channels in front", strides))
    return Stages(_Timm(network), channels)


def _misfit(name: str, reason: str, strides: Sequence[int]) -> str:
    return (
        f"'{name}' cannot be the backbone of a detector, which needs maps at the strides "
        f"{', '.join(map(str, strides))}: no {reason}; choose another, such as resnet18"
    )
