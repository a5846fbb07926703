"""Folding: the same function and taps without the BatchNorms, and nothing folded that is read."""

import copy

import pytest
import torch
import torchvision
from torch import nn

import mgd
from mgd.engine.tasks.building import build_distiller
from mgd.engine.tasks.folding import FoldedBatchNorm2d, fold_batch_norms
from mgd.errors import InputError
from mgd.inside import Tap, TappedModel

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def trained(network):
    """Gives every BatchNorm statistics and parameters of its own, and freezes the network."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            module.weight.data.add_(1)
    return network.eval().requires_grad_(False)


def norms(network, kind=FoldedBatchNorm2d):
    return [name for name, module in network.named_modules() if type(module) is kind]


@pytest.mark.parametrize(
    ("build", "folded", "left"),
    [
        (torchvision.models.resnet18, 20, 0),
        (torchvision.models.mobilenet_v2, 52, 0),
        # A dense block concatenates what its convolutions give: only those inside have one reader.
        (torchvision.models.densenet121, 59, 62),
    ],
)
def test_outputs_stay_and_every_batch_norm_that_can_be_is_folded(build, folded, left):
    network = trained(build())
    before = network(IMAGES)
    assert fold_batch_norms(network, IMAGES) == folded
    assert (len(norms(network)), len(norms(network, nn.BatchNorm2d))) == (folded, left)
    torch.testing.assert_close(network(IMAGES), before, rtol=1e-4, atol=1e-4)


def test_taps_and_margins_stay():
    network = trained(torchvision.models.resnet18())
    taps = [Tap.parse(network, path) for path in ("layer1.1.relu", "layer2.1.bn2", "layer3.0")]
    margin = mgd.margin_from_norm(network.layer2[1].bn2)
    tapped = TappedModel(network, taps)
    before, _ = tapped(IMAGES)
    fold_batch_norms(network, IMAGES, taps)
    after, _ = tapped(IMAGES)
    for ours, theirs in zip(after, before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert torch.equal(mgd.margin_from_norm(network.layer2[1].bn2), margin)


@pytest.mark.parametrize("place", ["layer2.1.conv2:output", "layer2.1.bn2:input"])
def test_what_a_tap_reads_in_between_is_not_folded_away(place):
    network = trained(torchvision.models.resnet18())
    twin, taps = copy.deepcopy(network), [Tap.parse(network, place)]
    tapped = TappedModel(network, taps)
    (before,), _ = tapped(IMAGES)
    assert fold_batch_norms(network, IMAGES, taps) == fold_batch_norms(twin, IMAGES) - 1
    (after,), _ = tapped(IMAGES)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


class Twice(nn.Module):
    """Reads its convolution's output twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images):
        features = self.conv(images)
        return self.bn(features) + features


def test_a_convolution_that_others_read_is_left_alone():
    network = trained(Twice())
    before = network(IMAGES)
    assert fold_batch_norms(network, IMAGES) == 0
    assert torch.equal(network(IMAGES), before)


def test_a_shared_batch_norm_is_left_alone():
    conv, norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
    network = trained(nn.Sequential(conv, norm, nn.Conv2d(3, 3, 1), norm))
    assert fold_batch_norms(network, IMAGES) == 0


def test_folding_gives_the_same_bits_wherever_the_tensors_lie():
    network, found = trained(torchvision.models.resnet18()), set()
    shifted = []
    for length in range(8):
        shifted.append(torch.zeros(100 + 37 * length))
        copied = copy.deepcopy(network)
        fold_batch_norms(copied, IMAGES)
        found.add(sum(float(weight.double().sum()) for weight in copied.parameters()))
    assert len(found) == 1


def test_weights_loaded_afterwards_are_refused():
    network = trained(torchvision.models.resnet18())
    state = copy.deepcopy(network.state_dict())
    fold_batch_norms(network, IMAGES)
    with pytest.raises(InputError, match="load, then fold"):
        network.load_state_dict(state)


@pytest.mark.parametrize("fold", [0, 1])
def test_a_run_folds_its_teacher_where_asked_and_loses_nothing(fold, fast_distillation):
    teacher = trained(mgd.create_model("cifar_resnet8_x0_5", 10))
    student = mgd.create_model("cifar_resnet8_x0_25", 10).eval()
    images, labels = torch.randn(4, 3, 8, 8), torch.arange(4)

    config = fast_distillation.replace(fold_teacher=fold)
    plain = mgd.Distiller(
        copy.deepcopy(teacher),
        copy.deepcopy(student),
        points=[(f"layer{i}.0.relu", f"layer{i}.0.relu") for i in (1, 2, 3)],
        example=images,
        kd_weight=1.0,
    ).eval()
    distiller = build_distiller(config, teacher, student, images).eval()
    assert bool(norms(teacher)) == bool(fold)
    terms = distiller(images, labels).terms
    torch.testing.assert_close(terms["kd"], plain(images).kd_loss, rtol=1e-3, atol=1e-5)
    for ours, theirs in zip(distiller.points, plain.points, strict=True):
        assert torch.equal(ours.margin, theirs.margin)
