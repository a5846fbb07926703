"""Pruning: the least important channels go, and what is left computes what it did without them."""

import copy
import sys

import pytest
import torch
from torch import nn

from mgd.engine.tasks import pruning
from mgd.engine.tasks.pruning import ChannelPruner
from mgd.errors import InputError
from mgd.models import create_model

pytest.importorskip("torch_pruning")


class Chain(nn.Sequential):
    """Two convolutions and a classifier: the channels between them are easily pruned by hand."""

    def __init__(self, num_classes):
        super().__init__(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 4, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, num_classes),
        )


CHAIN = f"{__name__}:Chain"


def trained(name, num_classes=5, seed=0):
    """A network with BatchNorms of their own."""
    torch.manual_seed(seed)
    network = create_model(name, num_classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


def pruner(name, share=0.5, size=16):
    return ChannelPruner(name, 5, share, size)


def widths(network):
    return [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]


def least_by_hand(network, share):
    """The channels between the two convolutions with the smallest weights, in plain loops."""
    first, norm, second = network[0].weight, network[1].weight, network[3].weight
    scores = []
    for channel in range(6):
        parts = [first[channel], norm[channel], second[:, channel]]
        scores.append(sum(float(part.detach().square().sum()) for part in parts))
    order = sorted(range(6), key=lambda channel: scores[channel])
    return sorted(order[: int(6 * share)])


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7])
def test_the_channels_with_the_smallest_weights_go(share):
    network = trained(CHAIN)
    narrow = pruner(CHAIN, share).prune(network)
    left = [channel for channel in range(6) if channel not in least_by_hand(network, share)]
    torch.testing.assert_close(narrow[0].weight, network[0].weight[left], rtol=0, atol=0)
    torch.testing.assert_close(narrow[1].running_var, network[1].running_var[left], rtol=0, atol=0)
    assert narrow[3].weight.shape == (4 - int(4 * share), len(left), 3, 3)
    assert narrow[7].out_features == 5


def test_it_computes_what_the_whole_network_does_without_these_channels():
    """The law by hand, on the one network here whose channels can be told by hand."""
    network, share = trained(CHAIN), 0.5
    narrow = pruner(CHAIN, share).prune(network).eval()
    masked = copy.deepcopy(network)
    with torch.no_grad():
        for channel in least_by_hand(network, share):
            masked[3].weight[:, channel] = 0
        kept = {tuple(row.flatten().tolist()) for row in narrow[7].weight.mT}
        for channel in range(4):
            if tuple(network[7].weight[:, channel].tolist()) not in kept:
                masked[7].weight[:, channel] = 0
        images = torch.randn(3, 3, 16, 16)
        torch.testing.assert_close(narrow(images), masked(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size", "left"),
    [
        # Shortcuts that pad with zeros: half of each stage, as a network of half width has.
        ("cifar_resnet8", 16, [8, 8, 8, 16, 16, 32, 32]),
        ("resnet18", 32, [32] * 5 + [64] * 5 + [128] * 5 + [256] * 5),
        ("mobilenet_v1", 32, None),  # depth-wise convolutions
        ("torchvision:squeezenet1_0", 32, None),  # concatenations, and a convolution as last layer
    ],
)
def test_half_of_every_layer_goes(name, size, left):
    network = trained(name)
    narrow = pruner(name, 0.5, size).prune(network)
    whole = widths(network)
    assert widths(narrow) == (left or [5 if n == 5 else n // 2 for n in whole])
    assert narrow.eval()(torch.zeros(1, 3, size, size)).shape == (1, 5)


def test_a_padding_that_is_not_followed_is_found_by_the_proof(monkeypatch):
    monkeypatch.setattr(pruning, "follow", lambda *rest: None)
    with pytest.raises(InputError, match="cannot prune cifar_resnet8"):
        pruner("cifar_resnet8").prune(trained("cifar_resnet8"))


def test_a_share_that_divides_nothing_leaves_the_padding_in_the_middle():
    narrow = pruner("cifar_resnet8", 0.3).prune(trained("cifar_resnet8"))
    assert widths(narrow) == [12, 12, 12, 23, 24, 45, 48]


def test_the_network_stays_as_it_was_and_every_call_gives_the_same():
    network = trained("cifar_resnet8")
    before = copy.deepcopy(network.state_dict())
    drawn = torch.random.get_rng_state()
    one, other = (pruner("cifar_resnet8").prune(network).state_dict() for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_a_pruned_network_can_be_pruned_again():
    half = pruner("cifar_resnet8").prune(trained("cifar_resnet8"))
    assert widths(pruner("cifar_resnet8").prune(half)) == [4, 4, 4, 8, 8, 16, 16]


class Normed(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.Flatten(), nn.LazyLinear(2))


def test_networks_that_cannot_be_pruned_are_refused():
    with pytest.raises(InputError, match=r"cannot prune resnet18 \(1 is a GroupNorm\)"):
        ChannelPruner("resnet18", 2, 0.5, 8).prune(Normed(2))
    # Its channels are shuffled, which torch-pruning does not follow.
    with pytest.raises(InputError, match="cannot prune shufflenet_v2_x0_5"):
        pruner("shufflenet_v2_x0_5", size=32).prune(trained("shufflenet_v2_x0_5"))


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(InputError, match=r"`prune_channels` needs.*distillation\[compress\]"):
        pruner(CHAIN).prune(trained(CHAIN))
