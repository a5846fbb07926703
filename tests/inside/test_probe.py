"""A probe: what it notes of one forward, and which norm a tap reads."""

import pytest
import torch
from inside_networks import Cnn, FunctionalCnn, Net, images
from torch import nn

import mgd
from mgd.inside.modes import constant_weights, evaluating
from mgd.inside.outputs import have_same_values, tensors_in
from mgd.inside.probe import Trace, batch_norm_channels, probe
from mgd.inside.tap import Tap


def test_the_last_call_of_a_module_is_noted():
    net = Net()
    trace = Trace(net, images())
    sighting = trace.sightings["block.relu", "input"]
    assert sighting.order > trace.sightings["block.conv2", "output"].order
    assert len(trace.makers_of(trace.returned["block"].node)) == 2  # the ReLU and the block


def test_a_tensor_that_is_overwritten_later_is_known():
    trace = Trace(FunctionalCnn(inplace=True), images())
    overwritten = {path for path, sighting in trace.returned.items() if sighting.overwritten}
    assert overwritten == {"block1.norm1", "block2.norm1"}


def test_modules_whose_output_is_spoilt_or_another_are_no_intact_makers():
    trace = Trace(FunctionalCnn(inplace=True), images())
    assert trace.intact_makers_of(trace.returned["block1.norm1"].node) == []
    assert trace.intact_makers_of(trace.returned["block1"].node) == ["block1"]


@pytest.mark.parametrize(("path", "norm"), [("stages.0.1.2", "stages.0.1.1"), ("head", None)])
def test_a_reading_names_the_norm_that_it_reads(path, norm):
    [reading] = probe(Cnn(), [Tap.parse(Cnn(), path)], images())
    assert reading.norm == norm


def test_a_norm_of_other_channels_gives_no_margins():
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Flatten(2), nn.ReLU())
    assert Trace(network, images()).read(Tap("3", "input", "NLC")).norm is None


def test_a_linear_layer_behind_a_norm_has_margins_of_its_own():
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(48), nn.Linear(48, 48), nn.ReLU())
    assert Trace(network, images((4, 4))).read(Tap("3", "input")).norm is None
    assert Trace(network, images((4, 4))).read(Tap("2", "input")).norm == "1"


class NormAct(nn.BatchNorm2d):
    """A BatchNorm with an activation inside, as timm has it."""

    def __init__(self, width):
        super().__init__(width)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(super().forward(x))


def test_a_fused_norm_is_found_in_front_of_its_activation():
    trace = Trace(nn.Sequential(nn.Conv2d(3, 4, 1), NormAct(4)), images())
    assert trace.read(Tap("1.act", "input")).norm == "1"
    assert trace.read(Tap("1")).norm is None  # the activation is in between


def test_a_tap_of_a_module_that_is_not_called_is_named():
    with pytest.raises(mgd.TapError, match="tap 'unused:input' did not fire with a tensor"):
        Trace(Net(), images()).read(Tap("unused", "input"))


def test_channels_of_batch_norms_alone_are_told():
    assert batch_norm_channels(nn.SyncBatchNorm(6)) == 6
    assert batch_norm_channels(nn.GroupNorm(2, 6)) == 0


def test_modes_and_gradients_are_given_back_after_a_failure():
    network = nn.Sequential(nn.Dropout(), nn.Linear(2, 2), nn.Dropout().eval())
    network[1].bias.requires_grad_(False)
    seen = []

    def fail():
        seen.extend(module.training for module in network.modules())
        seen.extend(weight.requires_grad for weight in network.parameters())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), evaluating(network), constant_weights(network):
        fail()
    assert seen == [False] * 6
    assert [module.training for module in network] == [True, True, False]
    assert [weight.requires_grad for weight in network.parameters()] == [True, False]


def test_outputs_are_compared_tensor_by_tensor():
    output = {"logits": torch.tensor([1.0, float("nan")]), "maps": [torch.zeros(2)], "loss": None}
    changed = {**output, "maps": [torch.ones(2)]}
    assert len(tensors_in(output)) == 2
    assert have_same_values(output, output)
    assert not have_same_values(output, changed)
    assert have_same_values(torch.zeros(0), torch.zeros(0))
    assert not have_same_values(torch.tensor([True]), torch.tensor([False]))
