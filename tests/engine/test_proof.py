"""A proof of an exported file: which images it takes, what it finds, and what is kept."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch

import mgd
from mgd.data import load_digits
from mgd.engine.export import Proof, check_difference, check_int8, images_of, prove
from mgd.engine.loop.checkpoint import save_weights
from mgd.engine.options.config import RunConfig
from mgd.errors import InputError

CLASSES = tuple("0123456789")
VIEW = mgd.View(size=8, crop="squash", crop_pct=1.0)
DIGITS = RunConfig().replace(data="digits")


def proof(**values):
    return Proof(
        **{
            "source": "photos",
            "images": 8,
            "labelled": 8,
            "difference": 0.25,
            "scale": 2.0,
            "agreeing": 6,
            "networks": (),
            "right": (),
            **values,
        }
    )


def test_the_tolerance_is_a_share_of_the_largest_logit():
    check_difference(proof(), Path("net.onnx"), 0.125)
    with pytest.raises(InputError, match=r"up to 0\.25 from .*, 0\.12 of the largest"):
        check_difference(proof(), Path("net.onnx"), 0.124)
    check_difference(proof(difference=0.0, scale=0.0), Path("net.onnx"), 0.0)
    with pytest.raises(InputError):
        check_difference(proof(scale=0.0), Path("net.onnx"), 0.1)


@pytest.mark.parametrize("fault", [math.nan, math.inf])
def test_what_is_no_number_is_never_near_enough(fault):
    with pytest.raises(InputError, match="is not kept: its logits differ"):
        check_difference(proof(difference=fault), Path("net.onnx"), 1e30)
    with pytest.raises(InputError, match="is not kept: in int8"):
        check_int8(proof(difference=fault, agreeing=8), Path("net.onnx"), 0.0)


def test_int8_needs_its_share_of_the_same_answers():
    check_int8(proof(), Path("net.onnx"), 0.75)
    with pytest.raises(InputError, match="the same top-1 answer on 6 of 8 images"):
        check_int8(proof(), Path("net.onnx"), 0.76)


def test_images_are_a_random_part_and_always_the_same():
    (valid, train), (again, _) = (images_of(DIGITS, CLASSES, VIEW, 100, 50) for _ in range(2))
    assert (len(valid), len(train)) == (100, 50)
    assert valid.split.labels == again.split.labels
    assert len(Counter(valid.split.labels)) == 10
    batches = list(valid)
    assert len(batches) == valid.batches
    assert torch.cat(batches).shape == (100, 3, 8, 8)
    assert torch.equal(torch.cat(batches), torch.cat(list(again)))


def test_there_are_no_more_images_than_the_data_has():
    valid, train = images_of(DIGITS, CLASSES, VIEW, 10_000)
    assert (len(valid), len(train)) == (300, 0)


def test_classes_are_matched_by_name():
    backwards, _ = images_of(DIGITS, CLASSES[::-1], VIEW, 20)
    straight, _ = images_of(DIGITS, CLASSES, VIEW, 20)
    assert [9 - label for label in backwards.split.labels] == straight.split.labels
    nameless, _ = images_of(DIGITS, (), VIEW, 20)
    assert nameless.split.labels == straight.split.labels
    some, _ = images_of(DIGITS, ("7", "cat"), VIEW, 20)
    assert set(some.split.labels) == {0, -1}


def test_images_that_were_held_out_are_not_trained_on():
    held = DIGITS.replace(holdout=0.1)
    valid, train = images_of(held, CLASSES, VIEW, 1000, 1000)
    every = load_digits().train
    pixels = [
        {split.image(n).numpy().tobytes() for n in range(len(split))}
        for split in (valid.split, train.split, every)
    ]
    assert len(valid) + len(train) == len(every)
    assert not pixels[0] & pixels[1]
    assert pixels[0] | pixels[1] == pixels[2]


@torch.no_grad()
def test_two_files_are_measured_beside_the_network(tmp_path):
    torch.manual_seed(0)
    network = mgd.create_model("cifar_resnet8_x0_25", 10).eval()
    metadata = mgd.Metadata(arch="cifar_resnet8_x0_25", classes=CLASSES, view=VIEW)
    source, other = tmp_path / "net.safetensors", tmp_path / "other.safetensors"
    save_weights(network, source, metadata)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict({**state, "linear.bias": state["linear.bias"] + 1})
    save_weights(network, other, metadata)
    network.load_state_dict(state)
    now = iter(range(10**9))
    images, _ = images_of(DIGITS, CLASSES, VIEW, 70)
    found = prove(network, source, [source, other], images, clock=lambda: float(next(now)))
    assert [each.file for each in found.networks] == [source, source, other]
    assert found.difference == pytest.approx(1, abs=1e-5)  # of the last one
    assert (found.images, found.labelled, found.agreement) == (70, 70, 1.0)
    expected = network(torch.cat(list(images)))
    right = int((expected.argmax(1) == torch.tensor(images.split.labels)).sum())
    assert found.right == (right,) * 3
    assert found.scale == pytest.approx(float(expected.abs().max()), rel=1e-5)
    assert {each.latency.median for each in found.networks} == {1000.0}
    assert found.networks[0].file_bytes == source.stat().st_size
