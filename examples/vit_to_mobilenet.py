"""Distil a vision transformer into MobileNet-V2.

The transformer's tokens become the positions of a map; the class token is left out.

python examples/vit_to_mobilenet.py
"""

import torch
import torchvision
from torchvision.models import VisionTransformer

import mgd


def main() -> None:
    """Pairs transformer blocks with stages of different size, and takes a step."""
    torch.manual_seed(0)
    teacher = VisionTransformer(
        image_size=64, patch_size=8, num_layers=8, num_heads=4, hidden_dim=128, mlp_dim=256,
        num_classes=10,
    )  # fmt: skip
    student = torchvision.models.mobilenet_v2(num_classes=10)
    images = torch.randn(4, 3, 64, 64)
    # A transformer has no BatchNorm to read margins from; they are measured from its features.
    print(mgd.discover_points(teacher, student, images))
    with mgd.Distiller(teacher, student, images, kd_weight=1.0) as distiller:
        mgd.update_matching(distiller, [images])
        distiller.train()
        loss = distiller(images).loss.mean()
        loss.backward()
        print(f"loss {loss:.3f}")


if __name__ == "__main__":
    main()
