"""The small ResNets for 32×32 images, with a width factor.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2,
https://arxiv.org/abs/1512.03385.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut without parameters (option A).

    The shortcut drops every other pixel and fills new channels with zeros.
    """

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        main = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        new = main.shape[1] - x.shape[1]  # of a pruned block fewer than it was made with
        before, after = new // 2, new - new // 2
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, after))
        total: Tensor = self.relu(main + shortcut)
        return total


class CifarResNet(nn.Module):
    """ResNet of depth 6n + 2, with n blocks in each of three stages, at strides 1, 2 and 4.

    Args:
        depth: 6n + 2, such as 8, 14, 20, 32, 44, 56, 110.
        width: Factor on the channels of the stages, 16, 32 and 64; above 0.
        num_classes: Number of classes, K.
    """

    def __init__(self, depth: int, width: float = 1, num_classes: int = 10):
        super().__init__()
        channels = [max(1, int(base * width)) for base in (16, 32, 64)]
        self.conv1 = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.relu = nn.ReLU()
        num_blocks = (depth - 2) // 6
        self.layer1 = _stage(channels[0], channels[0], num_blocks, stride=1)
        self.layer2 = _stage(channels[0], channels[1], num_blocks, stride=2)
        self.layer3 = _stage(channels[1], channels[2], num_blocks, stride=2)
        self.linear = nn.Linear(channels[2], num_classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, num_classes)."""
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(in_channels: int, channels: int, num_blocks: int, stride: int) -> nn.Sequential:
    blocks = [BasicBlock(in_channels, channels, stride)]
    blocks += [BasicBlock(channels, channels, 1) for _ in range(num_blocks - 1)]
    return nn.Sequential(*blocks)
