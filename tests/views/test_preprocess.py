"""Preprocess: what a network sees of a batch, on the device."""

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.functional import pil_to_tensor

from mgd.views import Preprocess, View
from photos import photos

VIEW = View(mean=(0.2, 0.4, 0.6), std=(0.3, 0.2, 0.1), size=32)
INTERPOLATIONS = ["nearest", "bilinear", "bicubic"]


def crops(*shape):
    return torch.randint(256, shape, dtype=torch.uint8)


def normalized(images, view):
    white = v2.functional.to_dtype(images, torch.float32, scale=True)
    return v2.functional.normalize(white, list(view.mean), list(view.std))


def test_a_batch_is_normalised_as_torchvision_does():
    images = crops(4, 3, 32, 32)
    torch.testing.assert_close(Preprocess(VIEW)(images), normalized(images, VIEW))


def test_colours_are_reversed_before_they_are_normalised():
    images = crops(4, 3, 32, 32)
    seen = Preprocess(VIEW.replace(colour="BGR"))(images)
    torch.testing.assert_close(seen, normalized(images.flip(1), VIEW))


def test_grey_is_what_torchvision_makes_of_colours():
    images, view = crops(4, 3, 32, 32), View(mean=(0.4,), std=(0.2,), size=32, colour="L")
    seen = Preprocess(view)(images)
    assert seen.shape == (4, 1, 32, 32)
    grey = v2.functional.rgb_to_grayscale(images)
    torch.testing.assert_close(seen, normalized(grey, view), rtol=0, atol=1.01 / 255 / 0.2)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("side", [20, 32, 80])
def test_images_are_resized_as_torchvision_does_to_a_level(interpolation, side):
    # Of photographs: with noise, torchvision's bicubic for bytes clips between its two passes.
    small = [pil_to_tensor(photo)[:, :side, :side] for photo in photos()[:4]]
    images, view = torch.stack(small), VIEW.replace(interpolation=interpolation)
    resized = v2.functional.resize(images, [32, 32], view.mode, antialias=True)
    levels = torch.tensor(view.std).view(3, 1, 1) * 255
    difference = (Preprocess(view)(images) - normalized(resized, view)) * levels
    assert difference.abs().max() < 1.01


def test_no_colour_is_darker_than_black_or_lighter_than_white():
    edges = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    edges[..., torch.arange(64) % 20 < 10] = 255
    view = View(mean=(0, 0, 0), std=(1, 1, 1), size=48, interpolation="bicubic")
    seen = Preprocess(view)(edges)
    assert seen.min() == 0
    assert seen.max() == 1


@pytest.mark.parametrize("colour", ["RGB", "BGR", "L"])
@pytest.mark.parametrize("side", [32, 48])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_numbers_up_to_one_are_seen_as_bytes_are(colour, side, dtype):
    count = 1 if colour == "L" else 3
    view = View(mean=(0.4,) * count, std=(0.2,) * count, size=32, colour=colour)
    images = crops(2, 3, side, side)
    numbers = (images / 255.0).to(dtype)
    seen = Preprocess(view)(numbers)
    assert seen.dtype == torch.float32
    rounding = max(torch.finfo(dtype).eps, 1e-6) / 0.2
    torch.testing.assert_close(seen, Preprocess(view)(images), rtol=0, atol=rounding)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("side", [32, 48])
def test_the_batch_is_not_changed(dtype, side):
    images = crops(2, 3, side, side).to(dtype)
    before = images.clone()
    Preprocess(VIEW)(images)
    assert images.equal(before)


def test_a_preprocess_has_no_state_and_no_parameters():
    preprocess = Preprocess(VIEW)
    assert preprocess.state_dict() == {}
    assert list(preprocess.parameters()) == []
    assert {name for name, _ in preprocess.named_buffers()} == {"mean", "std"}


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
@pytest.mark.parametrize("side", [32, 48])
def test_channels_stay_last(colour, side):
    images = crops(2, 3, side, side).contiguous(memory_format=torch.channels_last)
    preprocess = Preprocess(VIEW.replace(colour=colour))
    seen = preprocess(images)
    assert seen.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(seen, preprocess(images.contiguous()))


@pytest.mark.parametrize("colour", ["RGB", "L"])
@pytest.mark.parametrize("side", [32, 48])
def test_autocast_leaves_every_digit(colour, side):
    count = 1 if colour == "L" else 3
    view = View(mean=(0.4,) * count, std=(0.2,) * count, size=32, colour=colour)
    images = crops(2, 3, side, side)
    expected = Preprocess(view)(images)
    with torch.autocast("cpu", torch.bfloat16):
        seen = Preprocess(view)(images)
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen, expected)


def test_a_view_is_its_transform_and_then_preprocess():
    photo = crops(3, 60, 80)
    seen = Preprocess(VIEW)(VIEW.transform()(photo)[None])[0]
    torch.testing.assert_close(VIEW(photo), seen, rtol=0, atol=0)
