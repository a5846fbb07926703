"""Networks of transformers and of timm for foundation teachers, with random weights: nothing is
downloaded. They are built, seen into, and followed by a small student."""

import pytest
import torch

import mgd
from mgd.models import published_classes
from mgd.models.huggingface import hf_classes

transformers = pytest.importorskip("transformers")

SMALL = {
    "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3,
    "intermediate_size": 96, "image_size": 32, "patch_size": 8,
}  # fmt: skip


def config_of(kind):
    """Returns a small configuration of a published architecture."""
    if kind == "DINOv2":
        return transformers.Dinov2Config(**SMALL, mlp_ratio=2)
    if kind == "DINOv3":
        if not hasattr(transformers, "DINOv3ViTConfig"):
            pytest.skip("this transformers has no DINOv3")
        return transformers.DINOv3ViTConfig(**SMALL, num_register_tokens=2)
    if kind == "ViT":
        return transformers.ViTConfig(**SMALL)
    if kind == "ResNet":
        return transformers.ResNetConfig(
            embedding_size=16, hidden_sizes=[16, 32, 64, 64], depths=[1, 1, 1, 1]
        )
    texts = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64,
             "num_hidden_layers": 1, "num_attention_heads": 2}  # fmt: skip
    family = getattr(transformers, f"{kind}Config")
    return family(vision_config=SMALL, text_config=texts)


@pytest.fixture
def saved(tmp_path):
    """Saves a network of random weights as the hub would have it, and returns its name."""

    def save(kind, as_classifier=False):
        torch.manual_seed(0)
        config = config_of(kind)
        config.num_labels = 7
        if as_classifier:
            network = transformers.AutoModelForImageClassification.from_config(config)
        else:
            network = transformers.AutoModel.from_config(config)
        network.save_pretrained(tmp_path / kind)
        return f"hf:{tmp_path / kind}"

    return save


@pytest.mark.parametrize("kind", ["DINOv2", "ViT", "ResNet"])
def test_a_classifier_has_the_classes_asked_for(saved, kind):
    network = mgd.create_model(saved(kind), num_classes=5).eval()
    assert mgd.logits_of(network(torch.zeros(2, 3, 32, 32))).shape == (2, 5)


@pytest.mark.parametrize("size", [16, 32, 48])
def test_dinov2_takes_images_of_other_sizes(saved, size):
    network = mgd.create_model(saved("DINOv2"), num_classes=5).eval()
    assert network(torch.zeros(1, 3, size, size)).logits.shape == (1, 5)


@pytest.mark.parametrize("kind", ["DINOv2", "ViT"])
def test_published_weights_are_loaded_and_their_classes_counted(saved, kind):
    name = saved(kind, as_classifier=True)
    assert published_classes(name) == hf_classes(name.removeprefix("hf:")) == 7
    found = mgd.create_model(name, 7, "pretrained").eval()
    own = transformers.AutoModelForImageClassification.from_pretrained(name[3:]).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(found(images).logits, own(images).logits)


@pytest.mark.parametrize("kind", ["Siglip", "CLIP"])
def test_of_two_towers_that_for_images_is_built(saved, kind):
    name = saved(kind)
    assert published_classes(name) is None
    network = mgd.create_model(name, 5, "pretrained").eval()
    output = network(torch.zeros(2, 3, 32, 32))
    assert not [path for path, _ in network.named_modules() if "text" in path]
    with pytest.raises(mgd.InputError, match="no class scores are known"):
        mgd.logits_of(output)


@pytest.mark.parametrize("kind", ["DINOv2", "DINOv3", "Siglip", "CLIP", "ViT", "ResNet"])
def test_a_small_student_follows_it(saved, kind):
    teacher = mgd.create_model(saved(kind), num_classes=5)
    student = mgd.create_model("cifar_resnet8", num_classes=5)
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    views = {"teacher_view": mgd.View(size=32), "student_view": mgd.View(size=32)}
    with mgd.Distiller(teacher, student, images, **views) as distiller:
        assert len(distiller.points) >= 1
        mgd.update_matching(distiller, [images])
        loss = distiller(images).loss.mean()
        loss.backward()
    assert torch.isfinite(loss)
    assert loss > 0
    assert any(parameter.grad.abs().sum() > 0 for parameter in student.parameters()
               if parameter.grad is not None)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [("./nowhere", "there is no such folder"), ("a/b/c", "there is no such folder")],
)
def test_a_folder_that_is_missing_is_one_line(name, message):
    with pytest.raises(mgd.InputError, match=message) as caught:
        mgd.create_model(f"hf:{name}")
    assert "\n" not in str(caught.value)


def test_a_configuration_that_is_none_of_images_is_refused(tmp_path):
    transformers.BertConfig(hidden_size=8, num_attention_heads=2).save_pretrained(tmp_path)
    with pytest.raises(mgd.InputError, match=r"not take images|no network of images"):
        mgd.create_model(f"hf:{tmp_path}")


def test_weights_that_lack_a_layer_are_refused(saved, tmp_path):
    from safetensors.torch import load_file, save_file

    name = saved("DINOv2", as_classifier=True)
    file = tmp_path / "DINOv2" / "model.safetensors"
    weights = load_file(file)
    del weights["dinov2.encoder.layer.0.attention.attention.query.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(mgd.InputError, match="1 are missing or of another shape, such as dinov2"):
        mgd.create_model(name, 7, "pretrained")


# Foundation teachers of timm, by their published names.

PUBLISHED = {
    "vit_small_patch14_dinov2.lvd142m": (518, "bicubic"),
    "vit_small_patch14_reg4_dinov2.lvd142m": (518, "bicubic"),
    "vit_small_patch16_dinov3.lvd1689m": (256, "bicubic"),
    "vit_base_patch16_siglip_224.webli": (224, "bicubic"),
    "vit_base_patch16_clip_224.openai": (224, "bicubic"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_foundation_teacher_of_timm_has_its_own_view_and_can_be_followed(name):
    timm = pytest.importorskip("timm")
    if not timm.is_model(name.partition(".")[0]):
        pytest.skip("this timm is older than the network")
    view = mgd.View.from_network(f"timm:{name}")
    assert (view.size, view.interpolation) == PUBLISHED[name]
    # The published architecture, shallow and narrow, so that the test is quick.
    patch = 14 if "14" in name else 16
    teacher = timm.create_model(
        name, num_classes=0, img_size=4 * patch, depth=3, embed_dim=48, num_heads=3
    )
    student = mgd.create_model("resnet18", num_classes=5)
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    views = {"teacher_view": view.replace(size=4 * patch), "student_view": mgd.View(size=64)}
    with mgd.Distiller(teacher, student, images, **views) as distiller:
        assert len(distiller.points) >= 1
        mgd.update_matching(distiller, [images])
        assert torch.isfinite(distiller(images).loss).all()
