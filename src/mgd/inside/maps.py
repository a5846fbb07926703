"""Feature maps: which tensors of a forward lie over the image, and at which resolution.

The *level* of a map is the number of halvings between the image and the map: 5 for a map of 7x7
positions of an image of 224x224 pixels.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from torch.autograd.graph import Node

from mgd.inside.probe import Sighting, Trace
from mgd.inside.tap import Tap, aspect_error


@dataclass(frozen=True)
class Candidate:
    """A place that could be a distillation point."""

    tap: Tap
    node: Node | None
    """The operation that made the map."""
    order: int
    """When the map is seen in the forward; a larger number is deeper."""
    level: int
    """Number of halvings between the image and the map."""
    is_residual_sum: bool = False
    """Whether it is the sum that a block with an MLP returns."""
    level_changes: int = 0
    """Number of blocks around it that return maps of another level."""


class FeatureMaps:
    """The feature maps of a trace.

    Args:
        trace: What a probe saw in the network.
        strict: Whether to leave out maps of a single position, features without positions, and
            maps that have not the proportions of the image.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU())
        >>> trace = Trace(network, torch.zeros(1, 3, 8, 8))
        >>> FeatureMaps(trace).candidate(trace.returned["0"]).level
        1
    """

    def __init__(self, trace: Trace, strict: bool = True):
        self.trace, self.strict = trace, strict
        read = [self._read(sighting) for sighting in trace.sightings.values()]
        areas = {area for _, area in filter(None, read)}
        self._level_of = count_levels(areas, math.prod(trace.image_size))

    def candidate(self, sighting: Sighting, allow_overwritten: bool = False) -> Candidate | None:
        """Returns a tensor as a candidate, or `None` if no tap can read a feature map there.

        Args:
            sighting: The tensor.
            allow_overwritten: Whether it may be overwritten later: its level can be told then,
                but no tap can read it.
        """
        reading = self._read(sighting)
        if reading is None or (sighting.overwritten and not allow_overwritten):
            return None
        tap, area = reading
        return Candidate(tap, sighting.node, sighting.order, self._level_of[area])

    def _read(self, sighting: Sighting) -> tuple[Tap, int] | None:
        """Returns the tap with its layout, and the area H · W of the map."""
        tensor, image_size = sighting.tensor, self.trace.image_size
        dimensions = (3, 4) if self.strict else (2, 3, 4)
        # Windows of Swin and the like are stacked in the first axis; they are parts of a map.
        if tensor.dim() not in dimensions or tensor.shape[0] != 1 or not tensor.numel():
            return None
        if not tensor.is_floating_point():
            return None
        tap = Tap(sighting.path, sighting.side).with_layout(tensor, image_size)
        height, width = tap.read(tensor, image_size).shape[2:]
        is_proportional = aspect_error((height, width), image_size) <= max(1, 0.2 * height)
        if self.strict and not (height * width > 1 and is_proportional):
            return None
        return tap, height * width


def count_levels(areas: Iterable[int], image_area: int) -> dict[int, int]:
    """Returns the level of each area.

    Args:
        areas: Numbers of positions H · W of a network's maps.
        image_area: Number of pixels of the image.

    Example:
        >>> count_levels([112 * 112, 56 * 56, 7 * 7], 224 * 224)
        {12544: 1, 3136: 2, 49: 5}
    """
    # Counted from one size to the next, since the effects of rounding and missing padding add up:
    # 33 px become 17, 9, 5 and 3 px.
    level, area_before, levels = 0, image_area, {}
    for area in sorted(areas, reverse=True):
        ratio = math.sqrt(area_before / area)
        # Up to a ratio of 3 it is one step: without padding, 6 and 7 px become 2 and 3 px.
        step = 1 if math.sqrt(2) < ratio <= 3 else round(math.log2(ratio))
        if step:
            level, area_before = level + step, area
        levels[area] = level
    return levels
