"""The built-in networks: their functions, parameters and cost, and what a wrong name gets."""

import re
import sys
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.shufflenetv2 import InvertedResidual

import mgd
from mgd.errors import InputError
from mgd.models import NAMES, OWN, TORCHVISION, published_classes
from mgd.models.pairs import TAPS, known_points, taps_of

DEEP = ("resnet101", "resnet152", "cifar_resnet110")  # the same code as the smaller ones
SHALLOW = [name for name in TAPS if name not in DEEP]


def num_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def shapes(network):
    return {key: value.shape for key, value in network.state_dict().items()}


def multiply_adds(network, size):
    """Counts those of convolutions and linear layers, for one image."""
    total = 0

    def count(module, args, output):
        nonlocal total
        per_value = module.weight[0].numel()
        total += per_value * output[0].numel()

    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, size, size))
    return total


def randomized(network):
    """Gives BatchNorms weights and statistics that are not all the same."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


# --- every name


@pytest.mark.parametrize("name", [name for name in NAMES if name not in DEEP])
def test_every_name_builds_and_runs(name):
    network = mgd.create_model(name, num_classes=7)
    assert network.training
    size = 32 if name.startswith("cifar") else 64
    with torch.no_grad():
        assert network.eval()(torch.randn(1, 3, size, size)).shape == (1, 7)


@pytest.mark.parametrize("name", DEEP)
def test_deep_networks_build(name):
    with torch.device("meta"):
        network = mgd.create_model(name, num_classes=7)
        assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


@pytest.mark.parametrize("name", OWN)
def test_a_small_image_and_one_class_will_do(name):
    network = mgd.create_model(name, num_classes=1).eval()
    with torch.no_grad():
        assert network(torch.randn(2, 3, 32, 48)).shape == (2, 1)


@pytest.mark.parametrize("name", [*TORCHVISION, "torchvision:squeezenet1_1"])
def test_torchvision_names_are_torchvisions_networks(name):
    plain = name.removeprefix("torchvision:")
    with torch.device("meta"):
        ours = mgd.create_model(name, 7)
        theirs = torchvision.models.get_model(plain, num_classes=7)
    assert type(ours) is type(theirs)
    assert shapes(ours) == shapes(theirs)


def test_timm_names_are_timms_networks():
    network = mgd.create_model("timm:resnet10t", num_classes=7)
    assert type(network).__module__.startswith("timm.")
    with torch.no_grad():
        assert network.eval()(torch.randn(1, 3, 32, 32)).shape == (1, 7)


def test_a_callable_is_called_with_the_class_count():
    network = mgd.create_model("torchvision.models:shufflenet_v2_x0_5", num_classes=7)
    assert network.fc.out_features == 7


@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
def test_weights_come_from_a_file(size, tmp_path):
    trained = randomized(mgd.create_model("shufflenet_v2_x0_5", num_classes=7)).eval()
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "net.pth")
    network = mgd.create_model("shufflenet_v2_x0_5", 7, weights=str(tmp_path / "net.pth")).eval()
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        assert torch.equal(network(images), trained(images))


# --- names and weights that cannot be had


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet51", r"unknown network 'resnet51'; nearest: resnet\d"),
        ("zzz", "unknown network 'zzz'; nearest: none; or give torchvision:NAME"),
        ("cifar_resnet21", "unknown network 'cifar_resnet21'; nearest: cifar_resnet"),
        ("timm", "unknown network 'timm'"),
        ("torchvision:resnet51", "torchvision has no classifier 'resnet51'; nearest: resnet"),
        ("torchvision:fcn_resnet50", "torchvision has no classifier 'fcn_resnet50'"),
        ("timm:resnet51", "timm has no network 'resnet51'; nearest: resnet"),
        ("no.such.package:Net", "network 'no.such.package:Net' cannot be imported"),
        ("torchvision.models:no_net", "'torchvision.models:no_net' cannot be imported"),
    ],
)
def test_an_unknown_name_is_told(name, message):
    with pytest.raises(mgd.InputError, match=message):
        mgd.create_model(name)


@pytest.mark.parametrize("classes", [0, -1])
def test_fewer_than_one_class_is_refused(classes):
    with pytest.raises(mgd.InputError, match=r"`num_classes` \(=.*\) must be at least 1"):
        mgd.create_model("resnet18", classes)


def test_missing_timm_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(mgd.InputError, match=r"pip install 'matching-guided-distillation\[timm\]'"):
        mgd.create_model("timm:resnet10t")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setattr("timm.create_model", refuse)


@pytest.mark.parametrize("name", ["resnet18", "torchvision:resnet18", "shufflenet_v2"])
def test_pretrained_weights_offline_are_told_with_a_way_out(name, offline):
    with pytest.raises(mgd.InputError, match=r"downloaded .*no route.*`weights=None`.*=FILE`"):
        mgd.create_model(name, weights="pretrained")


def test_timms_pretrained_weights_offline_are_told_with_a_way_out(offline):
    with pytest.raises(mgd.InputError, match=r"'timm:resnet10t' cannot be loaded .*no route"):
        mgd.create_model("timm:resnet10t", weights="pretrained")


def test_a_network_without_published_weights_is_told():
    with pytest.raises(mgd.InputError, match="no published weights for 'mobilenet_v1'"):
        mgd.create_model("mobilenet_v1", weights="pretrained")


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "torchvision:shufflenet_v2_x0_5"])
@pytest.mark.parametrize("classes", [1000, 7])
def test_published_weights_load_with_the_real_loader(name, classes, monkeypatch):
    published = randomized(torchvision.models.shufflenet_v2_x0_5())
    asked = []

    def served(url, *args, **kwargs):
        asked.append(url)
        return published.state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", served)
    network = mgd.create_model(name, classes, weights="pretrained")
    assert asked == [torchvision.models.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1.url]
    assert torch.equal(network.conv5[0].weight, published.conv5[0].weight)
    assert torch.equal(network.fc.weight, published.fc.weight) is (classes == 1000)


# --- ShuffleNet-V2 before the ReLU


@pytest.mark.parametrize(
    ("name", "twin"),
    [("shufflenet_v2", "shufflenet_v2_x1_0"), ("shufflenet_v2_x0_5", "shufflenet_v2_x0_5")],
)
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_shufflenet_is_torchvisions_function(name, twin, mode):
    theirs = randomized(torchvision.models.get_model(twin, num_classes=7)).train(mode)
    ours = mgd.create_model(name, 7).train(mode)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-4, atol=1e-4)


def test_shufflenet_has_torchvisions_gradients():
    theirs = randomized(torchvision.models.shufflenet_v2_x0_5(num_classes=7)).eval()
    ours = mgd.create_model("shufflenet_v2_x0_5", 7).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 64)
    for network in (ours, theirs):
        network(images).square().sum().backward()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("stage", ["stage2", "stage3", "stage4"])
def test_shufflenet_stages_end_before_the_relu(stage):
    network = randomized(mgd.create_model("shufflenet_v2_x0_5")).eval()
    theirs = torchvision.models.shufflenet_v2_x0_5()
    theirs.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        tap = [mgd.Tap(stage)]
        (ours,), _ = mgd.TappedModel(network, tap)(images)
        (rectified,), _ = mgd.TappedModel(theirs.eval(), tap)(images)
    # Both halves, the worked one and the one that bypasses the last unit.
    negative = (ours < 0).float().mean((0, 2, 3))
    assert (negative[0::2] > 0).any()
    assert (negative[1::2] > 0).any()
    torch.testing.assert_close(ours.relu(), rectified, rtol=1e-4, atol=1e-4)


def test_shufflenet_units_are_torchvisions():
    network = mgd.create_model("shufflenet_v2")
    assert sum(isinstance(module, InvertedResidual) for module in network.modules()) == 16


# --- MobileNets


def test_mobilenet_v2_of_the_paper_has_torchvisions_parameters():
    ours, theirs = mgd.create_model("mobilenet_v2_eccv"), mgd.create_model("mobilenet_v2")
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())


def test_mobilenet_v2_of_the_paper_moves_one_stride():
    def strides(name):
        features = mgd.create_model(name).features
        convs = (item for item in features.named_modules() if isinstance(item[1], nn.Conv2d))
        return {path: module.stride[0] for path, module in convs}

    ours, theirs = strides("mobilenet_v2_eccv"), strides("mobilenet_v2")
    moved = {path: (ours[path], theirs[path]) for path in ours if ours[path] != theirs[path]}
    # The depthwise convolutions that open the 64- and the 96-channel group.
    assert moved == {"7.conv.1.0": (1, 2), "11.conv.1.0": (2, 1)}


@pytest.mark.parametrize(
    ("name", "millions"),
    [("mobilenet_v2_eccv", 416), ("mobilenet_v2", 301), ("mobilenet_v1", 569)],
)
def test_multiply_adds_at_224(name, millions):
    with torch.device("meta"):
        network = mgd.create_model(name)
        assert multiply_adds(network, 224) / 1e6 == pytest.approx(millions, rel=0.01)


def test_mobilenet_v1_has_the_published_number_of_parameters():
    assert num_parameters(mgd.create_model("mobilenet_v1")) / 1e6 == pytest.approx(4.2, rel=0.02)


# --- CIFAR ResNets


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (56, 0.85), (110, 1.7)])
def test_cifar_resnets_have_the_published_number_of_parameters(depth, millions):
    network = mgd.create_model(f"cifar_resnet{depth}", 10)
    assert num_parameters(network) / 1e6 == pytest.approx(millions, rel=0.02)
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == depth


def test_cifar_resnets_have_the_customary_parameter_names():
    keys = mgd.create_model("cifar_resnet20", 10).state_dict().keys()
    for key in ("conv1.weight", "bn1.bias", "layer1.0.conv1.weight", "layer3.2.bn2.weight"):
        assert key in keys
    assert {"linear.weight", "linear.bias"} <= keys
    assert not any("shortcut" in key or "downsample" in key for key in keys)


def test_cifar_resnet_shortcuts_drop_pixels_and_pad_channels():
    block = mgd.create_model("cifar_resnet8").layer2[0].eval()
    nn.init.zeros_(block.bn2.weight)  # leaves the shortcut alone
    x = torch.rand(2, 16, 8, 8)
    out = block(x)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


@pytest.mark.parametrize(("name", "channels"), [("x0_5", [8, 16, 32]), ("x2_0", [32, 64, 128])])
def test_cifar_resnets_of_other_widths(name, channels):
    network = mgd.create_model(f"cifar_resnet20_{name}", 10)
    stages = network.layer1, network.layer2, network.layer3
    assert [stage[0].conv1.out_channels for stage in stages] == channels
    assert network.eval()(torch.randn(1, 3, 32, 32)).shape == (1, 10)


# --- where the published pairs are tapped


def read(name, paths, size=224):
    """Returns channels and height at each tap."""
    with torch.device("meta"):
        network = mgd.create_model(name).eval()
        tapped = mgd.TappedModel(network, [mgd.Tap.parse(network, path) for path in paths])
        features, _ = tapped(torch.zeros(1, 3, size, size))
    return [(maps.shape[1], maps.shape[2]) for maps in features]


@pytest.mark.parametrize(
    ("teacher", "student", "teacher_shapes", "student_shapes"),
    [
        (
            "resnet50",
            "mobilenet_v1",
            [(256, 56), (512, 28), (1024, 14), (2048, 7)],
            [(128, 56), (256, 28), (512, 14), (1024, 7)],
        ),
        (
            "resnet50",
            "mobilenet_v2_eccv",
            [(512, 28), (1024, 14), (2048, 7)],
            [(192, 28), (384, 14), (960, 7)],
        ),
        (
            "resnet50",
            "shufflenet_v2",
            [(512, 28), (1024, 14), (2048, 7)],
            [(116, 28), (232, 14), (464, 7)],
        ),
        (
            "resnet152",
            "resnet50",
            [(256, 56), (512, 28), (1024, 14), (2048, 7)],
            [(256, 56), (512, 28), (1024, 14), (2048, 7)],
        ),
    ],
)
def test_points_of_the_published_pairs(teacher, student, teacher_shapes, student_shapes):
    teacher_paths, student_paths = zip(*known_points(teacher, student), strict=True)
    assert read(teacher, teacher_paths) == teacher_shapes
    assert read(student, student_paths) == student_shapes


@pytest.mark.parametrize("name", [*SHALLOW, "cifar_resnet8", "cifar_resnet20_x0_5"])
def test_every_tap_exists_at_its_stride(name):
    strides, paths = zip(*taps_of(name).items(), strict=True)
    heights = [height for _, height in read(name, paths, size=64)]
    assert heights == [64 // stride for stride in strides]


@pytest.mark.parametrize("name", ["cifar_resnet8", "mobilenet_v1", "mobilenet_v2_eccv"])
def test_the_deepest_tap_is_before_the_activation(name):
    network = randomized(mgd.create_model(name)).eval()
    tapped = mgd.TappedModel(network, [mgd.Tap.parse(network, taps_of(name)[max(taps_of(name))])])
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        tapped.check(images)
        (features,), _ = tapped(images)
    assert features.min() < 0


@pytest.mark.parametrize("name", ["resnet", "cifar_resnet", "cifar_resnetfoo", "timm:resnet18"])
def test_other_networks_have_no_known_points(name):
    assert taps_of(name) == {}
    assert known_points(name, "resnet18") == []


def test_torchvisions_own_name_has_the_same_points():
    assert known_points("torchvision:resnet50", "mobilenet_v1") == known_points(
        "resnet50", "mobilenet_v1"
    )
    assert known_points("resnet50", "torchvision:shufflenet_v2_x1_0") == []


def test_one_shared_stride_is_no_pair():
    """Stride 4 is the last stage of the one and the first of the other."""
    assert known_points("cifar_resnet20", "resnet18") == []


CODE = """
from torch import nn

