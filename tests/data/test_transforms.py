"""Transforms: the random changes of training images, at the size of a view."""

import random
import time
from typing import get_args

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from mgd.data.transforms import Learned, train_transform
from mgd.views import Preprocess, View

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
    if isinstance(transform, v2.Compose):
        return [kind for step in transform.transforms for kind in kinds(step)]
    return [type(transform).__name__]


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


POLICIES = ["ta_wide", "ra", "augmix", *get_args(Learned)]


def with_seed(transform, image, seed):
    """Draws other numbers from Python and NumPy each time, the same from torch."""
    random.seed(time.perf_counter_ns())
    np.random.seed(random.randrange(2**32))
    torch.manual_seed(seed)
    return transform(image)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", [8, 32, 224])
def test_a_policy_changes_images_of_any_size_by_torchs_numbers_alone(policy, size):
    image = torch.randint(256, (3, size, size), dtype=torch.uint8)
    transform = train_transform(View(size=size), "none", policy, 0.5)
    seen = [with_seed(transform, image, seed) for seed in range(12)]
    assert all(out.shape == image.shape and out.dtype == torch.uint8 for out in seen)
    assert sum(not torch.equal(out, image) for out in seen) > 6
    again = [with_seed(transform, image, seed) for seed in range(12)]
    assert all(torch.equal(*pair) for pair in zip(seen, again, strict=True))


@pytest.mark.parametrize(
    ("policy", "kind"),
    [
        ("ta_wide", "TrivialAugmentWide"),
        ("ra", "RandAugment"),
        ("augmix", "AugMix"),
        ("imagenet", "AutoAugment"),
        ("cifar10", "AutoAugment"),
        ("svhn", "AutoAugment"),
    ],
)
def test_a_policy_comes_after_crop_and_flip_and_erasing_last(policy, kind):
    steps = kinds(train_transform(View(size=32), "cifar", policy, 0.25))
    assert steps == ["Resize", "RandomCrop", "RandomHorizontalFlip", kind, "RandomErasing"]


@pytest.mark.parametrize("size", [8, 32, 224])
@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_erasing_paints_a_rectangle_in_what_the_network_sees_as_0(size, colour):
    view = View(size=size, colour=colour)
    image = torch.full((3, size, size), 255, dtype=torch.uint8)
    transform = train_transform(view, "none", random_erase=1.0)
    areas = []
    for seed in range(20):
        out = with_seed(transform, image, seed)
        painted = (out != image).any(0)
        areas.append(float(painted.float().mean()))
        if not areas[-1]:  # a rectangle that is too long ten times
            continue
        assert painted.sum() == painted.any(0).sum() * painted.any(1).sum()
        seen = Preprocess(view)(out[None])[0][:, painted]
        assert float(seen.abs().max()) < 0.01 / min(view.std)
    assert sum(area > 0 for area in areas) > 15
    assert max(areas) < 0.45


def test_an_erasing_of_0_and_no_policy_leave_the_recipe_alone():
    assert kinds(train_transform(View(size=32), "shift", "none", 0.0)) == ["Resize", "RandomCrop"]
