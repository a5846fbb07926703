"""A tapped model: the right tensor of the right call, from a network that is not edited."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from inside_networks import IMAGES, Net, block_sum, num_hooks, tapped_at
from torch import nn

import mgd

# --- what a tap reads


def test_input_of_a_shared_relu_is_that_of_its_last_call():
    net = Net()
    (features,), logits = tapped_at(net, "block.relu")(IMAGES)
    torch.testing.assert_close(features, block_sum(net, IMAGES))
    torch.testing.assert_close(logits, net(IMAGES))


def test_output_tap_reads_behind_the_activation():
    net = Net()
    (features,), _ = tapped_at(net, "block.relu:output")(IMAGES)
    torch.testing.assert_close(features, F.relu(block_sum(net, IMAGES)))


def test_features_come_in_the_order_of_the_taps():
    net = Net()
    (relu, stem), _ = tapped_at(net, "block.relu", "stem")(IMAGES)
    torch.testing.assert_close(stem, net.stem(IMAGES))
    torch.testing.assert_close(relu, block_sum(net, IMAGES))


def test_gradients_flow_through_a_tap():
    net = Net()
    (features,), _ = tapped_at(net, "block.relu")(IMAGES)
    features.sum().backward()
    assert net.stem.weight.grad.any()
    assert net.head.weight.grad is None


# --- taps that cannot work


def test_a_tap_that_never_fires_is_named():
    with pytest.raises(mgd.TapError, match="tap 'unused:input' did not fire"):
        tapped_at(Net(), "unused")(IMAGES)


def test_a_tap_that_reads_no_tensor_is_named():
    class Dicts(nn.Module):
        def forward(self, x):
            return {"x": x}

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Dicts()

        def forward(self, x):
            return self.inner(x)["x"]

    tapped = tapped_at(Outer(), "inner")
    for run in (tapped, tapped.check):
        with pytest.raises(mgd.TapError, match="tap 'inner:output' reads a dict, not a tensor"):
            run(IMAGES)


class Overwriting(nn.Module):
    """Writes over its convolution's output by other means than an activation module."""

    def __init__(self, how):
        super().__init__()
        self.conv, self.how = nn.Conv2d(3, 4, 1), how

    def forward(self, x):
        x = self.conv(x)
        if self.how == "functional":
            return F.relu(x, inplace=True)
        if self.how == "sum":
            x += 1
            return x
        if self.how == "view":
            x[:, :2].relu_()
            return x
        return F.relu(x)


@pytest.mark.parametrize("how", ["functional", "sum", "view"])
def test_a_tap_that_is_overwritten_later_is_named(how):
    with pytest.raises(mgd.TapError, match="tap 'conv:output' is overwritten in place"):
        tapped_at(Overwriting(how), "conv").check(IMAGES)


def test_a_tap_that_is_not_overwritten_passes_the_check():
    tapped_at(Overwriting("not at all"), "conv").check(IMAGES)


# --- in-place activations


def test_an_in_place_relu_behind_a_tap_is_made_out_of_place():
    net = Net(inplace=True)
    tapped = tapped_at(net, "block.relu")
    tapped.check(IMAGES)
    (features,), _ = tapped(IMAGES)
    assert features.min() < 0
    torch.testing.assert_close(features, block_sum(net, IMAGES))


def test_an_in_place_module_behind_an_output_tap_is_made_out_of_place():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True))
    tapped = tapped_at(net, "0")
    tapped.check(IMAGES)
    (features,), _ = tapped(IMAGES)
    assert features.min() < 0


def test_only_the_module_behind_the_tap_loses_its_in_place():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(True), nn.Conv2d(4, 4, 1), nn.ReLU(True))
    tapped_at(net, "2").check(IMAGES)
    assert (net[1].inplace, net[3].inplace) == (True, False)


def test_close_takes_every_hook_out_and_gives_in_place_back():
    net = Net(inplace=True)
    tapped = tapped_at(net, "block.relu", "stem")
    tapped.check(IMAGES)
    assert (num_hooks(net), net.block.relu.inplace) == (2, False)
    tapped.close()
    assert (num_hooks(net), net.block.relu.inplace) == (0, True)


def test_a_failed_check_leaves_no_hooks_of_its_own():
    net = Overwriting("functional")
    tapped = tapped_at(net, "conv")
    with pytest.raises(mgd.TapError):
        tapped.check(IMAGES)
    assert num_hooks(net) == 1


# --- the network stays the user's


def test_the_network_is_not_edited():
    net = Net()
    keys, paths = list(net.state_dict()), [path for path, _ in net.named_modules()]
    tapped_at(net, "block.relu", "stem")
    assert list(net.state_dict()) == keys
    assert [path for path, _ in net.named_modules()] == paths


def test_the_users_own_call_keeps_nothing():
    net = Net()
    tapped = tapped_at(net, "stem")
    net(IMAGES)
    assert tapped._frames == {}


def test_nothing_is_kept_after_a_forward_or_a_failure():
    net = Net()
    tapped = tapped_at(net, "stem")
    tapped(IMAGES)
    assert tapped._frames == {}
    with pytest.raises(RuntimeError, match="channels"):
        tapped(torch.zeros(1, 7, 4, 4))
    assert tapped._frames == {}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_of_a_tapped_network_works_and_keeps_nothing(copied):
    net = Net()
    tapped = tapped_at(net, "block.relu")
    twin = copied(net)
    assert torch.equal(twin(IMAGES), net(IMAGES))
    # The copy runs while the original collects: nothing of the copy may get into its frame.
    net.head.register_forward_pre_hook(lambda *_: [twin(-IMAGES)].clear())
    (features,), _ = tapped(IMAGES)
    torch.testing.assert_close(features, block_sum(net, IMAGES))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_of_a_tapped_model_taps_its_own_network(copied):
    tapped = tapped_at(Net(), "block.relu")
    twin = copied(tapped)
    assert twin.network is not tapped.network
    with torch.no_grad():
        twin.network.stem.weight.zero_()
    (features,), _ = twin(IMAGES)
    torch.testing.assert_close(features, block_sum(twin.network, IMAGES))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_of_a_tapped_model_gives_in_place_back_too(copied):
    tapped = tapped_at(Net(inplace=True), "block.relu")
    output = tapped.check(IMAGES)
    assert torch.equal(output, tapped.network(IMAGES))
    twin = copied(tapped)
    twin.close()
    assert twin.network.block.relu.inplace
    assert not tapped.network.block.relu.inplace


def test_two_models_may_tap_one_network():
    net = Net()
    one, other = tapped_at(net, "stem"), tapped_at(net, "block.relu")
    one.close()
    (features,), _ = other(IMAGES)
    torch.testing.assert_close(features, block_sum(net, IMAGES))
