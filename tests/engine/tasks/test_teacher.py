"""Teachers without a last layer: their features teach, and the reason is told."""

import pytest
import torch
from torch import nn

import mgd
from mgd.engine.loop.checkpoint import save_weights
from mgd.engine.options.config import RunConfig
from mgd.engine.tasks.classifiers import build_classifiers, with_names
from mgd.errors import InputError

ARCH = "cifar_resnet8_x0_25"
CLASSES = ("a", "b", "c")
CPU = torch.device("cpu")
FEATURES = {"distiller": "mgd", "mgd_with_kd": 0}


class Backbone(nn.Module):
    """A network of the user's own, without classes."""

    def __init__(self, num_classes):
        super().__init__()
        self.inner = mgd.create_model(ARCH, num_classes)

    def forward(self, images):
        return {"features": self.inner.conv1(images)}


class Widened(Backbone):
    """Its outputs are as many as the classes of the data and one more."""

    def forward(self, images):
        scores = self.inner(images)
        return torch.cat([scores, scores[:, :1]], 1)


class Plain(Backbone):
    """One with scores."""

    def forward(self, images):
        return self.inner(images)


def code(kind):
    return f"{kind.__module__}:{kind.__name__}"


def teacher(**options):
    config = RunConfig().replace(**{"arch": ARCH, **FEATURES, **options})
    return build_classifiers(with_names(config), CLASSES, "auto", CPU).teacher


