"""Students that the user made smaller himself: their points are found, and they learn."""

import copy
import warnings

import pytest
import torch
from torch import nn

import mgd
from mgd.models.qat import round_in_training

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    return mgd.create_model("resnet18", 5)


def learns(teacher, student):
    """Takes a step towards the teacher; returns the channels of the points."""
    distiller = mgd.Distiller(teacher, student, IMAGES)
    mgd.update_matching(distiller, [IMAGES])
    distiller.train()
    out = distiller(IMAGES)
    assert out.loss.isfinite().all()
    assert (out.point_losses > 0).all()
    out.loss.mean().backward()
    gradients = [p.grad for p in student.parameters() if p.dim() > 1 and p.grad is not None]
    assert sum(float(each.abs().sum()) for each in gradients) > 0
    channels = [(pair.teacher_shape[0], pair.student_shape[0]) for pair in distiller.points.pairs]
    distiller.close()
    return channels


@pytest.mark.parametrize(("share", "left"), [(0.5, 0.5), (0.3, 0.7)])
def test_a_student_pruned_by_torch_pruning_has_points_of_uneven_widths(teacher, share, left):
    tp = pytest.importorskip("torch_pruning")
    student = copy.deepcopy(teacher)
    tp.pruner.MagnitudePruner(
        student,
        IMAGES,
        importance=tp.importance.GroupMagnitudeImportance(),
        pruning_ratio=share,
        ignored_layers=[student.fc],
    ).step()
    channels = learns(teacher, student)
    assert len(channels) == 3  # the last stage has a single pixel
    for whole, narrow in channels:
        assert narrow == pytest.approx(whole * left, abs=1)
    if share == 0.3:
        assert all(whole % narrow for whole, narrow in channels)


def test_a_student_that_rounds_in_training_has_the_points_of_its_plain_self(teacher):
    student = copy.deepcopy(teacher)
    round_in_training(student)
    found = mgd.discover_points(teacher, student, IMAGES)
    plain = mgd.discover_points(teacher, copy.deepcopy(teacher), IMAGES)
    assert str(found) == str(plain)
    assert learns(teacher, student) == [(64, 64), (128, 128), (256, 256)]


def prepared(kind, network):
    """Prepares a network as torch.ao does: observers and fake-quantise modules at every layer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao.quantization is deprecated, and still used
        import torch.ao.quantization as ao
        from torch.ao.quantization.quantize_fx import prepare_qat_fx

        if kind == "fx":
            mapping = ao.get_default_qat_qconfig_mapping("x86")
            return prepare_qat_fx(network.train(), mapping, (IMAGES,))
        network.qconfig = ao.get_default_qat_qconfig("x86")
        return ao.prepare_qat(network.train())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["eager", "fx"])
def test_points_are_found_through_observers_which_a_look_leaves_as_they_were(teacher, kind):
    student = prepared(kind, copy.deepcopy(teacher))
    before = {name: value.clone() for name, value in student.named_buffers()}
    points = mgd.discover_points(teacher, student, IMAGES)
    for name, value in student.named_buffers():
        assert torch.equal(value, before[name]), name
    plain = mgd.discover_points(teacher, copy.deepcopy(teacher), IMAGES)
    assert str(points) == str(plain)
    assert learns(teacher, student) == [(64, 64), (128, 128), (256, 256)]


class Observed(nn.Sequential):
    """Its observer takes in every batch, in eval mode too, and begins with no range."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.register_buffer("most", torch.zeros(0))

    def forward(self, x):
        most = torch.cat([self.most, x.detach().amax()[None]]).amax()
        self.most.resize_(1).copy_(most[None])
        return super().forward(x * self.most)


def test_a_network_that_computes_by_its_buffers_is_compared_from_the_same_ones():
    network = Observed()
    tapped = mgd.inside.TappedModel(network, [mgd.Tap("2", "input")])
    tapped.check(IMAGES)
    tapped.close()
    assert network.most.shape == (0,)
