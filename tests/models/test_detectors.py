"""Detectors: each head trains and finds on backbones of torchvision and of timm."""

import pytest
import torch

from mgd.errors import InputError
from mgd.models import create_detector, create_model, is_code, is_detector
from mgd.models.detector_names import parse_detector
from mgd.models.detectors import LOSSES

IMAGES = [torch.rand(3, 48, 64), torch.rand(3, 64, 40)]
TARGETS = [
    {"boxes": torch.tensor([[4.0, 4.0, 30.0, 30.0]]), "labels": torch.tensor([2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
]
TINY = "timm:test_resnet"


@pytest.mark.parametrize("head", LOSSES)
def test_a_detector_trains_and_finds(head):
    detector = create_detector(f"{head}_x0_125/{TINY}", num_classes=2, size=64)
    losses = detector(IMAGES, TARGETS)
    assert tuple(losses) == LOSSES[head]
    total = sum(losses.values())
    assert total.isfinite()
    total.backward()
    assert all(weight.grad is not None for weight in detector.parameters())
    found = detector.eval()(IMAGES)
    assert [sorted(each) for each in found] == [["boxes", "labels", "scores"]] * 2


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2", TINY, "timm:test_efficientnet"])
def test_the_levels_of_a_pyramid_halve(backbone):
    detector = create_detector(f"retinanet_x0_125/{backbone}", num_classes=2, size=64)
    levels = detector.backbone.eval()(torch.zeros(1, 3, 128, 64))
    assert [tuple(level.shape) for level in levels.values()] == [
        (1, 32, 16, 8), (1, 32, 8, 4), (1, 32, 4, 2), (1, 32, 2, 1), (1, 32, 1, 1),
    ]  # fmt: skip


def test_a_backbone_computes_what_its_network_does():
    torch.manual_seed(1)
    detector = create_detector("retinanet_x0_125/resnet18", num_classes=2, size=64).eval()
    network = create_model("resnet18", 1000).eval()
    body = detector.backbone.body
    network.load_state_dict(body.state_dict(), strict=False)
    images = torch.rand(1, 3, 64, 64)
    kept = []
    network.layer3.register_forward_hook(lambda _m, _i, output: kept.append(output))
    with torch.no_grad():
        network(images)
        found = body(images)
    torch.testing.assert_close(found["1"], kept[0])


def test_the_longer_side_is_resized():
    detector = create_detector(f"retinanet_x0_125/{TINY}", num_classes=2, size=96)
    images, _ = detector.transform([torch.rand(3, 48, 64), torch.rand(3, 64, 40)])
    assert images.image_sizes == [(72, 96), (96, 60)]


def test_small_images_have_small_anchors():
    def first(size):
        detector = create_detector(f"retinanet_x0_125/{TINY}", num_classes=2, size=size)
        return detector.anchor_generator.sizes[0][0]

    assert (first(256), first(512)) == (16, 32)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet18", "'resnet18' is no detector; give HEAD/BACKBONE"),
        ("yolo/resnet18", "'yolo/resnet18' is no detector"),
        ("retinanet/torchvision:swin_t", "needs maps at the strides 8, 16, 32"),
        ("retinanet/cifar_resnet8", "no maps at stride 8; choose another, such as resnet18"),
        ("retinanet/nothing", "unknown network 'nothing'"),
        ("retinanet/timm:nothing", "timm has no network 'nothing'"),
    ],
)
def test_a_name_that_cannot_be_had_is_one_line(name, said):
    with pytest.raises(InputError, match=said) as caught:
        create_detector(name, num_classes=2, size=64)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [{"num_classes": 0}, {"num_classes": 2, "size": 31}])
def test_a_value_out_of_range_is_refused(values):
    with pytest.raises(InputError, match="must be at least"):
        create_detector(f"retinanet/{TINY}", **values)


def test_names():
    assert parse_detector("fcos/timm:resnet18") == ("fcos", 1.0, "timm:resnet18")
    assert is_detector("ssdlite_x0_5/mobilenet_v2")
    assert not is_detector("retinanet")
    assert is_code("retinanet/my.module:network")
    assert not is_code("retinanet/timm:resnet18")


def test_a_detector_is_no_classifier():
    with pytest.raises(InputError, match="is a detector, and names no class of a whole image"):
        create_model("retinanet/resnet18", 3)
