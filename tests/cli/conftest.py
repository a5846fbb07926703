"""A folder of photographs, a run that was trained on it, and its exports; made once."""

import os
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mgd.cli import main

CLASSES = ("one", "three", "two", "zero")  # sorted by name, as no number is


@pytest.fixture(scope="session")
def photos(tmp_path_factory, scans):
    """Digits of four classes, 20 images to train and 10 to validate of each."""
    images, labels = scans
    root = tmp_path_factory.mktemp("data") / "photos"
    for label, name in enumerate(("zero", "one", "two", "three")):
        for number, image in enumerate(images[labels == label][:30]):
            folder = root / ("train" if number < 20 else "valid") / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).resize((16, 16)).save(folder / f"{name}{number}.png")
    return root


@pytest.fixture(scope="session")
def trained(tmp_path_factory, photos):
    """A run at 16 px, better than chance, though not perfect."""
    runs = tmp_path_factory.mktemp("trained")
    words = ["train", photos, "--arch", "cifar_resnet8_x0_5", "--size", 16, "--epochs", 8]
    words += ["--lr", 0.05, "--lr-schedule", "cosine", "-b", 10, "-j", 0, "--tensorboard", 0]
    words += ["-o", runs, "--experiment", "first"]
    assert main([str(word) for word in words]) == 0
    return runs / "first"


@pytest.fixture(scope="session")
def exported(tmp_path_factory, trained):
    """The run's student in every format, in a folder of its own."""
    folder = tmp_path_factory.mktemp("exported")
    for kind in ("safetensors", "pth", "pt2", "onnx"):
        assert main(["export", str(trained), "-o", str(folder / f"net.{kind}")]) == 0
    return folder


@pytest.fixture
def here(tmp_path_factory, monkeypatch):
    """An empty folder to be in."""
    folder = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(here, trained):
    """A copy of the run, to write into; the path is relative."""
    shutil.copytree(trained, here / "runs" / "first")
    return Path("runs", "first")


@pytest.fixture
def told(capsys):
    """Runs a command that must work, and returns the lines that it prints."""

    def call(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out.splitlines()

    return call


@pytest.fixture
def refused(capsys):
    """Runs a command that must fail cleanly, and returns its one line."""

    def call(*words):
        capsys.readouterr()
        before = sorted(Path.cwd().rglob("*"))
        assert main([str(word) for word in words]) == 2
        said = capsys.readouterr()
        assert re.fullmatch(r"mgd: [^\n]+\n", said.err)
        assert sorted(Path.cwd().rglob("*")) == before, "something was written"
        return said.err

    return call


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((80, 24)))
