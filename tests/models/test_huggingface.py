"""Networks of transformers, by name: tiny ones with random weights, saved into a folder."""

import json
import logging

import pytest
import torch

import mgd
from mgd.errors import InputError
from mgd.models import is_code, published_classes

transformers = pytest.importorskip("transformers")

SIZE = 32
IMAGES = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 60,
    "max_position_embeddings": 8,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
VISION = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "patch_size": 8,
    "image_size": SIZE,
}
MLP = {"intermediate_size": 48}


def dinov2(**options):
    return transformers.Dinov2Config(**VISION, **options)


def siglip(**options):
    return transformers.SiglipConfig(text_config=TEXT, vision_config=VISION | MLP, **options)


def clip(**options):
    towers = {"text_config": TEXT, "vision_config": VISION | MLP}
    return transformers.CLIPConfig(**towers, projection_dim=8, **options)


def network(kind):
    """Makes a network with random weights; classifiers have 7 classes."""
    torch.manual_seed(0)
    t = transformers
    if kind == "dinov3":
        if not hasattr(t, "DINOv3ViTModel"):
            pytest.skip("this transformers has no DINOv3")
        return t.DINOv3ViTModel(t.DINOv3ViTConfig(**VISION, **MLP))
    return {
        "dinov2": lambda: t.Dinov2Model(dinov2()),
        "dinov2 classes": lambda: t.Dinov2ForImageClassification(dinov2(num_labels=7)),
        "siglip": lambda: t.SiglipModel(siglip()),
        "siglip classes": lambda: t.SiglipForImageClassification(siglip(num_labels=7)),
        "clip": lambda: t.CLIPModel(clip()),
        "clip classes": lambda: t.CLIPForImageClassification(clip(num_labels=7)),
        "text": lambda: t.BertModel(
            t.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=60)
        ),
    }[kind]()


@pytest.fixture
def saved(tmp_path):
    """Saves a network; returns its name, and the network."""

    def save(kind):
        made = network(kind)
        folder = tmp_path / kind.replace(" ", "-")
        made.save_pretrained(folder)
        return f"hf:{folder}", made.eval()

    return save


KINDS = [
    ("dinov2", "Dinov2ForImageClassification", None),
    ("dinov2 classes", "Dinov2ForImageClassification", 7),
    ("dinov3", "DINOv3ViTModel", None),
    ("siglip", "SiglipVisionModel", None),
    ("siglip classes", "SiglipForImageClassification", 7),
    ("clip", "CLIPVisionModel", None),
    ("clip classes", "CLIPForImageClassification", 7),
]


@pytest.mark.parametrize("weights", [None, "pretrained"])
@pytest.mark.parametrize(("kind", "made", "classes"), KINDS)
def test_each_kind_is_made_and_teaches_a_small_student(saved, kind, made, classes, weights):
    name, _ = saved(kind)
    assert not is_code(name)
    assert published_classes(name) == classes
    teacher = mgd.create_model(name, 5, weights)
    assert type(teacher).__name__ == made
    assert teacher.training
    output = teacher(IMAGES)
    if made.endswith("ForImageClassification"):
        assert mgd.logits_of(output).shape == (2, 5)
    else:
        with pytest.raises(InputError, match="in which no class scores are known"):
            mgd.logits_of(output)
    student = mgd.create_model("cifar_resnet8_x0_25", 5)
    points = mgd.discover_points(teacher, student, IMAGES)
    assert len(points) == 3
    assert all(point.teacher_shape == (24, 4, 4) for point in points)
    # The sums that blocks return, not what lies inside a block.
    assert all("layer" in str(point.teacher).split(":")[0].split(".")[-2] for point in points)
    with mgd.Distiller(teacher, student, IMAGES, points=points) as distiller:
        mgd.update_matching(distiller, [IMAGES])
        loss = distiller(IMAGES).loss
        assert loss.shape == (2,)
        assert loss.isfinite().all()
        loss.mean().backward()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["dinov2", "dinov3", "siglip", "clip"])
def test_published_weights_give_the_same_features(saved, kind):
    name, published = saved(kind)
    made = mgd.create_model(name, 5, "pretrained").eval()
    if kind == "dinov2":  # the classifier is new, and its backbone is the published one
        made = made.dinov2
    tower = getattr(published, "vision_model", published)
    torch.testing.assert_close(made(IMAGES).last_hidden_state, tower(IMAGES).last_hidden_state)
    other = mgd.create_model(name, 5).eval()
    other = other.dinov2 if kind == "dinov2" else other
    difference = other(IMAGES).last_hidden_state - tower(IMAGES).last_hidden_state
    assert difference.abs().max() > 1e-3


@torch.no_grad()
def test_a_published_classifier_of_as_many_classes_answers_as_published(saved):
    name, published = saved("dinov2 classes")
    made = mgd.create_model(name, 7, "pretrained").eval()
    torch.testing.assert_close(made(IMAGES).logits, published(IMAGES).logits)


