"""A probe, discovery and a distiller leave networks as they found them, or say why they cannot."""

import copy
import io
import logging
import pickle

import pytest
import torch
from inside_networks import Cnn, FunctionalCnn, images
from torch import nn

import mgd

# --- start-up


def test_dead_channels_are_counted(caplog):
    student = Cnn()
    with torch.no_grad():
        student.stages[3][1][1].weight[:2] = 0
        student.stages[3][1][1].bias[:2] = 0
    with caplog.at_level(logging.WARNING), mgd.Distiller(Cnn(), student, example=images()):
        pass
    assert "student tap 'stages.3.1.2:input': 2 of 10 channels are zero" in caplog.text


class Spoilt(FunctionalCnn):
    """Adds to what a module returned, in place."""

    def forward(self, x):
        total = self.block1.norm1(self.block1.conv1(x))
        total += 1
        return self.head(self.conv3(self.block2(total)).mean((2, 3)))


def test_a_tap_that_is_overwritten_is_an_error_with_its_path():
    points = [("stages.0", "block1.norm1")]
    with pytest.raises(mgd.TapError, match=r"'block1.norm1:output' is overwritten"):
        mgd.Distiller(Cnn(), Spoilt(), points=points, example=images())


class Dependent(nn.Module):
    """Reads features again after an in-place activation rectified them."""

    def __init__(self):
        super().__init__()
        self.stage, self.relu = nn.Conv2d(3, 8, 3, 2, padding=1), nn.ReLU(inplace=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stage(x)
        self.relu(x)
        return self.head(x.mean((2, 3)))


def test_a_network_that_counts_on_overwriting_is_not_changed_silently():
    student = Dependent()
    with pytest.raises(mgd.TapError, match="Dependent computes something else once"):
        mgd.Distiller(Cnn(), student, points=[("stages.0", "relu")], example=images())
    assert student.relu.inplace
    with mgd.Distiller(Cnn(), student, points=[("stages.0", "relu:output")], example=images()):
        assert student.relu.inplace


# --- no trace is left


def state_of(network):
    modules = [
        (path, len(m._forward_hooks), len(m._forward_pre_hooks), m.training, vars(m).get("inplace"))
        for path, m in network.named_modules()
    ]
    weights = [(name, weight.requires_grad) for name, weight in network.named_parameters()]
    return modules, weights, list(network.state_dict())


def test_discovery_leaves_no_trace_and_is_the_same_each_time():
    teacher, student = Cnn(), Cnn(activation=lambda: nn.ReLU(inplace=True)).train()
    student.stages[0].eval()
    next(student.parameters()).requires_grad_(False)
    before, values = [state_of(n) for n in (teacher, student)], copy.deepcopy(student.state_dict())
    first = mgd.discover_points(teacher, student, images())
    assert mgd.discover_points(teacher, student, images()) == first
    assert [state_of(network) for network in (teacher, student)] == before
    for name, value in student.state_dict().items():
        torch.testing.assert_close(value, values[name], rtol=0, atol=0)
    assert all(weight.grad is None for weight in student.parameters())


def test_a_failed_probe_leaves_no_trace():
    student = Cnn(activation=lambda: nn.ReLU(inplace=True))
    before = state_of(student)
    with pytest.raises(mgd.InputError):
        mgd.discover_points(Cnn(), student, images(colours=1))
    assert state_of(student) == before


def test_closing_a_distiller_gives_the_networks_back():
    teacher, student = Cnn(), Cnn(activation=lambda: nn.ReLU(inplace=True))
    before = [state_of(network) for network in (teacher, student)]
    with mgd.Distiller(teacher, student, example=images()):
        assert list(student.state_dict()) == before[1][2]
    assert state_of(student) == before[1]
    assert state_of(teacher) == before[0]


# torch 2.6 says so of the hooks of the taps, and compiles the rest.
@pytest.mark.filterwarnings("ignore:Graph break due to unsupported builtin:UserWarning")
@pytest.mark.parametrize("is_open", [True, False])
def test_networks_can_be_copied_pickled_and_compiled(is_open):
    student, example = Cnn().eval(), images()
    expected = student(example)
    distiller = mgd.Distiller(Cnn(), student, example=example)
    if not is_open:
        distiller.close()
    for network in (
        copy.deepcopy(student),
        pickle.loads(pickle.dumps(student)),
        torch.compile(student, backend="eager"),
    ):
        torch.testing.assert_close(network(example), expected)
    buffer = io.BytesIO()
    torch.save(student.state_dict(), buffer)
    Cnn().load_state_dict(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
