"""Transforms: the random changes of training images, at the size of a view."""

import pytest
import torch
from torchvision.transforms import v2

from mgd.data.transforms import train_transform
from mgd.views import View

RECIPES = ["auto", "imagenet", "cifar", "shift", "none"]


@pytest.mark.parametrize("augment", RECIPES)
@pytest.mark.parametrize("size", [8, 32, 64])
@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 20, 90), (3, 90, 20), (3, 1, 1), (3, 2, 300)])
def test_every_image_comes_out_at_size(augment, size, shape):
    image = torch.randint(256, shape, dtype=torch.uint8)
    out = train_transform(View(size=size), augment)(image)
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
        ("none", 224, ["Lambda", "Resize", "CenterCrop"]),
    ],
)
def test_training_recipes(augment, size, steps):
    assert kinds(train_transform(View(size=size), augment)) == steps


def test_a_shift_is_at_most_an_eighth_and_never_a_flip():
    image = torch.arange(1, 17, dtype=torch.uint8).repeat(3, 16, 1)
    transform = train_transform(View(size=16), "shift")
    shifts = set()
    for _ in range(60):
        row = transform(image)[0, 8].int()
        inside = row > 0
        offset = (row - image[0, 8].int())[inside].unique()
        assert len(offset) == 1
        shifts.add(int(offset))
    assert shifts == {-2, -1, 0, 1, 2}


def test_without_changes_training_sees_what_evaluation_sees():
    image = torch.randint(256, (3, 50, 70), dtype=torch.uint8)
    view = View(size=32, crop="squash", interpolation="bicubic")
    assert torch.equal(train_transform(view, "none")(image), view.transform()(image))


@pytest.mark.parametrize("augment", ["imagenet", "cifar"])
def test_images_are_resized_as_the_view_says(augment):
    image = torch.randint(256, (3, 50, 70), dtype=torch.uint8)
    found = []
    for interpolation in ("bilinear", "bicubic"):
        torch.manual_seed(3)
        found.append(train_transform(View(size=32, interpolation=interpolation), augment)(image))
    assert not torch.equal(*found)
