"""Distil between two networks of timm: look at the points, change them, and save them.

python examples/timm_pair.py            needs the package timm
"""

import torch
import yaml

import mgd


def main() -> None:
    """Finds the points of ConvNeXt and MobileNet-V4, leaves one out, and takes a step."""
    torch.manual_seed(0)
    teacher = mgd.create_model("timm:convnext_atto", num_classes=10)
    student = mgd.create_model("timm:mobilenetv4_conv_small", num_classes=10)
    images = torch.randn(4, 3, 64, 64)

    points = mgd.discover_points(teacher, student, images)
    print(points)
    saved = yaml.safe_dump(mgd.points_to_plain(points[1:]), sort_keys=False)
    print(f"\nWithout the first, as a file:\n{saved}")

    chosen = mgd.points_from_plain(teacher, student, yaml.safe_load(saved))
    with mgd.Distiller(teacher, student, images, chosen) as distiller:
        for report in mgd.update_matching(distiller, [torch.randn_like(images)]):
            print(f"{report.point}: cost {report.cost_before:.3f} -> {report.cost_after:.3f}")
        distiller.train()
        out = distiller(images)
        out.loss.mean().backward()
        losses = [f"{name} {term.mean():.2f}" for name, term in out.terms.items()]
        print(f"loss of each point: {', '.join(losses)}")


if __name__ == "__main__":
    main()
