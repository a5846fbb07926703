"""Taps in detectors: what is read is the same where the forward ends behind the backbone."""

import copy

import pytest
import torch
from torch import nn

from mgd import Distiller, update_matching
from mgd.inside import Tap, TappedModel
from mgd.models import create_detector

BODY = "backbone.body"
NAME = "{}_x0_125/timm:test_resnet"


@pytest.fixture(params=["retinanet", "fasterrcnn"])
def detector(request):
    torch.manual_seed(0)
    return create_detector(NAME.format(request.param), 2, 64).eval()


IMAGES = [torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(n)) for n in (1, 2)]


def stages(detector):
    """Returns taps at two stages of the backbone."""
    paths = [path for path, module in detector.backbone.body.named_modules() if module is not None]
    relus = [f"{BODY}.{path}" for path in paths if path.endswith("act1") or path.endswith("act2")]
    return [Tap(relus[0], "input"), Tap(relus[-1], "input")]


class Calls:
    """Counts how often the heads of a detector run."""

    def __init__(self, detector):
        self.number = 0
        head = detector.rpn if hasattr(detector, "rpn") else detector.head
        head.register_forward_hook(self)

    def __call__(self, *given):
        self.number += 1


@torch.no_grad()
def test_features_are_the_same_and_the_heads_do_not_run(detector):
    tapped = TappedModel(detector, stages(detector))
    tapped.check(IMAGES)
    calls = Calls(detector)
    expected, _ = tapped(IMAGES)
    assert calls.number == 1
    found, output = tapped.read(IMAGES)
    assert output is None
    assert calls.number == 1
    assert all(map(torch.equal, found, expected))
    detector(IMAGES)  # the user's own call is a whole one
    assert calls.number == 2
    tapped.close()


@torch.no_grad()
def test_before_a_check_and_with_taps_in_the_heads_the_whole_network_runs(detector):
    calls = Calls(detector)
    tapped = TappedModel(detector, stages(detector))
    tapped.read(IMAGES)
    assert calls.number == 1
    tapped.close()
    head = "rpn.head" if hasattr(detector, "rpn") else "head.classification_head"
    conv = next(path for path, m in detector.named_modules() if path.startswith(head)
                and isinstance(m, nn.Conv2d))  # fmt: skip
    for taps in ([Tap(conv, "output")], [*stages(detector), Tap(conv, "output")]):
        tapped = TappedModel(detector, taps)
        tapped.check(IMAGES)
        calls.number = 0
        (found, output), (expected, _) = tapped.read(IMAGES), tapped(IMAGES)
        assert len(output) == 2
        assert calls.number == 2
        assert all(map(torch.equal, found, expected))
        tapped.close()


@torch.no_grad()
def test_a_copy_ends_early_as_well(detector):
    tapped = TappedModel(detector, stages(detector))
    tapped.check(IMAGES)
    twin = copy.deepcopy(tapped)
    calls = Calls(twin.network)
    assert all(map(torch.equal, twin.read(IMAGES)[0], tapped.read(IMAGES)[0]))
    assert calls.number == 0
    tapped.close()


def test_the_teacher_is_asked_for_its_boxes_where_weights_need_them(detector):
    student = create_detector(NAME.format("retinanet"), 2, 64).train()
    calls = Calls(detector)
    seen = []

    def weights(output, canvas):
        seen.append(output)
        return torch.ones(len(output), 4, 4)

    with Distiller(detector, student, IMAGES) as distiller:
        update_matching(distiller, [IMAGES])
        targets = [{"boxes": torch.tensor([[2.0, 2, 20, 20]]), "labels": torch.tensor([1])}] * 2
        calls.number = 0
        plain = distiller(IMAGES, targets=targets)
        assert calls.number == 0
        weighted = distiller(IMAGES, targets=targets, weights=weights)
        assert calls.number == 1
        assert [set(each) for each in seen[0]] == [{"boxes", "labels", "scores"}] * 2
        torch.testing.assert_close(weighted.point_losses, plain.point_losses)
