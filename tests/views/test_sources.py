"""Sources: where a view is read from, and what is refused because nothing tells it."""

import json
from types import SimpleNamespace

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms._presets import ImageClassification

from mgd import InputError, View
from mgd.models import NAMES

PAPER = View()
CIFAR = View(size=32, crop="squash", crop_pct=1.0)
HALF = (0.5, 0.5, 0.5)


def refusal(source):
    with pytest.raises(InputError) as caught:
        View.from_network(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_network_that_is_built_by_name_has_a_view(name):
    assert View.from_network(name) == (CIFAR if name.startswith("cifar_") else PAPER)


@pytest.mark.parametrize(
    ("name", "view"),
    [
        ("cifar_resnet20_x0_5", CIFAR),
        ("torchvision:resnet50", PAPER),
        ("torchvision:swin_t", View(interpolation="bicubic", crop_pct=224 / 232)),
        ("timm:resnet50.a1_in1k", View(interpolation="bicubic", crop_pct=0.95)),
        ("timm:vit_tiny_patch16_224", View(HALF, HALF, 224, "bicubic", 0.9)),
    ],
)
def test_a_name_tells_the_view(name, view):
    assert View.from_network(name) == view


def test_a_tag_of_timm_chooses_the_weights():
    of_google, of_openai = (
        View.from_network(f"timm:vit_base_patch16_224.{tag}")
        for tag in ("augreg_in21k_ft_in1k", "orig_in21k")
    )
    assert of_google.mean == of_openai.mean == HALF
    assert View.from_network("timm:resnet50.tv_in1k") == PAPER


def test_a_torchvision_name_takes_the_weights_that_are_loaded_by_it():
    assert View.from_network("torchvision:mobilenet_v2").resized == 256  # version 2: 232
    assert View.from_network("torchvision:vit_h_14").size == 518  # it has no version 1


def test_weights_and_transforms_of_torchvision():
    weights = torchvision.models.ResNet50_Weights.IMAGENET1K_V2
    assert View.from_network(weights) == View(crop_pct=224 / 232)
    assert View.from_network(weights.transforms()) == View(crop_pct=224 / 232)
    nearest = ImageClassification(crop_size=32, interpolation=InterpolationMode.NEAREST_EXACT)
    assert View.from_network(nearest).interpolation == "nearest"


def test_a_network_of_timm():
    assert View.from_network(timm.create_model("resnet18.tv_in1k")) == PAPER


def test_a_network_of_timm_that_was_made_for_another_size():
    network = timm.create_model("vit_tiny_patch16_224", img_size=96)
    view = View.from_network(network)
    assert view == View(HALF, HALF, 96, "bicubic", 0.9)
    network(view(torch.randint(256, (3, 60, 80), dtype=torch.uint8))[None])


def test_a_configuration_that_is_silent_means_what_timm_takes_then():
    network = SimpleNamespace(pretrained_cfg={"architecture": "own"})
    config = timm.data.resolve_data_config(pretrained_cfg={"architecture": "own"})
    view = View.from_network(network)
    assert view.size == config["input_size"][1]
    for name in ("mean", "std", "interpolation", "crop_pct"):
        assert getattr(view, name) == config[name]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet5O", "unknown network 'resnet5O'; nearest: resnet50"),
        ("mobilenet_v1_eccv", "nearest: mobilenet_v2_eccv"),
        ("cifar_resnet20_half", "unknown network"),
        ("", "unknown network"),
        ("torchvision:resnet5O", "torchvision has no classifier 'resnet5O'; nearest: resnet50"),
        ("torchvision:fasterrcnn_resnet50_fpn", "no classifier"),
        ("torchvision:", "no classifier"),
        ("timm:resnet5O", "timm has no network 'resnet5O'; nearest: resnet50"),
        ("timm:", "timm has no network"),
        ("timm:resnet50.a1", "timm has no weights 'resnet50.a1'; nearest: resnet50."),
        ("package.module:function", "give mgd.View(mean, std, size)"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, words):
    assert words in refusal(name)


def without(monkeypatch, package):
    monkeypatch.setitem(__import__("sys").modules, package, None)


def test_a_package_that_is_missing_is_named(monkeypatch):
    without(monkeypatch, "timm")
    without(monkeypatch, "transformers")
    assert "pip install 'matching-guided-distillation[timm]'" in refusal("timm:resnet18")
    assert "pip install 'matching-guided-distillation[hf]'" in refusal("hf:google/vit")


@pytest.mark.parametrize(
    "source",
    [
        None,
        224,
        nn.Linear(1, 1),
        v2.Compose([v2.Resize(256), v2.CenterCrop(224)]),
        torchvision.models.ResNet50_Weights,  # no entry of it
        torchvision.models.detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
        torchvision.models.segmentation.FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1,
        torchvision.models.video.R3D_18_Weights.KINETICS400_V1.transforms(),
    ],
    ids=repr,
)
def test_what_does_not_tell_a_view_is_refused(source):
    assert refusal(source)


@pytest.mark.parametrize(
    ("transforms", "words"),
    [
        (ImageClassification(crop_size=64, antialias=False), "standard deviations from 64 px"),
        (ImageClassification(crop_size=64, interpolation=InterpolationMode.BOX), "`interpolation`"),
        (ImageClassification(crop_size=5000, resize_size=5000), "`size` (=5000)"),
        (ImageClassification(crop_size=64, mean=(123.7, 116.3, 103.5)), "where white is 1"),
    ],
)
def test_transforms_that_no_view_equals_are_refused(transforms, words):
    message = refusal(transforms)
    assert words in message
    assert message.startswith("ImageClassification sees images in a way that no mgd.View has: ")


@pytest.mark.parametrize("size", [(3, 224, 160), (1, 28, 28)])
def test_a_network_of_timm_without_square_images_of_three_colours_is_refused(size):
    network = SimpleNamespace(pretrained_cfg={"input_size": size})
    assert f"{size[0]} x {size[1]} x {size[2]}" in refusal(network)
    square = {"input_size": (3, 224, 224)}
    patches = SimpleNamespace(img_size=(224, 160))
    assert "(224, 160)" in refusal(SimpleNamespace(pretrained_cfg=square, patch_embed=patches))


def processor(family, **settings):
    transformers = pytest.importorskip("transformers")
    return getattr(transformers, f"{family}ImageProcessor")(**settings)


@pytest.mark.parametrize(
    ("family", "settings", "words"),
    [
        ("ViT", {"do_resize": False}, "does not resize"),
        ("ViT", {"size": {"height": 224, "width": 160}}, "no square `size`"),
        ("ViT", {"size": {"shortest_edge": 224}}, "keeps the proportions"),
        ("ViT", {"size": {"shortest_edge": 224, "longest_edge": 448}}, "no square `size`"),
        ("CLIP", {"do_center_crop": False}, "keeps the proportions"),
        ("CLIP", {"crop_size": {"height": 224, "width": 160}}, "no square `crop_size`"),
        ("ViT", {"resample": 1}, "`interpolation` (='lanczos') is unknown"),
        ("ViT", {"resample": 77}, "settings of an unknown kind"),
        ("ViT", {"rescale_factor": "white"}, "settings of an unknown kind"),
        ("ViT", {"rescale_factor": 0}, "settings of an unknown kind"),
        ("ViT", {"image_mean": [123.7, 116.3, 103.5]}, "where white is 1"),
        ("ViT", {"size": {"height": 9000, "width": 9000}}, "`size` (=9000)"),
        # These have steps of their own, which only their pixels show.
        ("EfficientNet", {}, "standard deviations"),
        ("Levit", {}, "standard deviations"),
        ("Perceiver", {}, "of an image of 480 x 360, not"),
        ("ImageGPT", {}, "its own code fails"),
        ("VideoMAE", {}, "of an image of 480 x 360, not"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_processor_that_no_view_equals_is_refused(family, settings, words):
    assert words in refusal(processor(family, **settings))


def saved(folder, **settings):
    folder.joinpath("preprocessor_config.json").write_text(json.dumps(settings))
    return f"hf:{folder}"


@pytest.mark.filterwarnings("ignore")
def test_a_processor_by_name_and_of_images_and_texts(tmp_path):
    pytest.importorskip("transformers")
    settings = {"size": {"shortest_edge": 64}, "crop_size": 64}
    name = saved(tmp_path, image_processor_type="CLIPImageProcessor", **settings)
    view = View.from_network(name)
    assert (view.size, view.crop, view.interpolation) == (64, "center", "bicubic")
    clip = SimpleNamespace(image_processor=processor("CLIP"))
    assert View.from_network(clip) == View.from_network(processor("CLIP"))


@pytest.mark.filterwarnings("ignore")
def test_a_processor_of_timms_networks():
    config = timm.get_pretrained_cfg("resnet50.a1_in1k").to_dict()
    wrapper = processor("TimmWrapper", pretrained_cfg=config)
    assert View.from_network(wrapper) == View.from_network("timm:resnet50.a1_in1k")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"image_processor_type": "NoneSuch"},
        {"image_processor_type": "ViTImageProcessor", "size": "large"},
        {"image_processor_type": "ViTImageProcessor", "size": {"height": [1], "width": [1]}},
        {"image_processor_type": "ViTImageProcessor", "image_mean": "grey"},
        {"image_processor_type": "ViTImageProcessor", "image_mean": [[0.5]] * 3},
        {"image_processor_type": "ViTImageProcessor", "image_std": [0, 0, 0]},
        {"image_processor_type": "ViTImageProcessor", "rescale_factor": None},
        {"image_processor_type": "X", "auto_map": {"AutoImageProcessor": "evil.Evil"}},
    ],
    ids=str,
)
def test_a_damaged_processor_is_refused_in_a_line(tmp_path, settings):
    pytest.importorskip("transformers")
    assert "image" in refusal(saved(tmp_path, **settings))


def test_code_beside_a_processor_does_not_run(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    code = "from pathlib import Path\nPath('ran').touch()\nclass Evil:\n    pass\n"
    tmp_path.joinpath("evil.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    refusal(saved(tmp_path, auto_map={"AutoImageProcessor": "evil.Evil"}))
    assert not tmp_path.joinpath("ran").exists()
