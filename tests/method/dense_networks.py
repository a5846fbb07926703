"""Tiny detectors and segmenters, made of torchvision's parts, for images of 32 to 64 px."""

from collections import OrderedDict

import torch
from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.segmentation.fcn import FCN, FCNHead

POINTS = [(f"backbone.body.stage{i}.2", f"backbone.body.stage{i}.2") for i in (2, 3)]
LEVELS = [(f"backbone.fpn.layer_blocks.{i}", f"backbone.fpn.layer_blocks.{i}") for i in (0, 1)]


def stage(inside, outside, norm):
    return nn.Sequential(nn.Conv2d(inside, outside, 3, 2, 1), norm(outside), nn.ReLU())


def body(width, norm=nn.BatchNorm2d):
    widths = [3, width, 2 * width, 4 * width]
    stages = {f"stage{i}": stage(*widths[i - 1 : i + 1], norm) for i in (1, 2, 3)}
    return nn.Sequential(OrderedDict(stages))


def detector(width=4, norm=nn.BatchNorm2d, size=64, **options):
    """A RetinaNet with two pyramid levels, of strides 4 and 8."""
    layers = {"stage2": "0", "stage3": "1"}
    backbone = BackboneWithFPN(body(width, norm), layers, [2 * width, 4 * width], 4)
    # The pooled level of the default stands behind the two.
    anchors = AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)
    options = {"min_size": size, "max_size": size, "detections_per_img": 5, **options}
    return RetinaNet(backbone, num_classes=3, anchor_generator=anchors, **options)


def segmenter(width=4):
    """Class scores of 3 classes, at the stride of the backbone."""
    backbone = body(width)
    backbone = nn.Sequential(backbone, _AsDictionary())
    return FCN(backbone, FCNHead(4 * width, 3))


class _AsDictionary(nn.Module):
    def forward(self, maps):
        return OrderedDict(out=maps)


def pair(**options):
    """A wide teacher and a narrow student."""
    return detector(8, **options), detector(4, **options)


def batch(*sizes):
    """Images of the sizes given, each with one box, as a detector takes them."""
    images = [torch.rand(3, *size) for size in sizes]
    targets = [
        {"boxes": torch.tensor([[4.0, 6.0, 20.0, 24.0]]), "labels": torch.tensor([1])}
        for _ in sizes
    ]
    return images, targets
