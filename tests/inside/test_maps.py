"""Feature maps: which tensors count, and their level."""

import pytest
import torch
from inside_networks import Inception, images
from torch import nn

from mgd.inside.activations import find_activations, is_activated
from mgd.inside.maps import FeatureMaps, count_levels
from mgd.inside.probe import Trace


@pytest.mark.parametrize(
    ("sizes", "image", "levels"),
    [
        ([112, 56, 28, 14, 7], 224, [1, 2, 3, 4, 5]),
        ([17, 9, 5, 3], 33, [1, 2, 3, 4]),  # rounded up at each step
        ([15, 6, 2], 32, [1, 2, 3]),  # without padding
        ([8, 7], 32, [2, 2]),  # a border is no step
        ([14], 224, [4]),  # the patches of a ViT
        ([32, 16], 32, [0, 1]),
    ],
)
def test_levels_count_halvings(sizes, image, levels):
    areas = [size * size for size in sizes]
    assert count_levels(areas, image * image) == dict(zip(areas, levels, strict=True))


class Odd(nn.Module):
    """Returns a tensor of a given shape, computed from the images."""

    def __init__(self, *shape):
        super().__init__()
        self.inner, self.shape = nn.Identity(), shape

    def forward(self, x):
        return self.inner(x.mean() * torch.ones(self.shape))


@pytest.mark.parametrize(
    ("shape", "strict", "lenient"),
    [
        ((1, 8, 4, 4), True, True),
        ((1, 17, 8), True, True),  # a class token and 4x4 patches
        ((1, 8, 1, 1), False, True),
        ((1, 8), False, True),
        ((1, 8, 4, 16), False, True),  # not the proportions of the image
        ((4, 8, 2, 2), False, False),  # windows, stacked in the first axis
        ((1, 8, 2, 2, 2), False, False),
        ((8,), False, False),
    ],
)
def test_maps_have_the_proportions_of_the_image(shape, strict, lenient):
    trace = Trace(Odd(*shape), images())
    for is_strict, expected in ((True, strict), (False, lenient)):
        candidate = FeatureMaps(trace, is_strict).candidate(trace.returned["inner"])
        assert (candidate is not None) == expected


def test_sigmoids_are_no_activations_here():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sigmoid(), nn.GELU())
    found = find_activations(Trace(network, images()))
    assert [activation.sighting.path for activation in found] == ["2"]


def test_what_an_activation_returned_stays_activated_through_pooling_alone():
    network = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 3, 1), Inception(3, 4))
    trace = Trace(network, images())
    activated = [is_activated(trace, trace.returned[path].node) for path in ("0", "1", "2")]
    assert activated == [True, True, False]
