"""A detector in a loop of your own: RetinaNet with ResNet-50-FPN teaches one with ResNet-18-FPN.

The backbones are distilled, at points given by path; the student's heads read the features that
the distiller's forward returns, so its backbone runs once.

python examples/detector_backbone.py
"""

import torch
from torch import Tensor
from torchvision.models.detection import RetinaNet, retinanet_resnet50_fpn
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

import mgd

POINTS = [
    ("body.layer3.5.relu", "body.layer3.1.relu"),
    ("body.layer4.2.relu", "body.layer4.1.relu"),
    ("fpn.layer_blocks.0", "fpn.layer_blocks.0"),
    ("fpn.layer_blocks.1", "fpn.layer_blocks.1"),
]


def detection_losses(
    student: RetinaNet, distiller: mgd.Distiller, images: list[Tensor], targets: list[dict]
) -> tuple[dict[str, Tensor], Tensor]:
    """Returns the detector's own losses by name, and the points' losses (B, n)."""
    batch, targets = student.transform(images, targets)
    pyramid, point_losses, _ = distiller(batch.tensors)
    features = list(pyramid.values())
    outputs, anchors = student.head(features), student.anchor_generator(batch, features)
    return student.compute_loss(targets, outputs, anchors), point_losses


def main() -> None:
    """Trains a detector for two steps on random images with one box each."""
    torch.manual_seed(0)
    sizes = {"min_size": 96, "max_size": 96, "num_classes": 4}
    teacher = retinanet_resnet50_fpn(weights=None, weights_backbone=None, **sizes)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)
    student = RetinaNet(backbone, **sizes).train()
    images = [torch.rand(3, 96, 96) for _ in range(2)]
    targets = [
        {"boxes": torch.tensor([[8.0, 8.0, 60.0, 70.0]]), "labels": torch.tensor([i + 1])}
        for i in range(2)
    ]
    batch = student.transform(images)[0].tensors
    # A backbone returns no logits, so there is no logit KD.
    with mgd.Distiller(
        teacher.backbone, student.backbone, POINTS, example=batch, kd_temperature=None
    ) as distiller:
        mgd.update_matching(distiller, [batch])
        distiller.train()
        weights = [*student.parameters(), *distiller.points.parameters()]
        optimizer = torch.optim.SGD(weights, lr=1e-3)
        for _ in range(2):
            losses, point_losses = detection_losses(student, distiller, images, targets)
            # Without training, the teacher's features and so the points' losses are huge.
            total = sum(losses.values()) + point_losses.sum(1).mean() / 1e4
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            texts = (f"{name} {loss:.3f}" for name, loss in losses.items())
            print(", ".join(texts), f"points loss {point_losses.sum(1).mean() / 1e4:.3f}")


if __name__ == "__main__":
    main()
