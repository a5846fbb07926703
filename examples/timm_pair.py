"""Any two networks of timm: look at the points, change them, and save them.

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
    with mgd.Distiller(teacher, student, chosen, example=images) as distiller:
        for report in mgd.update_matching(distiller, [torch.randn_like(images)]):
            print(f"{report.point}: cost {report.cost_before:.3f} -> {report.cost_after:.3f}")
        distiller.train()
        _, point_losses, kd_loss = distiller(images)
        (kd_loss + point_losses.sum(1) / 1e4).mean().backward()
        print(f"losses per point {[round(loss, 1) for loss in point_losses.mean(0).tolist()]}")


if __name__ == "__main__":
    main()
