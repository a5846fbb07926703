"""Shapes in every signature are checked while the tests run."""

import os
import random
import socket
from contextlib import suppress
from importlib.metadata import version

# One thread here and in every process that a test starts: sums then have the same order whatever
# the number of cores, and tiny networks lose more to threads than they gain.
os.environ["OMP_NUM_THREADS"] = "1"

import jaxtyping
import pytest
import torch
from packaging.version import Version

torch.set_num_threads(1)  # where torch was imported before
jaxtyping.install_import_hook("mgd", "checking.check")


def pytest_runtest_setup(item):
    """Skips a test that needs a newer version of a package than the one that is installed."""
    for marker in item.iter_markers("needs"):
        (reason,), packages = marker.args, marker.kwargs
        for name, least in packages.items():
            if Version(version(name)) < Version(least):
                pytest.skip(f"needs {name} >= {least}: {reason}")


@pytest.fixture
def free_port():
    """A TCP port on loopback that nobody listens on.

    Below those that the operating system gives to whoever asks for any, so that no other process
    is given it before the test uses it; at random, so that two runs of the suite do not meet.
    """
    dice = random.SystemRandom()
    while True:
        port = dice.randrange(10_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port


@pytest.fixture
def forked_ranks(monkeypatch):
    """Has the ranks of a launch forked from a process that has torch imported."""
    import forking

    forking.fork_ranks(monkeypatch, "forkserver")


@pytest.fixture(autouse=True)
def _same_randomness():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def scans():
    """scikit-learn's digits: (1797, 8, 8) greys from 0 to 255, and labels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return (images * (255 / 16)).astype("uint8").reshape(-1, 8, 8), labels


@pytest.fixture
def image_folder(tmp_path, scans):
    """A folder of digits as PNG: classes nought, one, two; 6 to train and 4 to validate each."""
    from PIL import Image

    images, labels = scans
    for label, name in enumerate(("nought", "one", "two")):
        for number, image in enumerate(images[labels == label][:10]):
            folder = tmp_path / "images" / ("train" if number < 6 else "valid") / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}.png")
    return tmp_path / "images"


@pytest.fixture(scope="session")
def _few_digits():
    from dataclasses import replace

    from mgd.data import load_digits
    from mgd.data.splits import Subset

    digits = load_digits()
    valid, test = Subset(digits.valid, range(60)), Subset(digits.test, range(60))
    return replace(digits, valid=valid, test=test)


@pytest.fixture
def few_digits(_few_digits, monkeypatch):
    """Runs in this process get the digits with only 60 images to validate and 60 to test on."""
    from mgd.engine.loop import pipeline

    load = pipeline.load_splits
    few = {"digits": _few_digits}
    monkeypatch.setattr(
        pipeline, "load_splits", lambda source, *rest: few.get(source) or load(source, *rest)
    )
    return _few_digits


@pytest.fixture
def fast_run(tmp_path):
    """A run of a second: two epochs of three steps on 30 digits."""
    from mgd.engine.options.config import RunConfig

    return RunConfig().replace(
        data="digits",
        size=8,
        arch="cifar_resnet8_x0_25",
        train_images=30,
        batch_size=10,
        epochs=2,
        workers=0,
        tensorboard=0,
        output=str(tmp_path / "runs"),
    )


@pytest.fixture
def fast_distillation(fast_run):
    """The same under a teacher of random weights, with every loss term."""
    return fast_run.replace(
        teacher="cifar_resnet8_x0_5", use_pretrained=0, distiller="mgd", mgd_with_kd=1
    )
