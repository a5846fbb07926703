"""What a run keeps with the weights: the network, its classes in order, its view."""

from dataclasses import replace

import pytest
import torch

import mgd
from mgd.engine.loop.checkpoint import load_checkpoint, save_checkpoint
from mgd.engine.run import train
from mgd.errors import InputError
from mgd.models import read_metadata

ARCH = "cifar_resnet8_x0_25"
SEEN = mgd.View(size=8, crop="squash", crop_pct=1.0, mean=(0.5, 0.5, 0.5))


@pytest.fixture
def config(fast_run, image_folder):
    return fast_run.replace(
        data=str(image_folder), train_images=0, epochs=1, mean=(0.5, 0.5, 0.5), experiment="run"
    )


@pytest.mark.parametrize("name", ["student.safetensors", "last.ckpt", "best.ckpt"])
def test_every_file_of_a_run_tells_the_network_its_classes_and_its_view(config, name):
    folder = train(config).folder
    assert read_metadata(folder / name) == mgd.Metadata(
        arch=ARCH, classes=("nought", "one", "two"), view=SEEN
    )


def test_the_order_that_is_kept_is_that_of_the_outputs(config, tmp_path):
    folder = train(config).folder
    state = load_checkpoint(folder / "best.ckpt")
    names = ["two", "nought", "one"]
    state["mgd"]["classes"] = names
    save_checkpoint(state, tmp_path / "turned.ckpt")
    again = train(config.replace(experiment="more", student_resume=str(tmp_path / "turned.ckpt")))
    assert read_metadata(again.folder / "student.safetensors").classes == tuple(names)


def test_a_checkpoint_of_version_0_2_0_goes_on(config, few_digits):
    """It has no metadata, and its options had a size, not auto."""
    folder = train(config).folder
    state = load_checkpoint(folder / "last.ckpt")
    del state["mgd"]
    for name in [name for name in state["config"] if name.startswith("teacher-")]:
        state["config"].pop(name) if name not in ("teacher-resume", "teacher-precision") else None
    for name in ("mean", "std", "interpolation", "crop", "crop-pct", "colour"):
        del state["config"][name]
    save_checkpoint(state, folder / "last.ckpt")
    outcome = train(config.replace(resume="auto", epochs=2))
    assert load_checkpoint(outcome.folder / "last.ckpt")["epoch"] == 2
    assert read_metadata(folder / "last.ckpt").view == SEEN


@pytest.mark.parametrize("new", ["zero", "unity"])
def test_a_run_does_not_go_on_with_renamed_classes(config, image_folder, new):
    """`zero` comes last in the alphabet, so that every output would be another class's."""
    folder = train(config).folder
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    for part in ("train", "valid"):
        (image_folder / part / "nought").rename(image_folder / part / new)
    with pytest.raises(InputError, match="made with other classes, or in another order") as caught:
        train(config.replace(resume="auto", epochs=2))
    now = ", ".join(sorted([new, "one", "two"]))
    assert f"it has 3: nought, one, two; the data has 3: {now}; give" in str(caught.value)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_run_does_not_go_on_with_classes_in_another_order(config, image_folder, monkeypatch):
    from mgd.engine.loop import pipeline

    train(config)
    load = pipeline.load_splits
    monkeypatch.setattr(
        pipeline, "load_splits", lambda *given: turned(load(*given), ["two", "nought", "one"])
    )
    with pytest.raises(InputError, match="has 3: nought, one, two; the data has 3: two, nought, o"):
        train(config.replace(resume="auto", epochs=2))


def turned(splits, classes):
    return replace(splits.with_classes(classes))


def test_class_names_that_are_not_utf8_are_kept_and_go_on(config, image_folder):
    for part in ("train", "valid"):
        path = image_folder / part / "one"
        path.rename(path.with_name("\udcff\udcfe"))
    folder = train(config).folder
    train(config.replace(resume="auto", epochs=2))
    for name in ("student.safetensors", "last.ckpt"):
        assert read_metadata(folder / name).classes == ("nought", "two", "\udcff\udcfe")


def test_what_is_kept_does_not_hinder_strict_loading(config):
    path = train(config).folder / "student.safetensors"
    network, _ = mgd.load_network(path)
    assert isinstance(network, torch.nn.Module)
    mgd.create_model(ARCH, 3, weights=str(path))
