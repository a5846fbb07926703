"""ShuffleNet-V2 whose stages end before the ReLU: torchvision's function and parameters."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import ShuffleNetV2
from torchvision.models.shufflenetv2 import InvertedResidual, channel_shuffle


class PreActivationUnit(InvertedResidual):
    """A unit that leaves its last ReLU to whoever reads its output.

    The half that bypasses a unit is then not rectified yet either, but the reader's ReLU is
    the same on both halves, so the function of the network does not change.
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
    """Pre-activation view of torchvision's ShuffleNet-V2; weights load both ways, strictly."""

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
    """Builds ShuffleNet-V2 x1.0 with stage ends before the ReLU."""
    return PreActivationShuffleNetV2([4, 8, 4], [24, 116, 232, 464, 1024], num_classes)


def shufflenet_v2_x0_5(num_classes: int = 1000) -> ShuffleNetV2:
    """Builds ShuffleNet-V2 x0.5 with stage ends before the ReLU."""
    return PreActivationShuffleNetV2([4, 8, 4], [24, 48, 96, 192, 1024], num_classes)
