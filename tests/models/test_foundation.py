"""Foundation networks of timm: their published views and classes, and the points inside them."""

import pytest
import torch

import mgd
from mgd.models import published_classes

timm = pytest.importorskip("timm")

HALF = (0.5, 0.5, 0.5)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
VIEWS = {
    "vit_small_patch14_dinov2": mgd.View(size=518, crop_pct=1.0, interpolation="bicubic"),
    "vit_small_patch16_dinov3": mgd.View(size=256, crop_pct=1.0, interpolation="bicubic"),
    "vit_base_patch16_siglip_224": mgd.View(HALF, HALF, 224, "bicubic", 0.9),
    "vit_base_patch16_clip_224.openai": mgd.View(*CLIP, 224, "bicubic", 0.9),
}


def known(name):
    if not timm.is_model(name.partition(".")[0]):
        pytest.skip(f"this timm has no {name}")
    return name


@pytest.mark.parametrize("name", VIEWS)
def test_the_view_is_the_published_one(name):
    assert mgd.View.from_network(f"timm:{known(name)}") == VIEWS[name]


@pytest.mark.parametrize("name", VIEWS)
def test_it_was_published_without_classes(name):
    assert not published_classes(f"timm:{known(name)}")


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("vit_base_patch16_clip_224.openai_ft_in1k", 1000),
        ("vit_base_patch16_clip_224.openai_ft_in12k", 11821),
        ("convnext_base.clip_laion2b", None),
        ("convnext_base.clip_laion2b_augreg_ft_in1k", 1000),
    ],
)
def test_the_width_of_an_embedding_is_no_number_of_classes(name, classes):
    published = timm.get_pretrained_cfg(name).num_classes
    assert published_classes(f"timm:{name}") == classes
    assert published == (classes or published)
    assert published > 0


@pytest.mark.parametrize("name", VIEWS)
def test_a_small_student_follows_it(name):
    size = 56 if "patch14" in name else 64
    torch.manual_seed(0)
    teacher = timm.create_model(
        known(name), img_size=size, depth=2, embed_dim=48, num_heads=3, num_classes=0
    )
    student = mgd.create_model("cifar_resnet8_x0_25", 5)
    images = torch.randn(2, 3, size, size)
    points = mgd.discover_points(teacher, student, images)
    assert [(str(p.teacher).split(":")[0], p.teacher_shape) for p in points] == [
        ("blocks.0", (48, 4, 4)),
        ("blocks.1", (48, 4, 4)),
    ]
    with mgd.Distiller(teacher, student, images, points=points) as distiller:
        mgd.update_matching(distiller, [images])
        loss = distiller(images).loss
        assert loss.isfinite().all()
        loss.mean().backward()


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224", "resnet18"])
@torch.no_grad()
def test_it_takes_other_sizes_and_computes_the_same_at_its_own(name):
    network = mgd.create_model(f"timm:{known(name)}", 3).eval()
    plain = timm.create_model(name, num_classes=3).eval()
    plain.load_state_dict(network.state_dict())
    images = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(network(images), plain(images))
    assert network(images[..., :112, :112]).shape == (1, 3)


def test_an_error_of_timm_is_not_taken_for_a_size(monkeypatch):
    def create(name, **options):
        raise TypeError("dropped: another reason")

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(TypeError, match="another reason"):
        mgd.create_model("timm:resnet18", 3)
