"""Distil a detector in a training loop of your own.

RetinaNet with ResNet-50-FPN teaches RetinaNet with ResNet-18-FPN. Only the backbones are distilled,
at points given by path. The student's heads read the features that the distiller's forward returns,
so the student's backbone runs once a step.

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
    """Returns the detector's own losses by name, and what the teacher adds for each image (B,)."""
    batch, targets = student.transform(images, targets)
    out = distiller(batch.tensors)
    features = list(out.output.values())
    outputs, anchors = student.head(features), student.anchor_generator(batch, features)
    return student.compute_loss(targets, outputs, anchors), out.loss


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
    # A backbone returns no logits, so the points alone teach. The weight is this small because the
    # teacher is untrained and its features are huge; leave it out for a trained one.
    with mgd.Distiller(
        teacher.backbone, student.backbone, batch, POINTS, feature_weight=1e-3
    ) as distiller:
        mgd.update_matching(distiller, [batch])
        distiller.train()
        weights = [*student.parameters(), *distiller.points.parameters()]
        optimizer = torch.optim.SGD(weights, lr=1e-3)
        for _ in range(2):
            losses, taught = detection_losses(student, distiller, images, targets)
            total = sum(losses.values()) + taught.mean()
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            texts = (f"{name} {loss:.3f}" for name, loss in losses.items())
            print(", ".join(texts), f"points loss {taught.mean():.3f}")


if __name__ == "__main__":
    main()
