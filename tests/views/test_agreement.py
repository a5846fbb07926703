"""A view shows photographs as the library that published the network does.

No weights are downloaded: timm, torchvision and transformers tell the settings without them.
"""

import math
from types import SimpleNamespace

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from timm.data import create_transform, resolve_data_config
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

import mgd
from mgd import View
from mgd.views.proof import difference
from photos import photos

# In standard deviations. One level of 255 is 0.01 to 0.02. torchvision resizes a tensor with other
# roundings than Pillow: in one value of a hundred by a level, and up to nine levels in a few where
# bicubic enlarges one side and reduces the other. Of two pixels as near, "nearest" takes another.
MEAN_DIFFERENCE = {"bilinear": 0.005, "bicubic": 0.005, "nearest": 0.01}

# Of different mean, standard deviation, size, interpolation, share and kind of crop.
NAMES = [
    "torchvision:resnet50",
    "torchvision:efficientnet_b1",
    "torchvision:efficientnet_b3",
    "torchvision:swin_v2_t",
    "timm:resnet50.a1_in1k",
    "timm:vit_base_patch16_siglip_224.webli",
    "timm:convnext_base.clip_laiona_320",
    "timm:coat_lite_medium_384.in1k",
    "timm:inception_resnet_v2.tf_ens_adv_in1k",
    "timm:vit_base_patch14_dinov2.lvd142m",
    "timm:fastvit_mci0.apple_mclip",
    "timm:volo_d4_448.sail_in1k",
]
CROPS = ["center", "squash", "border"]


def timm_config(name):
    return timm.get_pretrained_cfg(name.removeprefix("timm:")).to_dict()


def timm_transform(config):
    return create_transform(**resolve_data_config(pretrained_cfg=config))


def torchvision_transform(name):
    weights = torchvision.models.get_model_weights(name.removeprefix("torchvision:"))
    return getattr(weights, "IMAGENET1K_V1", next(iter(weights))).transforms()


def library_transform(name):
    if name.startswith("timm:"):
        return timm_transform(timm_config(name))
    return torchvision_transform(name)


def seen_by(view, theirs):
    """Returns (ours, theirs) of all photographs."""
    ours = torch.stack([view(pil_to_tensor(photo)) for photo in photos()])
    return ours, torch.stack([theirs(photo) for photo in photos()])


@pytest.fixture(scope="module", params=NAMES)
def seen(request):
    view = View.from_network(request.param)
    return view, *seen_by(view, library_transform(request.param))


def test_pixels_are_those_of_the_library(seen):
    view, ours, theirs = seen
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().mean((1, 2, 3)).max() < MEAN_DIFFERENCE[view.interpolation]


@torch.no_grad()
def loss_of(images):
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(3, 16, 5, 4), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU()),
        *(nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(128, 10)),
    )
    labels = torch.arange(len(images))
    return float(F.cross_entropy(10 * network(images), labels))


def test_the_loss_is_that_of_the_library_to_a_fifth_of_a_percent(seen):
    _, ours, theirs = seen
    assert loss_of(ours) == pytest.approx(loss_of(theirs), rel=0.002)


def test_another_view_would_change_the_loss(seen):
    """So the test above can fail: with another crop it does."""
    view, _, theirs = seen
    others = view.replace(crop_pct=view.crop_pct * 0.8)
    ours, _ = seen_by(others, lambda _: torch.zeros(1))
    assert loss_of(ours) != pytest.approx(loss_of(theirs), rel=0.002)


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("crop_pct", [0.8, 1.0])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_every_kind_of_crop_is_timms(crop, crop_pct, interpolation):
    config = {
        "input_size": (3, 97, 97),
        "crop_mode": crop,
        "crop_pct": crop_pct,
        "interpolation": interpolation,
        "mean": (0.2, 0.4, 0.6),
        "std": (0.25, 0.3, 0.2),
    }
    view = View.from_network(SimpleNamespace(pretrained_cfg=config))
    ours, theirs = seen_by(view, timm_transform(config))
    assert (ours - theirs).abs().mean((1, 2, 3)).max() < MEAN_DIFFERENCE[interpolation]


def test_every_network_of_timm_has_the_view_that_timm_makes_or_is_refused():
    refused = set()
    for name in timm.list_models(pretrained=True):
        config = resolve_data_config(pretrained_cfg=timm_config(name))
        try:
            view = View.from_network(f"timm:{name}")
        except mgd.InputError:
            refused.add(config["input_size"])
            continue
        assert (3, view.size, view.size) == config["input_size"]
        assert view.resized == math.floor(view.size / config["crop_pct"])
        for key in ("mean", "std", "interpolation"):
            assert getattr(view, key) == config[key], name
        assert view.crop == config["crop_mode"]
    assert all(height != width for _, height, width in refused)


def test_every_classifier_of_torchvision_has_the_view_that_torchvision_makes():
    for name in torchvision.models.list_models(torchvision.models):
        for weights in torchvision.models.get_model_weights(name):
            view, transforms = View.from_network(weights), weights.transforms()
            assert [view.size] == transforms.crop_size
            assert [view.resized] == transforms.resize_size


HUGGING_FACE = [
    ("ViT", {}),
    ("ViT", {"do_normalize": False}),
    ("ViT", {"do_rescale": False}),
    ("ViT", {"do_rescale": False, "do_normalize": False}),
    ("ViT", {"rescale_factor": 1 / 127.5}),
    ("ViT", {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.3, 0.2, 0.1]}),
    ("ViT", {"resample": 0, "size": {"height": 97, "width": 97}}),
    ("ViT", {"resample": 3, "size": {"height": 448, "width": 448}}),
    ("DeiT", {}),
    ("CLIP", {}),
    ("Siglip", {}),
    ("Bit", {"size": {"shortest_edge": 256}, "image_mean": [0.485, 0.456, 0.406]}),
    ("ConvNext", {}),
    ("ConvNext", {"size": {"shortest_edge": 224}}),
    ("ConvNext", {"size": {"shortest_edge": 224}, "crop_pct": 0.95}),
    ("PoolFormer", {}),
    ("MobileViT", {}),
    (
        "EfficientNet",
        {"rescale_factor": 1 / 127.5, "rescale_offset": True, "include_top": False},
    ),
]


def variants(family, settings):
    """Returns the processors of a family, by Pillow and by torchvision."""
    transformers = pytest.importorskip("transformers")
    names = [f"{family}ImageProcessor{end}" for end in ("", "Pil", "Fast")]
    return [getattr(transformers, n)(**settings) for n in names if hasattr(transformers, n)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("family", "settings"), HUGGING_FACE)
def test_pixels_are_those_of_a_processor(family, settings):
    processors = variants(family, settings)
    assert processors
    for processor in processors:
        view = View.from_network(processor)
        for photo in photos():
            theirs = processor(photo, return_tensors="pt")["pixel_values"][0]
            ours = view(pil_to_tensor(photo))
            assert difference(ours, theirs.float()) < MEAN_DIFFERENCE[view.interpolation]


def test_a_difference_allows_one_pixel_to_the_side_and_no_more():
    image = torch.rand(3, 40, 40)
    assert difference(image, image) == 0
    assert difference(image.roll((1, -1), (1, 2)), image) == 0
    assert difference(image.roll(2, 1), image) > 0.5
    assert difference(image + 1, image) > 1
    assert difference(image.flip(0), image) > 0.5
