"""Distil a segmentation network in a training loop of your own.

FCN with ResNet-50 teaches LR-ASPP with MobileNetV3, on drawings of squares and discs. The backbones
are distilled, and the class scores by the softmax over positions. Places where the teacher is sure
count more than others. The mean IoU is that of torchmetrics.

python examples/segmentation.py [STEPS]
"""

import sys
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.classification import MulticlassJaccardIndex
from torchvision.models.segmentation import fcn_resnet50, lraspp_mobilenet_v3_large

import mgd

SIZE, CLASSES = 64, 3  # the background, squares, discs
POINTS = [
    ("backbone.layer2.3.relu", "backbone.6.block.1.2"),
    ("backbone.layer4.2.relu", "backbone.16.2"),
    mgd.PointPair(mgd.Tap("classifier"), mgd.Tap("classifier"), loss="softmax"),
]


def draw(seed: int, images: int = 4) -> tuple[Tensor, Tensor]:
    """Draws images (B, 3, H, W) with a square and a disc each, and the class of each pixel."""
    dice = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    classes = torch.zeros(images, SIZE, SIZE, dtype=torch.long)
    for mask in classes:
        for label in (1, 2):
            x, y = torch.randint(12, SIZE - 12, (2,), generator=dice).tolist()
            across, down = (columns - x).abs(), (rows - y).abs()
            inside = torch.maximum(across, down) <= 10 if label == 1 else across**2 + down**2 <= 120
            mask[inside] = label
    noise = 0.3 * torch.rand(images, 3, SIZE, SIZE, generator=dice)
    return noise + 0.6 * (classes > 0)[:, None], classes


def train_alone(network: nn.Module, steps: int) -> None:
    """Trains the teacher."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    network.train()
    for step in range(steps):
        images, classes = draw(step)
        loss = F.cross_entropy(network(images)["out"], classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def train_guided(distiller: mgd.Distiller, steps: int) -> Iterator[str]:
    """Trains the student under the teacher, and says how it goes."""
    mgd.update_matching(distiller, [draw(seed) for seed in range(4)])
    distiller.train()
    trained = [*distiller.student.parameters(), *distiller.points.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    for step in range(steps):
        images, classes = draw(step)
        out = distiller(images, weights=mgd.score_weights)
        own = F.cross_entropy(out.logits, classes)  # of `out` in what the network returns
        optimizer.zero_grad()
        (own + out.loss.mean()).backward()
        optimizer.step()
        yield f"step {step}: cross-entropy {own:.3f}, loss of the points {out.loss.mean():.3f}"


@torch.no_grad()
def mean_iou(network: nn.Module) -> float:
    """Returns the mean over classes of intersection over union, on images not trained on."""
    measured = MulticlassJaccardIndex(CLASSES)
    network.eval()
    for seed in range(1000, 1004):
        images, classes = draw(seed)
        measured.update(network(images)["out"].argmax(1), classes)
    return float(measured.compute())


def main() -> None:
    """Trains the teacher, then the student under it, and measures both."""
    steps = int(sys.argv[1]) if sys.argv[1:] else 2
    torch.manual_seed(0)
    without = {"weights": None, "weights_backbone": None, "num_classes": CLASSES}
    teacher, student = fcn_resnet50(**without), lraspp_mobilenet_v3_large(**without)
    train_alone(teacher, steps)
    images, _ = draw(0)
    with mgd.Distiller(teacher, student, images, POINTS) as distiller:
        print(distiller.points)
        for line in train_guided(distiller, steps):
            print(line)
    print(f"mean IoU: teacher {mean_iou(teacher):.3f}, student {mean_iou(student):.3f}")


if __name__ == "__main__":
    main()
