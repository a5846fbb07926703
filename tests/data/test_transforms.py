"""Transforms: sizes, recipes, and the numbers that the networks see."""

import pytest
import torch
from torchvision.transforms import v2

from mgd.data.transforms import MEAN, STD, Normalize, eval_transform, train_transform

RECIPES = ["auto", "imagenet", "cifar", "shift", "none"]


@pytest.mark.parametrize("make", [train_transform, eval_transform])
@pytest.mark.parametrize("augment", RECIPES)
@pytest.mark.parametrize("size", [8, 32, 64])
@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 20, 90), (3, 90, 20), (3, 1, 1), (3, 2, 300)])
def test_every_image_comes_out_at_size(make, augment, size, shape):
    image = torch.randint(256, shape, dtype=torch.uint8)
    out = make(size, augment)(image)
    assert out.shape == (3, size, size)
    assert out.dtype == torch.uint8


def kinds(transform):
    steps = transform.transforms if isinstance(transform, v2.Compose) else [transform]
    return [type(step).__name__ for step in steps]


@pytest.mark.parametrize(
    ("augment", "size", "steps"),
    [
        ("auto", 40, ["Resize", "RandomCrop", "RandomHorizontalFlip"]),
        ("auto", 41, ["RandomResizedCrop", "RandomHorizontalFlip"]),
        ("imagenet", 8, ["RandomResizedCrop", "RandomHorizontalFlip"]),
        ("cifar", 224, ["Resize", "RandomCrop", "RandomHorizontalFlip"]),
        ("shift", 8, ["Resize", "RandomCrop"]),
        ("none", 224, ["Resize"]),
    ],
)
def test_training_recipes(augment, size, steps):
    assert kinds(train_transform(size, augment)) == steps


@pytest.mark.parametrize(
    ("augment", "size", "steps"),
    [
        ("auto", 40, ["Resize"]),
        ("auto", 224, ["Lambda", "Resize", "CenterCrop"]),
        ("shift", 224, ["Resize"]),
    ],
)
def test_evaluation_recipes(augment, size, steps):
    assert kinds(eval_transform(size, augment)) == steps


def test_evaluation_at_224_scales_the_shorter_side_to_256():
    assert eval_transform(224).transforms[1].size == [256]


def test_evaluation_keeps_the_centre():
    image = torch.zeros(3, 64, 128, dtype=torch.uint8)
    image[:, :, 48:80] = 200
    out = eval_transform(56, "imagenet")(image)
    assert (out[:, :, 20:36] == 200).all()


def test_evaluation_draws_nothing():
    before = torch.get_rng_state()
    eval_transform(8)(torch.zeros(3, 8, 8, dtype=torch.uint8))
    eval_transform(64)(torch.zeros(3, 8, 8, dtype=torch.uint8))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_shift_is_at_most_an_eighth_and_never_a_flip():
    image = torch.arange(1, 17, dtype=torch.uint8).repeat(3, 16, 1)
    transform = train_transform(16, "shift")
    shifts = set()
    for _ in range(60):
        row = transform(image)[0, 8].int()
        inside = row > 0
        offset = (row - image[0, 8].int())[inside].unique()
        assert len(offset) == 1
        shifts.add(int(offset))
    assert shifts == {-2, -1, 0, 1, 2}


def test_normalisation_is_imagenets_on_0_to_1():
    images = torch.randint(256, (2, 3, 4, 4), dtype=torch.uint8)
    expected = v2.functional.normalize(images.float() / 255, list(MEAN), list(STD))
    torch.testing.assert_close(Normalize()(images), expected, atol=1e-6, rtol=1e-5)


def test_normalisation_leaves_no_trace_in_a_state_dict_nor_in_its_input():
    assert not Normalize().state_dict()
    images = torch.full((1, 3, 2, 2), 7, dtype=torch.uint8)
    Normalize()(images)
    assert (images == 7).all()


def test_a_very_long_image_is_cut_before_it_is_scaled():
    """Scaled whole, 20 000 x 1 pixels would be five million wide."""
    image = torch.zeros(3, 1, 20_000, dtype=torch.uint8)
    image[..., 9_999:10_001] = 200
    assert eval_transform(64)(image).float().mean() > 100


def test_cutting_a_long_image_changes_nothing_in_its_centre():
    image = torch.linspace(0, 255, 200).expand(3, 40, -1)  # smooth: half a pixel is no matter
    whole = v2.Compose([v2.Resize(73, antialias=True), v2.CenterCrop(64)])(image)
    torch.testing.assert_close(eval_transform(64)(image), whole, atol=2.0, rtol=0)
