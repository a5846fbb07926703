"""Tiny networks of each kind that taps and discovery must understand, and what tests do to them."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer

import mgd
from mgd.inside.tap import Tap
from mgd.inside.tapped import TappedModel

# --- one residual block, for taps


class Block(nn.Module):
    """A residual block that calls its one ReLU twice."""

    def __init__(self, inplace=False):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.relu = nn.ReLU(inplace)

    def forward(self, x):
        return self.relu(self.conv2(self.relu(self.conv1(x))) + x)


class Net(nn.Module):
    def __init__(self, inplace=False):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.block = Block(inplace)
        self.unused = nn.ReLU()
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        return self.head(self.block(self.stem(x)).mean((2, 3)))


def block_sum(net, images):
    """What the input tap of the block's ReLU must read, computed by hand."""
    x = net.stem(images)
    return net.block.conv2(F.relu(net.block.conv1(x))) + x


def tapped_at(net, *texts):
    return TappedModel(net, [Tap.parse(net, text) for text in texts])


def num_hooks(net):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


IMAGES = torch.linspace(-1, 1, 2 * 3 * 6 * 6).view(2, 3, 6, 6)

# --- networks in stages, for discovery


def conv(before, after, stride=1, activation=nn.ReLU, norm=nn.BatchNorm2d):
    layers = nn.Conv2d(before, after, 3, stride, padding=1, bias=False), norm(after), activation()
    return nn.Sequential(*layers)


class Cnn(nn.Module):
    """Four stages of two convolutions, at strides 2, 4, 8 and 16."""

    def __init__(self, widths=(4, 6, 8, 10), colours=3, num_classes=5, **kinds):
        super().__init__()
        before = (colours, *widths)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(conv(b, a, 2, **kinds), conv(a, a, **kinds))
                for b, a in zip(before, widths, strict=False)
            )
        )
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, x):
        return self.head(self.stages(x).mean((2, 3)))


class FunctionalBlock(nn.Module):
    """A residual block whose activations are functions, in place or not."""

    def __init__(self, before, after, inplace):
        super().__init__()
        self.conv1, self.conv2 = (
            nn.Conv2d(b, after, 3, s, padding=1) for b, s in ((before, 2), (after, 1))
        )
        self.norm1, self.norm2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        # Not `inplace`: a probe switches modules with that attribute to out-of-place.
        self.overwrites = inplace

    def forward(self, x):
        x = F.relu(self.norm1(self.conv1(x)), inplace=self.overwrites)
        return F.relu(self.norm2(self.conv2(x)) + x, inplace=self.overwrites)


class FunctionalCnn(nn.Module):
    def __init__(self, inplace=False):
        super().__init__()
        self.block1, self.block2 = (FunctionalBlock(b, a, inplace) for b, a in ((3, 6), (6, 8)))
        self.conv3, self.norm3 = nn.Conv2d(8, 10, 3, 2, padding=1), nn.BatchNorm2d(10)
        self.head = nn.Linear(10, 5)

    def forward(self, x):
        x = self.norm3(self.conv3(self.block2(self.block1(x))))
        return self.head(F.relu(x).mean((2, 3)))


class Inception(nn.Module):
    """Two branches, each with an activation of its own, side by side."""

    def __init__(self, before, after):
        super().__init__()
        self.left, self.right = conv(before, after, 2), conv(before, after, 2)

    def forward(self, x):
        return torch.cat([self.left(x), self.right(x)], 1)


def vit(layers=6, size=32, **kinds):
    settings = {"num_heads": 2, "hidden_dim": 12, "mlp_dim": 24, "num_classes": 5, **kinds}
    return VisionTransformer(image_size=size, patch_size=8, num_layers=layers, **settings)


def swin():
    return SwinTransformer([4, 4], 8, [1, 1, 2, 1], [1, 1, 1, 1], [2, 2], num_classes=5)


def images(size=(32, 32), batch=2, colours=3):
    return torch.randn(batch, colours, *size)


def found(teacher, student, example=None):
    """The points as pairs of texts."""
    points = mgd.discover_points(teacher, student, images() if example is None else example)
    return [(str(pair.teacher), str(pair.student)) for pair in points]


def students_of(network, example=None):
    return [student for _, student in found(Cnn(), network, example)]


def train_one_step(teacher, student, example, **settings):
    """A distiller with points found by itself, matched and trained once; returns its points."""
    with mgd.Distiller(teacher, student, example=example, **settings) as distiller:
        mgd.update_matching(distiller, [example])
        distiller.train()
        out = distiller(example)
        (out.logits.sum() + out.loss.sum()).backward()
        pairs = distiller.points.pairs
    assert pairs
    assert all(weight.grad.isfinite().all() for weight in student.parameters())
    assert all(weight.grad is None for weight in teacher.parameters())
    return pairs