@pytest.mark.parametrize("size", [16, 32, 48])
def test_dinov2_takes_images_of_other_sizes(saved, size):
    made = mgd.create_model(saved("dinov2")[0], 5).eval()
    assert mgd.logits_of(made(torch.zeros(1, 3, size, size))).shape == (1, 5)


def heads_made_anew(caplog):
    records = [r for r in caplog.records if r.name == "mgd.models.huggingface"]
    return [record.getMessage() for record in records]


@pytest.mark.parametrize("kind", ["dinov2", "dinov2 classes"])
def test_the_log_names_a_head_that_is_made_anew(saved, caplog, kind):
    mgd.create_model(saved(kind)[0], 5, "pretrained")
    (message,) = heads_made_anew(caplog)
    assert message.endswith("its head is made anew (classifier.bias, classifier.weight)")


def test_the_log_is_silent_where_the_published_head_is_kept(saved, caplog):
    mgd.create_model(saved("dinov2 classes")[0], 7, "pretrained")
    assert not heads_made_anew(caplog)


@pytest.mark.parametrize("kind", ["ViT", "ResNet"])
def test_other_classifiers_teach_as_well(tmp_path, kind):
    torch.manual_seed(0)
    if kind == "ViT":
        config = transformers.ViTConfig(**VISION, **MLP)
    else:
        widths = {"embedding_size": 16, "hidden_sizes": [16, 32, 64, 64], "depths": [1] * 4}
        config = transformers.ResNetConfig(**widths)
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    teacher = mgd.create_model(f"hf:{tmp_path}", 5)
    assert mgd.logits_of(teacher(IMAGES)).shape == (2, 5)
    student = mgd.create_model("cifar_resnet8_x0_25", 5)
    with mgd.Distiller(teacher, student, IMAGES, kd_weight=1.0) as distiller:
        assert len(distiller.points) >= 2
        assert distiller(IMAGES).loss.isfinite().all()


def test_weights_in_half_precision_are_widened(saved, tmp_path):
    _, published = saved("dinov2")
    published.half().save_pretrained(tmp_path / "half")
    made = mgd.create_model(f"hf:{tmp_path / 'half'}", 5, "pretrained")
    assert {parameter.dtype for parameter in made.parameters()} == {torch.float32}


def test_a_file_of_weights_fits(saved, tmp_path):
    name, _ = saved("dinov2")
    torch.save(mgd.create_model(name, 5).state_dict(), tmp_path / "own.pth")
    network, metadata = mgd.load_network(tmp_path / "own.pth", arch=name)
    assert metadata is None
    assert mgd.logits_of(network(IMAGES)).shape == (2, 5)


def test_nothing_is_printed_and_the_verbosity_is_left(saved, capfd):
    name, _ = saved("dinov2")
    logger = logging.getLogger("transformers")
    level = logger.level
    capfd.readouterr()
    mgd.create_model(name, 5, "pretrained")
    said = capfd.readouterr()
    assert "newly initialized" not in said.err + said.out
    assert "%" not in said.err
    assert logger.level == level


# What cannot be made.


def refused(name, weights="pretrained"):
    with pytest.raises(InputError) as caught:
        mgd.create_model(name, 5, weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    assert refused("hf:some/name") == (
        "'hf:some/name' needs the package transformers; "
        "pip install 'matching-guided-distillation[hf]'"
    )
    with pytest.raises(InputError, match="needs the package transformers"):
        published_classes("hf:some/name")


def test_a_folder_that_is_missing_or_no_network_is_one_line(tmp_path):
    assert "(there is no such folder)" in refused(f"hf:{tmp_path / 'nowhere'}")
    assert "cannot be loaded (" in refused(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}')
    assert "unheard-of" in refused(f"hf:{tmp_path}")


def test_an_unreachable_hub_is_one_line(monkeypatch):
    def fail(*arguments, **options):
        raise OSError("We couldn't connect to the hub\nand more")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", fail)
    assert refused("hf:some/name") == (
        "the network 'hf:some/name' cannot be loaded (We couldn't connect to the hub); give a "
        "name on the hub, or a folder with config.json"
    )


def test_a_network_of_texts_is_refused(saved):
    name, _ = saved("text")
    assert "is a BertModel, which does not take images alone" in refused(name, None)


def test_missing_weights_are_one_line(saved, tmp_path):
    name, _ = saved("dinov2")
    (tmp_path / "dinov2" / "model.safetensors").unlink()
    assert "the pretrained weights of 'hf:" in refused(name)
    mgd.create_model(name, 5)


def test_weights_that_lack_more_than_the_last_layer_are_refused(saved, tmp_path):
    name, _ = saved("dinov2")
    path = tmp_path / "dinov2" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"num_hidden_layers": 4}))
    reason = refused(name)
    assert "do not fit Dinov2ForImageClassification" in reason
    assert "encoder.layer.3" in reason
    path.write_text(json.dumps(config | {"hidden_size": -1}))
    assert "repair its config.json" in refused(name, None)
