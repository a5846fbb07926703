"""Distil a detector in a training loop of your own.

RetinaNet with ResNet-34 teaches RetinaNet with ResNet-18, on drawings of squares and discs. The
student is called as in any loop of torchvision's detectors, once a step, and returns its own
losses. Stages of the backbone and levels of the pyramid are distilled. Places in a box of the
labels count ten times as much as others.

python examples/detector.py [STEPS]
"""

import sys
from collections.abc import Iterator

import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

import mgd

SIZE, CLASSES = 96, 3  # the background, squares, discs
Batch = tuple[list[Tensor], list[dict[str, Tensor]]]


def make_detector(name: str) -> RetinaNet:
    """Makes a detector on a backbone of torchvision, without pretrained weights."""
    backbone = resnet_fpn_backbone(
        backbone_name=name,
        weights=None,
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    anchors = AnchorGenerator(((16,), (24,), (32,), (48,), (64,)), ((1.0,),) * 5)
    return RetinaNet(backbone, CLASSES, min_size=SIZE, max_size=SIZE, anchor_generator=anchors)


def draw(seed: int, images: int = 4) -> Batch:
    """Draws images with one square or disc each, and their boxes."""
    dice = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    drawn, targets = [], []
    for _ in range(images):
        radius = int(torch.randint(8, 20, (), generator=dice))
        label = int(torch.randint(1, 3, (), generator=dice))
        x, y = torch.randint(radius, SIZE - radius, (2,), generator=dice).tolist()
        across, down = (columns - x).abs(), (rows - y).abs()
        square, disc = torch.maximum(across, down) <= radius, across**2 + down**2 <= radius**2
        inside = square if label == 1 else disc
        image = 0.2 * torch.rand(3, SIZE, SIZE, generator=dice) + 0.7 * inside
        box = torch.tensor([[x - radius, y - radius, x + radius, y + radius]]).float()
        drawn.append(image)
        targets.append({"boxes": box, "labels": torch.tensor([label])})
    return drawn, targets


def train_alone(detector: RetinaNet, steps: int) -> None:
    """Trains the teacher, as one trains any detector of torchvision."""
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-4)
    detector.train()
    for step in range(steps):
        images, targets = draw(step)
        loss = sum(detector(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def train_guided(distiller: mgd.Distiller, steps: int) -> Iterator[str]:
    """Trains the student under the teacher, and says how it goes."""
    schedule = mgd.RematchSchedule(every_steps=200)
    trained = [*distiller.student.parameters(), *distiller.points.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    for step in range(steps):
        if schedule.due_step(step):
            mgd.update_matching(distiller, [draw(seed) for seed in range(2)])
        distiller.train()
        images, targets = draw(step)
        boxes = [target["boxes"] for target in targets]
        weights = mgd.box_weights(boxes, distiller.canvas(images))
        out = distiller(images, targets=targets, weights=weights)
        losses = out.output  # what the detector returns in training: its losses by name
        loss = sum(losses.values()) + out.loss.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        texts = [f"{name} {value:.3f}" for name, value in losses.items()]
        yield f"step {step}: {', '.join(texts)}, loss of the points {out.loss.mean():.3f}"


def main() -> None:
    """Trains the teacher, then the student under it."""
    steps = int(sys.argv[1]) if sys.argv[1:] else 2
    torch.manual_seed(0)
    teacher, student = make_detector("resnet34"), make_detector("resnet18")
    train_alone(teacher, steps)
    images, _ = draw(0, images=2)
    # A batch of 4 images is small for a BatchNorm; this norm looks at one image at a time.
    with mgd.Distiller(teacher, student, images, norm="group") as distiller:
        print(distiller.points)
        for line in train_guided(distiller, steps):
            print(line)


if __name__ == "__main__":
    main()
