"""Anything in the place of a network or of images: done, or one line; and nothing is replaced."""

from pathlib import Path

import pytest
from cases import fuzz
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_commands import ODD, OTHER_FLAGS, SMALL

from mgd.cli import main

# What these commands take: a run, its files, images, and what is none of them.
PLACE = st.sampled_from(["", "/student.safetensors", "/last.ckpt", "/args.yaml", "/nowhere"]).map(
    lambda name: f"runs/whole{name}"
) | st.sampled_from(["image.png", "digits", "runs", "*.png", "[", "image.png/"])
MODEL = PLACE.map(lambda place: ["--model", place]) | st.just([])
GIVEN = st.tuples(
    st.sampled_from(["evaluate", "predict", "export", "report"]),
    st.lists(PLACE, max_size=2),
    MODEL,
    st.lists(st.tuples(st.sampled_from(OTHER_FLAGS), PLACE | ODD), max_size=1),
).map(
    lambda parts: [
        *(parts[0], *parts[1]),
        *(parts[2] if parts[0] in ("evaluate", "predict") else []),
        *[word for pair in parts[3] for word in pair],
        *(["-j", "0"] if parts[0] == "evaluate" else []),
    ]
)


@pytest.fixture(scope="module")
def whole(world):
    """The bytes of a run's files and of an image, by path."""
    words = ["train", "digits", "-a", "cifar_resnet8_x0_25", *SMALL, "--experiment", "whole"]
    assert main(words) == 0
    Image.new("RGB", (8, 8)).save("image.png")
    files = [*Path("runs/whole").iterdir(), Path("image.png")]
    return {path: path.read_bytes() for path in files if path.is_file()}


@fuzz
@given(words=GIVEN)
def test_any_place_of_a_network_or_of_images(world, whole, outcome, words):
    outcome(words)
    changed = [path for path, content in whole.items() if path.read_bytes() != content]
    named = {Path(word) for word in words[1:]}
    assert set(changed) <= named, words
    for path in changed:
        path.write_bytes(whole[path])
