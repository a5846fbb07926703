"""Run folders of version 0.2.0, which keep a network's name and size in `args.yaml` alone."""

import logging
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import mgd
from mgd.runfolder import read_evaluation

# What version 0.2.0 wrote for `mgd train photos --arch ... --size 16`, but for the schedule.
ARGS = """
data: photos
size: 16
augment: auto
train-images: 0
holdout: 0.0
skip-bad-images: false
batch-size: 20
workers: 0
arch: cifar_resnet8_x0_5
teacher: ''
teacher-resume: ''
student-resume: ''
use-pretrained: null
pretrained: false
distiller: none
epochs: 3
seed: 42
output: runs
experiment: old
resume: ''
evaluate: false
"""


@pytest.fixture
def old(run, photos):
    """The run as version 0.2.0 would have left it."""
    args = yaml.safe_load(ARGS) | {"data": str(photos)}
    (run / "args.yaml").write_text(yaml.safe_dump(args))
    save_file(load_file(run / "student.safetensors"), run / "student.safetensors")
    for name in ("last.ckpt", "best.ckpt", "previous.ckpt"):
        state = torch.load(run / name, weights_only=True)
        del state["mgd"]
        torch.save(state, run / name)
    assert mgd.load_network(run / "last.ckpt", "cifar_resnet8_x0_5")[1] is None
    return run


@pytest.fixture
def expected(trained, told, here):
    told("evaluate", trained, "--experiment", "expected")
    return read_evaluation("runs/expected").networks[0]


@pytest.mark.parametrize("name", ["", "student.safetensors", "best.ckpt"])
def test_it_is_measured_at_its_own_size(old, expected, told, caplog, name):
    told("evaluate", old / name, "--experiment", "found")
    (found,) = read_evaluation("runs/found").networks
    assert (found.top1, found.view, found.arch) == (expected.top1, expected.view, expected.arch)
    assert expected.view.startswith("16 px, squash 100 %")
    (line,) = (record.getMessage() for record in caplog.records)
    assert "is of an earlier version and does not tell its network; taken from" in line
    assert "runs/first/args.yaml: cifar_resnet8_x0_5, 16 px, squash 100 %" in line


def test_with_data_beside_it_as_well(old, photos, expected, told):
    told("evaluate", photos, "--model", old, "--experiment", "found")
    assert read_evaluation("runs/found").networks[0].top1 == expected.top1


def test_it_predicts_by_number_and_exports_what_is_known(old, photos, trained, told):
    images = photos / "valid" / "zero"
    (line, *_) = told("predict", images, "--model", trained, "--format", "csv", "-k", 1)[1:]
    (by_number, *_) = told("predict", images, "--model", old, "--format", "csv", "-k", 1)[1:]
    names = ("one", "three", "two", "zero")
    image, number, share = by_number.split(",")
    assert line == f"{image},{names[int(number)]},{share}"
    told("export", old, "--format", "pth")
    _, metadata = mgd.load_network(old / "student.pth")
    assert (metadata.arch, metadata.view.size, metadata.classes) == ("cifar_resnet8_x0_5", 16, ())


def test_it_teaches_at_its_own_size(old, photos, told):
    words = ["distill", photos, "--teacher-resume", old, "--arch", "cifar_resnet8_x0_25"]
    words += ["--size", 20, "--epochs", 1, "-b", 40, "-j", 0, "--tensorboard", 0]
    text = " ".join(" ".join(told(*words)).split())
    assert "teacher cifar_resnet8_x0_5, runs/first/student.safetensors sees 16 px" in text


def test_it_is_reported(old, told):
    assert told("report", old) == ["runs/first/report.html"]


def test_above_40_px_its_view_was_that_of_imagenet(old, told, caplog):
    args = yaml.safe_load((old / "args.yaml").read_text())
    (old / "args.yaml").write_text(yaml.safe_dump({**args, "size": 64}))
    with caplog.at_level(logging.WARNING):
        told("evaluate", old)
    assert "64 px, center 87.5 %" in caplog.text


def test_a_flag_wins(old, told):
    text = " ".join(" ".join(told("evaluate", old, "--size", 24)).split())
    assert "sees 24 px, squash 100 %" in text


def test_code_that_its_args_name_is_not_run(old, refused):
    args = yaml.safe_load((old / "args.yaml").read_text())
    (old / "args.yaml").write_text(yaml.safe_dump({**args, "arch": "mine:build"}))
    Path("mine.py").write_text("open('obeyed', 'w')\n")
    for words in (["evaluate", old], ["export", old], ["predict", old, "--model", old]):
        line = refused(*words)
        assert "code" in line or "no image" in line
    assert not Path("obeyed").exists()


def test_args_that_make_no_view_are_told(old, refused):
    args = yaml.safe_load((old / "args.yaml").read_text())
    (old / "args.yaml").write_text(yaml.safe_dump({**args, "size": 10**9}))
    assert "'runs/first/args.yaml': --size 1000000000" in refused("export", old)


def test_a_copy_of_its_file_does_not_tell_its_network(old, refused):
    Path("alone.safetensors").write_bytes((old / "student.safetensors").read_bytes())
    line = refused("export", "alone.safetensors")
    assert "'alone.safetensors' does not say which network it is of; name it with --arch" in line
