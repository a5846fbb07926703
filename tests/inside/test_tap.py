"""A tap: its text, and the maps that it reads in each layout."""

import pytest
import torch
from inside_networks import IMAGES, Net, tapped_at
from torch import nn

import mgd
from mgd.inside.tap import Tap, find_module, is_activation, token_grid
from mgd.inside.tapped import TappedModel

# --- layouts


def test_flat_features_become_one_pixel_maps():
    (features,), logits = tapped_at(Net(), "head")(IMAGES)
    assert features.shape == (2, 5, 1, 1)
    assert torch.equal(features.flatten(1), logits)


class Tokens(nn.Module):
    """Like a vision transformer: class token, then the grid row by row."""

    def __init__(self, prefix=1):
        super().__init__()
        self.norm, self.prefix = nn.Identity(), prefix

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        extra = torch.full((x.shape[0], self.prefix, x.shape[1]), 99.0)
        return self.norm(torch.cat([extra, tokens], dim=1))[:, 0]


@pytest.mark.parametrize(
    ("size", "prefix"),
    [((1, 1), 1), ((2, 2), 1)]
    + [(size, n) for size in ((4, 4), (5, 5), (14, 14), (4, 8), (6, 3)) for n in (0, 1, 5)],
)
def test_tokens_are_laid_out_as_the_image(size, prefix):
    images = torch.randn(2, 3, *size)
    net = Tokens(prefix)
    tap = Tap("norm").with_layout(torch.zeros(2, prefix + size[0] * size[1], 3), size)
    (features,), _ = TappedModel(net, [tap])(images)
    assert tap.prefix_tokens == prefix
    assert torch.equal(features, images)


def test_tokens_that_fill_no_grid_become_a_column():
    (features,), _ = tapped_at(Tokens(2), "norm:output:NLC")(torch.randn(2, 3, 3, 3))
    assert features.shape == (2, 3, 11, 1)


def test_given_class_tokens_are_left_out():
    images = torch.randn(2, 3, 4, 4)
    (features,), _ = tapped_at(Tokens(1), "norm:output:NLC+1")(images)
    assert torch.equal(features, images)


def test_channels_last_layout_is_turned():
    class ChannelsLast(nn.Module):
        def __init__(self):
            super().__init__()
            self.stage = nn.Identity()

        def forward(self, x):
            return self.stage(x.permute(0, 2, 3, 1)).mean((1, 2))

    images = torch.randn(2, 3, 4, 5)
    (features,), _ = tapped_at(ChannelsLast(), "stage:output:NHWC")(images)
    assert torch.equal(features, images)


@pytest.mark.parametrize(
    ("length", "size", "grid"),
    [
        (196, (224, 224), (14, 14)),
        (32, (64, 128), (4, 8)),
        (15, (90, 50), (5, 3)),
        (197, (224, 224), None),
        (20, (64, 64), None),  # 16 patches and 4 registers, not a grid of 4 by 5
        (2, (16, 16), None),
        (0, (16, 16), None),
    ],
)
def test_token_grid_has_the_proportions_of_the_image(length, size, grid):
    assert token_grid(length, size) == grid


@pytest.mark.parametrize(
    "tensor", [torch.zeros(2, 3, 4, 5, 6), torch.zeros(3), torch.ones(2, 3).long()]
)
def test_what_cannot_be_features_is_refused(tensor):
    with pytest.raises(mgd.TapError, match="needed are features"):
        Tap("x").with_layout(tensor, (8, 8))


# --- naming a tap


@pytest.mark.parametrize(
    ("text", "tap"),
    [
        ("stem", Tap("stem", "output")),
        ("block.relu", Tap("block.relu", "input")),
        ("block.relu:output", Tap("block.relu", "output")),
        ("stem:input:NHWC", Tap("stem", "input", "NHWC")),
        ("block:output:NLC+5", Tap("block", "output", "NLC", 5)),
    ],
)
def test_tap_parses_and_prints(text, tap):
    net = Net()
    assert Tap.parse(net, text) == tap
    assert Tap.parse(net, str(tap)) == tap


@pytest.mark.parametrize("text", ["stem:sideways", "stem:output:CHWN", "stem:output:NLC+x"])
def test_a_malformed_tap_is_told_the_form(text):
    with pytest.raises(mgd.TapError, match=f"tap '{text.replace('+', '[+]')}' is not of the form"):
        Tap.parse(Net(), text)


def test_an_unknown_path_names_the_nearest():
    with pytest.raises(mgd.TapError, match=r"Net has no module 'block.rely'; nearest: block.relu"):
        find_module(Net(), "block.rely")


def test_activations_are_known_and_attention_is_none():
    assert all(map(is_activation, (nn.ReLU(), nn.GELU(), nn.Hardswish(), nn.PReLU(), nn.SiLU())))
    assert not any(
        map(is_activation, (nn.MultiheadAttention(4, 2), nn.Softmax(1), nn.Conv2d(1, 1, 1), Net()))
    )
