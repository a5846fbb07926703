"""Distil into a network of your own, which needs no code for distillation.

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
    with mgd.Distiller(teacher, student, batches[0][0], kd_weight=1.0) as distiller:
        # The student's weights, and one BatchNorm per point.
        optimizer = torch.optim.SGD(distiller.learner.parameters(), lr=0.01, momentum=0.9)
        mgd.update_matching(distiller, batches)
        distiller.train()
        for images, labels in batches:
            out = distiller(images, labels)
            loss = F.cross_entropy(out.output, labels) + out.loss.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            terms = ", ".join(f"{name} {term.mean():.3f}" for name, term in out.terms.items())
            print(f"loss {loss:.3f}, of it {terms}")


if __name__ == "__main__":
    main()