def refusal(**options):
    with pytest.raises(InputError) as caught:
        teacher(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def weights(tmp_path):
    """Writes the weights of a network of three classes without some of them."""

    def write(without=(), more=(), name="file.pth"):
        state = mgd.create_model(ARCH, 3).state_dict()
        state = {key: value for key, value in state.items() if key not in without}
        state |= {key: torch.zeros(2) for key in more}
        torch.save(state, tmp_path / name)
        return str(tmp_path / name)

    return write


HEAD = ("linear.weight", "linear.bias")


def test_a_file_without_the_last_layer_teaches_by_its_features(weights):
    path = weights(HEAD)
    found = teacher(teacher=ARCH, teacher_resume=path)
    assert found.no_answers == "its file has no last layer (linear.bias, linear.weight)"
    assert found.weights == path
    own, kept = found.network.state_dict(), torch.load(path)
    assert own.keys() - kept.keys() == set(HEAD)
    assert all(torch.equal(own[key], value) for key, value in kept.items())


@pytest.mark.parametrize("options", [{"distiller": "kd"}, {"mgd_with_kd": 1}])
def test_it_cannot_teach_by_logits(weights, options):
    reason = refusal(teacher=ARCH, teacher_resume=weights(HEAD), **options)
    assert "cannot answer: its file has no last layer" in reason


def test_a_file_that_lacks_anything_else_is_refused(weights):
    for without in (["linear.weight"], [*HEAD, "conv1.weight"], ["conv1.weight"]):
        reason = refusal(teacher=ARCH, teacher_resume=weights(without))
        assert f"{len(without)} missing in the file" in reason
    reason = refusal(teacher=ARCH, teacher_resume=weights(HEAD, more=["extra"]))
    assert "unknown to the network: extra" in reason


def test_a_file_with_its_last_layer_answers(weights):
    assert not teacher(teacher=ARCH, teacher_resume=weights()).no_answers


def test_a_file_of_own_code_whose_output_has_no_scores(tmp_path):
    path = tmp_path / "own.pth"
    torch.save(Backbone(3).state_dict(), path)
    found = teacher(teacher=code(Backbone), teacher_resume=str(path))
    assert found.no_answers == "it returns a dict without scores"
    assert found.weights == str(path)


def test_own_code_with_other_outputs_does_not_answer():
    found = teacher(teacher=code(Widened))
    assert found.no_answers == "its outputs are (4,), and no scores of the 3 classes"
    assert found.weights == "weights of its own code"


def test_own_code_that_knows_more_classes_by_name_answers(tmp_path):
    path, classes = tmp_path / "kept.safetensors", ("z", "c", "b", "a")
    metadata = mgd.Metadata(arch=code(Plain), classes=classes, view=mgd.View(size=32))
    save_weights(Plain(4), path, metadata)
    found = teacher(teacher=code(Plain), teacher_resume=str(path))
    assert not found.no_answers
    assert found.columns.tolist() == [3, 2, 1]


@pytest.fixture
def as_published(monkeypatch):
    """Random weights in place of timm's, which would be downloaded."""
    timm = pytest.importorskip("timm")
    build = timm.create_model

    def create(name, pretrained, num_classes):
        small = {"img_size": 56, "depth": 1, "embed_dim": 48, "num_heads": 3}
        return build(name, pretrained=False, num_classes=num_classes, **small)

    monkeypatch.setattr(timm, "create_model", create)


@pytest.mark.usefixtures("as_published")
def test_published_weights_without_classes_teach_by_their_features():
    found = teacher(teacher="timm:vit_small_patch14_dinov2")
    assert found.no_answers == "its weights were published without a last layer for classes"
    assert found.weights == "published weights"
    assert found.view.size == 518
    assert "cannot answer" in refusal(teacher="timm:vit_small_patch14_dinov2", distiller="kd")


def own_dinov2(num_classes):
    """A function of the user's, which would load timm's weights at another size."""
    import timm

    small = {"img_size": 56, "depth": 1, "embed_dim": 48, "num_heads": 3}
    return timm.create_model("vit_small_patch14_dinov2", num_classes=0, **small)


def test_own_code_that_loads_a_network_of_timm_sees_images_as_published():
    pytest.importorskip("timm")
    found = teacher(teacher=code(own_dinov2), size=32)
    assert found.weights == "weights of its own code"
    assert found.view_from == "as published"
    assert found.view == mgd.View(size=56, crop_pct=1.0, interpolation="bicubic")
    assert found.no_answers == "its outputs are (48,), and no scores of the 3 classes"


@pytest.fixture
def dino(tmp_path):
    """Saves a tiny DINOv2, with its processor or without; returns its name."""
    transformers = pytest.importorskip("transformers")

    def save(with_processor):
        sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3}
        config = transformers.Dinov2Config(**sizes, patch_size=14, image_size=42)
        transformers.Dinov2Model(config).save_pretrained(tmp_path / "dino")
        if with_processor:
            size = {"size": {"shortest_edge": 48}, "crop_size": {"height": 42, "width": 42}}
            transformers.BitImageProcessor(**size).save_pretrained(tmp_path / "dino")
        return f"hf:{tmp_path / 'dino'}"

    return save


def test_a_backbone_of_transformers_teaches_by_its_features(dino):
    found = teacher(teacher=dino(with_processor=True))
    assert found.no_answers == "its weights were published without a last layer for classes"
    assert found.view_from == "as published"
    assert (found.view.size, found.view.resized) == (42, 48)


def test_a_folder_without_a_processor_is_said_to_be_one(dino):
    found = teacher(teacher=dino(with_processor=False), teacher_size=28)
    assert found.view == mgd.View(size=28)
    assert found.view_from == (
        "ImageNet's, since its folder has no preprocessor_config.json, but for size"
    )


def test_a_random_headless_network_of_transformers_is_found_by_running_it(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3}
    sizes |= {"intermediate_size": 24, "patch_size": 8, "image_size": 32}
    config = transformers.SiglipVisionConfig(**sizes)
    transformers.SiglipVisionModel(config).save_pretrained(tmp_path / "tower")
    found = teacher(teacher=f"hf:{tmp_path / 'tower'}", use_pretrained=0)
    assert found.no_answers == "it returns a BaseModelOutputWithPooling without scores"
    assert found.weights == "random weights"
