"""MobileNet-V1, and MobileNet-V2 with the strides that the paper's authors used."""

from torch import Tensor, nn
from torchvision.models import MobileNetV2
from torchvision.ops.misc import Conv2dNormActivation

_BLOCKS: tuple[tuple[int, int], ...] = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
) + ((512, 1),) * 5
_BLOCKS += ((1024, 2), (1024, 1))


class DepthwiseSeparable(nn.Module):
    """A 3×3 convolution per channel, then a 1×1 convolution, each with BatchNorm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.depthwise = Conv2dNormActivation(
            in_channels, in_channels, stride=stride, groups=in_channels
        )
        self.pointwise = Conv2dNormActivation(in_channels, out_channels, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        features: Tensor = self.pointwise(self.depthwise(images))
        return features


class MobileNetV1(nn.Module):
    """MobileNet-V1 of width 1, for images of any size.

    Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
    Applications", 2017, https://arxiv.org/abs/1704.04861.

    Args:
        num_classes: Number of classes, K. With 1000 there are 4.2 million parameters.
    """

    def __init__(self, num_classes: int = 1000):
        super().__init__()
        widths = [32, *(width for width, _ in _BLOCKS)]
        self.stem = Conv2dNormActivation(3, widths[0], stride=2)
        self.blocks = nn.Sequential(
            *(
                DepthwiseSeparable(before, after, stride)
                for before, (after, stride) in zip(widths, _BLOCKS, strict=False)
            )
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, num_classes)."""
        logits: Tensor = self.classifier(self.pool(self.blocks(self.stem(images))).flatten(1))
        return logits


def mobilenet_v2_eccv(num_classes: int = 1000) -> MobileNetV2:
    """Builds MobileNet-V2 with the strides of the MGD paper's authors.

    The 96-channel group halves the resolution, instead of the 64-channel group. This takes 416
    instead of 301 million multiply-adds at 224 px. The parameters have torchvision's names and
    shapes.

    Args:
        num_classes: Number of classes, K.
    """
    settings = [
        [1, 16, 1, 1],
        [6, 24, 2, 2],
        [6, 32, 3, 2],
        [6, 64, 4, 1],
        [6, 96, 3, 2],
        [6, 160, 3, 2],
        [6, 320, 1, 1],
    ]
    return MobileNetV2(num_classes=num_classes, inverted_residual_setting=settings)