def tiny(num_classes):
    return nn.Linear(2, num_classes)

def without():
    return nn.Linear(2, 2)

def no_network(num_classes):
    return "a network"
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "ownnets.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ownnets:without", "cannot be called with num_classes=3"),
        ("ownnets:no_network", "returned a str; needed is a torch.nn.Module"),
        ("ownnets:missing", "cannot be imported"),
        ("ownnets:nn", "cannot be called with num_classes=3"),
    ],
)
def test_code_that_makes_no_network_is_one_line(own, name, told):
    with pytest.raises(InputError, match=re.escape(told)):
        mgd.create_model(name, 3)


def test_code_has_no_published_weights(own):
    assert mgd.create_model("ownnets:tiny", 3).out_features == 3
    with pytest.raises(InputError, match="no published weights for 'ownnets:tiny'"):
        mgd.create_model("ownnets:tiny", 3, "pretrained")


@pytest.mark.parametrize(
    ("name", "classes"),
    [("resnet50", 1000), ("shufflenet_v2", 1000), ("mobilenet_v1", None), ("cifar_resnet20", None),
     ("timm:convnext_tiny.in12k", 11821), ("torchvision:efficientnet_b0", 1000)],
)  # fmt: skip
def test_the_classes_of_published_weights_are_known(name, classes):
    assert published_classes(name) == classes
