"""Distil into a network of your own: nothing in it is written for distillation.

python examples/own_network.py
"""

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import mgd


def main() -> None:
    """Trains a small network for a few steps on random images."""
    torch.manual_seed(0)
    teacher = torchvision.models.resnet18(num_classes=10)  # load your trained weights here
    student = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, 4, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, 2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, 2, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )
    batches = [(torch.randn(8, 3, 64, 64), torch.randint(10, (8,))) for _ in range(3)]

    print(mgd.discover_points(teacher, student, batches[0][0]))
    with mgd.Distiller(teacher, student, example=batches[0][0]) as distiller:
        # The student's weights, and one BatchNorm per point.
        weights = [*student.parameters(), *distiller.points.parameters()]
        optimizer = torch.optim.SGD(weights, lr=0.01, momentum=0.9)
        mgd.update_matching(distiller, batches)
        distiller.train()
        for images, labels in batches:
            logits, point_losses, kd_loss = distiller(images)
            points = point_losses @ mgd.point_weights(point_losses.shape[1])
            loss = F.cross_entropy(logits, labels) + (kd_loss + points / 1e4).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(f"loss {loss:.3f}, of it points {points.mean() / 1e4:.3f}")


if __name__ == "__main__":
    main()
