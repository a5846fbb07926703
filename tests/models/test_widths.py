"""Widths: a narrowed network computes what one that was built narrow computes; misfits are told."""

import json

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

import mgd
from mgd.models.metadata import KEY
from mgd.models.widths import fit_widths
from mgd.views import View

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
WHERE = "weights.pth"


def seen_before(network):
    """Gives BatchNorms statistics, so that a forward in eval mode depends on them."""
    with torch.no_grad():
        network.train()(IMAGES.repeat(4, 1, 1, 1))
    return network.eval()


@pytest.mark.parametrize(
    ("whole", "narrow"),
    [
        (
            lambda: mgd.create_model("cifar_resnet8", 5),
            lambda: mgd.create_model("cifar_resnet8_x0_375", 5),
        ),
        # With depth-wise convolutions.
        (
            lambda: torchvision.models.mobilenet_v2(num_classes=5),
            lambda: torchvision.models.mobilenet_v2(num_classes=5, width_mult=0.5),
        ),
        # With grouped ones, each group narrower.
        (
            lambda: torchvision.models.resnext50_32x4d(num_classes=5),
            lambda: torchvision.models.ResNet(
                torchvision.models.resnet.Bottleneck,
                [3, 4, 6, 3],
                num_classes=5,
                groups=32,
                width_per_group=2,
            ),
        ),
    ],
    ids=["residual", "depth-wise", "grouped"],
)
def test_a_narrowed_network_is_the_one_that_was_built_narrow(whole, narrow):
    torch.manual_seed(0)
    small, fitted = seen_before(narrow()), whole()
    fit_widths(fitted, small.state_dict(), WHERE)
    fitted.load_state_dict(small.state_dict())
    torch.testing.assert_close(fitted.eval()(IMAGES), small(IMAGES), rtol=0, atol=0)
    for (path, one), other in zip(fitted.named_modules(), small.modules(), strict=True):
        assert one.extra_repr() == other.extra_repr(), path


def test_the_last_layer_keeps_its_classes():
    network = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 3))
    weights = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 7)).state_dict()
    fit_widths(network, weights, WHERE, head=("1.weight", "1.bias"))
    assert network[1].weight.shape == (3, 4)
    assert network(torch.zeros(1, 8)).shape == (1, 3)


@pytest.mark.parametrize(
    ("network", "other"),
    [
        (nn.Linear(4, 4), nn.Linear(4, 5)),  # wider
        (nn.Linear(4, 4), nn.Conv2d(4, 4, 1)),
        (nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3)),
        (nn.LayerNorm(4), nn.LayerNorm(3)),  # its output would be another
    ],
)
def test_what_is_no_part_of_the_network_is_told(network, other):
    with pytest.raises(
        mgd.InputError, match=r"'weights\.pth' is of a pruned network, but \S*weight"
    ):
        fit_widths(nn.Sequential(network), nn.Sequential(other).state_dict(), WHERE)


@pytest.fixture
def kept(tmp_path):
    """Writes a half of `cifar_resnet8` for five classes, and changes what the file says of it."""

    def write(**changed):
        metadata = mgd.Metadata(
            arch="cifar_resnet8", classes=tuple("abcde"), view=View(size=32), pruned=True
        )
        weights = seen_before(mgd.create_model("cifar_resnet8_x0_5", 5)).state_dict()
        text = json.dumps({**metadata.to_plain(), **changed})
        save_file(weights, tmp_path / "net.safetensors", {KEY: text})
        return tmp_path / "net.safetensors"

    return write


def test_a_file_that_says_so_is_loaded_as_narrow_as_it_is(kept):
    network, metadata = mgd.load_network(kept())
    assert metadata.pruned
    assert network(IMAGES).shape == (2, 5)
    assert network.conv1.out_channels == 8


def test_a_file_that_does_not_is_refused_as_before(kept):
    with pytest.raises(mgd.InputError, match="does not fit CifarResNet"):
        mgd.load_network(kept(pruned=False))


def test_the_classes_of_a_pruned_file_are_checked(kept):
    with pytest.raises(mgd.InputError, match="names 4 classes, but its weights have 5 outputs"):
        mgd.load_network(kept(classes=list("abcd")))


def test_a_forged_mark_is_told(kept):
    with pytest.raises(mgd.InputError, match="'pruned' is neither true nor false"):
        mgd.load_network(kept(pruned="half"))


def test_a_network_with_all_channels_is_kept_as_earlier_versions_do():
    metadata = mgd.Metadata(arch="resnet18", classes=("a", "b"), view=View())
    assert "pruned" not in metadata.to_plain()
    assert mgd.Metadata.from_plain(metadata.to_plain()) == metadata
