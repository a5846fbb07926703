"""Parts: a network computes the same where each part has its weights in its own calls alone."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from inside.inside_networks import Cnn, images, swin, vit
from mgd.inside import separate_parts
from mgd.inside.parts import LEAST, MOST


class Attention(nn.Module):
    """Reads the weights of a layer that it never calls, and has an output nobody asked for."""

    def __init__(self):
        super().__init__()
        self.cut = nn.Conv2d(3, 16, 16, 16)
        self.place = nn.Parameter(torch.randn(1, 4, 16))
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16))
        self.extra = nn.ModuleList([nn.Linear(16, 8)])
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.cut(x).flatten(2).mT + self.place
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head((x + self.mlp(x)).mean(1))


class Borrowing(nn.Module):
    """One layer's weights are read beside it, another's are shared, a third is called twice."""

    def __init__(self):
        super().__init__()
        self.lent, self.called = nn.Linear(48, 48), nn.ModuleList([nn.Linear(48, 48)])
        self.one, self.other = nn.Linear(48, 48), nn.Linear(48, 48, bias=False)
        self.other.weight = self.one.weight
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        x = F.linear(F.adaptive_avg_pool2d(x, 4).flatten(1), self.lent.weight)
        for _ in range(2):
            x = self.called[0](x).relu()
        return self.other(self.one(x)) * self.scale


NETWORKS = {"cnn": Cnn, "attention": Attention, "borrowing": Borrowing, "vit": vit, "swin": swin}


def own_parameters(part, parts):
    """Returns a part's parameters without those of the parts inside it."""
    inner = {
        p
        for other in part.modules()
        if other in parts and other is not part
        for p in other.parameters()
    }
    return [p for p in part.parameters() if p not in inner]


def take_weights_away(network, parts):
    """Has each part's parameters hold no number but in its calls."""
    for part in parts:
        kept = [(p, p.detach().clone()) for p in own_parameters(part, set(parts))]

        def give(module, args, kept=kept):
            for parameter, value in kept:
                parameter.data.copy_(value)

        def take(module, args, output, kept=kept):
            for parameter, _ in kept:
                parameter.data.fill_(float("nan"))

        part.register_forward_pre_hook(give)
        part.register_forward_hook(take)
        take(part, None, None)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_computes_the_same_with_weights_in_the_calls_of_its_parts_alone(name):
    network, example = NETWORKS[name]().eval(), images()
    expected = network(example)
    parts = separate_parts(network, example[:1])
    take_weights_away(network, parts)
    torch.testing.assert_close(network(example), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["cnn", "attention", "vit"])  # the others lend weights
def test_parts_are_in_order_and_neither_too_small_nor_too_large(name):
    network = NETWORKS[name]()
    parts = separate_parts(network, images())
    assert len(parts) > 2
    assert len(set(parts)) == len(parts)
    total = sum(p.numel() for p in network.parameters())
    for number, part in enumerate(parts):
        assert not set(part.modules()) & set(parts[number + 1 :])
        size = sum(p.numel() for p in own_parameters(part, set(parts)))
        assert size >= LEAST * total
        cannot_be_cut = all(
            child in parts or not list(child.parameters()) for child in part.children()
        )
        assert size <= MOST * total or cannot_be_cut or isinstance(part, nn.MultiheadAttention)


def test_a_weight_that_is_read_from_outside_stays_with_who_reads_it():
    network = Attention()
    parts = separate_parts(network, images())
    assert network.attention in parts
    assert network.attention.out_proj not in parts
    network = Borrowing()
    parts = separate_parts(network, images())
    assert network.called[0] in parts
    assert not {network.lent, network.one, network.other, network.called} & set(parts)


def test_looking_for_parts_leaves_no_trace():
    network = Attention().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    separate_parts(network, images())
    assert all(
        m.training and not m._forward_hooks and not m._forward_pre_hooks for m in network.modules()
    )
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
