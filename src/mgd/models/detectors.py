"""Detectors: RetinaNet, FCOS, Faster R-CNN and SSDlite of torchvision on any backbone."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import Conv2dNormActivation
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from mgd.errors import InputError
from mgd.models.detector_names import parse_detector
from mgd.models.stages import Pyramid, Stages, build_stages

_CHANNELS = 256
_SMALL = 512
"""Below this size of the images the anchors are half as large as those of COCO's 800 px."""

LOSSES = {
    "retinanet": ("classification", "bbox_regression"),
    "fcos": ("classification", "bbox_regression", "bbox_ctrness"),
    "fasterrcnn": ("loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"),
    "ssdlite": ("bbox_regression", "classification"),
}
"""Names of the losses that each returns in training mode, in their order."""


def create_detector(
    name: str, num_classes: int, size: int = 800, pretrained: bool = False
) -> nn.Module:
    """Builds a detector of torchvision on a backbone, with random weights.

    In training mode it takes a list of images (3, H, W) from 0 to 1 and a list of targets, and
    returns a dict of losses; in eval mode it takes the images alone and returns for each `boxes`
    (N, 4), `labels` (N,) and `scores` (N,). It resizes and normalises the images itself.

    Args:
        name: HEAD/BACKBONE. HEAD is `retinanet`, `fcos`, `fasterrcnn` or `ssdlite`; with `_x0_5`
            behind it the pyramid has half of its 256 channels, and so has the head, which is most
            of the work on small images. BACKBONE is `timm:NAME`, or a classifier as
            `mgd.create_model` takes it, such as `resnet18` or `torchvision:mobilenet_v3_large`.
        num_classes: Number of classes, at least 1. Their labels count from 1; 0 is no object.
        size: Length in pixels to which the longer side of an image is resized; at least 32.
            `ssdlite` resizes both sides to it. Below 512 the anchors are half as large as usual.
        pretrained: Whether the backbone has its published ImageNet weights.

    Raises:
        InputError: For an unknown name, a backbone without the maps that are needed, or a value
            out of range.

    Example:
        >>> import torch
        >>> detector = create_detector("retinanet_x0_5/resnet18", num_classes=3, size=64)
        >>> found = detector.eval()([torch.rand(3, 48, 64)])
        >>> sorted(found[0])
        ['boxes', 'labels', 'scores']
    """
    if num_classes < 1:
        raise InputError(f"`num_classes` (={num_classes}) must be at least 1")
    if size < 32:
        raise InputError(f"`size` (={size}) must be at least 32 px for a detector")
    head, width, backbone = parse_detector(name)
    channels = 8 * max(4, round(width * _CHANNELS / 8))
    stages = partial(build_stages, backbone, pretrained=pretrained)
    network: nn.Module = _BUILDERS[head](stages, channels, num_classes + 1, size)
    return network.train()


_Stages = Callable[[Sequence[int]], Stages]


def _sizes(size: int) -> dict[str, Any]:
    """Returns what resizes the longer side of an image to a size, whatever the shorter side."""
    return {"min_size": size, "max_size": size}


def _anchors(size: int, scales: Sequence[float]) -> AnchorGenerator:
    """Returns anchors for five levels, four times their stride at the usual sizes."""
    first = 32 if size >= _SMALL else 16
    sizes = tuple(tuple(int(first * 2**level * each) for each in scales) for level in range(5))
    return AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5)


def _retinanet(stages: _Stages, channels: int, num_classes: int, size: int) -> Any:
    pyramid = Pyramid(stages((8, 16, 32)), channels, LastLevelP6P7(channels, channels))
    anchors = _anchors(size, (1.0, 2 ** (1 / 3), 2 ** (2 / 3)))
    return RetinaNet(pyramid, num_classes, anchor_generator=anchors, **_sizes(size))


def _fcos(stages: _Stages, channels: int, num_classes: int, size: int) -> Any:
    # Its head normalises in 32 groups, which need two values each, also at a level of 1 x 1.
    channels = 32 * max(2, round(channels / 32))
    pyramid = Pyramid(stages((8, 16, 32)), channels, LastLevelP6P7(channels, channels))
    return FCOS(pyramid, num_classes, **_sizes(size))


def _fasterrcnn(stages: _Stages, channels: int, num_classes: int, size: int) -> Any:
    pyramid = Pyramid(stages((4, 8, 16, 32)), channels, LastLevelMaxPool())
    anchors = _anchors(size, (1.0,))
    return FasterRCNN(pyramid, num_classes, rpn_anchor_generator=anchors, **_sizes(size))


def _ssdlite(stages: _Stages, channels: int, num_classes: int, size: int) -> Any:
    backbone = _Coarser(stages((16, 32)), 2 * channels)
    generator = DefaultBoxGenerator(
        [[2, 3]] * len(backbone.channels), min_ratio=0.2, max_ratio=0.95
    )
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    head = SSDLiteHead(backbone.channels, generator.num_anchors_per_location(), num_classes, norm)
    return SSD(backbone, generator, (size, size), num_classes, head=head)


class _Coarser(nn.Module):
    """A backbone with four coarser maps, each half as large as the one before, as SSDlite has.

    Args:
        stages: The backbone.
        channels: Of the first coarser map; the last two have half of them.
    """

    def __init__(self, stages: Stages, channels: int):
        super().__init__()
        self.body = stages.body
        self.channels = [*stages.channels, channels, channels // 2, channels // 2, channels // 4]
        given = self.channels[1:-1]
        self.extra = nn.ModuleList(map(_halved, given, self.channels[2:]))

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Returns the maps by name, finest first."""
        maps = list(self.body(images).values())
        for block in self.extra:
            maps.append(block(maps[-1]))
        return OrderedDict((str(number), each) for number, each in enumerate(maps))


def _halved(given: int, made: int) -> nn.Module:
    middle = max(8, made // 2)
    return nn.Sequential(
        Conv2dNormActivation(given, middle, kernel_size=1, activation_layer=nn.ReLU6),
        Conv2dNormActivation(middle, middle, 3, 2, groups=middle, activation_layer=nn.ReLU6),
        Conv2dNormActivation(middle, made, kernel_size=1, activation_layer=nn.ReLU6),
    )


_BUILDERS: dict[str, Callable[[Any, int, int, int], nn.Module]] = {
    "retinanet": _retinanet,
    "fcos": _fcos,
    "fasterrcnn": _fasterrcnn,
    "ssdlite": _ssdlite,
}
