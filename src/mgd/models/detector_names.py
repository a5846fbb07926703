"""Names of detectors: `retinanet/resnet18` is a RetinaNet on a ResNet-18."""

import re
from typing import NamedTuple

from mgd.errors import InputError

HEADS = ("retinanet", "fcos", "fasterrcnn", "ssdlite")
"""Detectors of torchvision, without their backbones."""
_NAME = re.compile(rf"({'|'.join(HEADS)})(?:_x(\d+)_(\d+))?/(.+)")


class DetectorName(NamedTuple):
    """The parts of a detector's name."""

    head: str
    width: float
    """Of the pyramid: 1 for 256 channels in each level."""
    backbone: str


def is_detector(name: str) -> bool:
    """Tells whether a name is that of a detector.

    Example:
        >>> is_detector("fcos/timm:resnet18"), is_detector("resnet18")
        (True, False)
    """
    return _NAME.fullmatch(name) is not None


def parse_detector(name: str) -> DetectorName:
    """Takes the name of a detector apart.

    Raises:
        InputError: If it is none.

    Example:
        >>> parse_detector("retinanet_x0_5/resnet18")
        DetectorName(head='retinanet', width=0.5, backbone='resnet18')
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(
            f"'{name}' is no detector; give HEAD/BACKBONE with one of {', '.join(HEADS)}, such as "
            "retinanet/resnet18, retinanet_x0_5/resnet18 (half the channels in the pyramid) or "
            "fcos/timm:NAME"
        )
    head, whole, part, backbone = match.groups()
    return DetectorName(head, float(f"{whole}.{part}") if whole else 1.0, backbone)


def backbone_of(name: str) -> str:
    """Returns the network that a name would build: a detector's backbone, or the name itself."""
    match = _NAME.fullmatch(name)
    return match[4] if match else name
