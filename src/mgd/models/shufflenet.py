"""ShuffleNet-V2 whose stages end before the ReLU, so that pre-activations can be tapped.

It computes the same function as torchvision's network, and has the same parameters.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import ShuffleNetV2
from torchvision.models.shufflenetv2 import InvertedResidual, channel_shuffle


class PreActivationUnit(InvertedResidual):
    """A unit without its last ReLU; the module that reads its output applies the ReLU instead.

    Half of the channels bypass a unit of stride 1, so they stay before the ReLU as well. The reader
    applies its ReLU to all channels, so the function of the network does not change.
    """

    def __init__(self, inp: int, oup: int, stride: int):
        super().__init__(inp, oup, stride)
        for branch in (self.branch1, self.branch2):
            if len(branch):
                branch[-1] = nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Takes and returns features before their ReLU."""
        if self.stride == 1:
            bypass, worked = x.chunk(2, dim=1)
            halves = bypass, self.branch2(self.relu(worked))
        else:
            rectified = self.relu(x)
            halves = self.branch1(rectified), self.branch2(rectified)
        shuffled: Tensor = channel_shuffle(torch.cat(halves, dim=1), 2)
        return shuffled


class PreActivationShuffleNetV2(ShuffleNetV2):
    """ShuffleNet-V2 of pre-activation units.

    State dicts of torchvision's network load into this one with `strict=True`, and the reverse.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs, inverted_residual=PreActivationUnit)
        self.relu = nn.ReLU()

    # torchvision's `forward` calls it; without it the last ReLU would be missing.
    def _forward_impl(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.conv1(x))
        x = self.relu(self.stage4(self.stage3(self.stage2(x))))
        logits: Tensor = self.fc(self.conv5(x).mean([2, 3]))
        return logits


def shufflenet_v2(num_classes: int = 1000) -> ShuffleNetV2:
    """Builds ShuffleNet-V2 x1.0 whose stages end before the ReLU."""
    return PreActivationShuffleNetV2([4, 8, 4], [24, 116, 232, 464, 1024], num_classes)


def shufflenet_v2_x0_5(num_classes: int = 1000) -> ShuffleNetV2:
    """Builds ShuffleNet-V2 x0.5 whose stages end before the ReLU."""
    return PreActivationShuffleNetV2([4, 8, 4], [24, 48, 96, 192, 1024], num_classes)
