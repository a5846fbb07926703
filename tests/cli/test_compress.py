"""Compressed students by the commands: made narrower or trained on 8 bits, kept, and used again."""

import json
import re

import pytest
import torch
import yaml
from torch import nn

import mgd
from mgd.runfolder import names

pytest.importorskip("torch_pruning")

SHORT = ("--epochs", 1, "--lr", 0.02, "-b", 10, "-j", 0, "--tensorboard", 0, "--size", 16)


def weights_of(run):
    return mgd.load_network(run / names.STUDENT)[0].state_dict()


def widths(network):
    return [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]


@pytest.fixture
def half(photos, run, told):
    """A run whose student is that of `run` without half of its channels, and what it printed."""
    lines = told("distill", photos, "--student-resume", run, "--prune-channels", 0.5, *SHORT)
    folder = run.parent / "cifar_resnet8_x0_5-pruned-mgd-amp"
    assert folder.is_dir()
    return folder, lines


def test_a_pruned_student_learns_from_itself_and_is_kept_and_used(photos, run, half, told, here):
    folder, lines = half
    options = yaml.safe_load((folder / names.ARGS).read_text())
    assert options["teacher-resume"] == options["student-resume"] == str(run / names.STUDENT)
    assert any("pruned; holds" in line for line in lines)
    whole, _ = mgd.load_network(run / names.STUDENT)
    network, metadata = mgd.load_network(folder / names.STUDENT)
    assert metadata.pruned
    assert widths(network) == [channels // 2 for channels in widths(whole)]
    card = (folder / names.CARD).read_text()
    assert "Some of its channels were removed" in card
    assert "load_state_dict" not in card  # no library builds it so narrow
    # Measured, exported, predicted with, as any run.
    measured = [line for line in told("evaluate", folder) if line.startswith("student: ")]
    best = next(line for line in lines if line.startswith("best epoch"))
    accuracy = re.search(r"Acc@1 \S+", best)[0]
    assert accuracy in measured[0]
    assert told("export", folder, "-o", "half.onnx")[-1]
    measured = told("evaluate", photos, "--model", "half.onnx")
    assert any(accuracy in line for line in measured)
    # Trained on, and a teacher.
    told("train", photos, "--student-resume", folder, *SHORT, "--experiment", "more")
    assert mgd.load_network("runs/more/student.safetensors")[1].pruned
    teach = ("--teacher-resume", folder, "--arch", "cifar_resnet8_x0_25")
    told("distill", photos, *teach, *SHORT, "--experiment", "below")


def test_a_pruned_run_is_resumed_to_the_same_bits(photos, run, told):
    words = ["distill", photos, "--student-resume", run, "--prune-channels", 0.5, *SHORT]
    words += ["--epochs", 2, "--experiment"]
    told(*words, "whole")
    told(*words[:-1], "--epochs", 1, "--experiment", "cut")
    told(*words, "cut", "--resume", "auto")
    whole, resumed = (weights_of(run.parent / name) for name in ("whole", "cut"))
    assert all(torch.equal(whole[key], value) for key, value in resumed.items())


def test_without_a_teacher_a_network_is_pruned_too(photos, run, told):
    told("train", photos, "--student-resume", run, "--prune-channels", 0.25, *SHORT)
    network, metadata = mgd.load_network(
        run.parent / "cifar_resnet8_x0_5-pruned-base/student.safetensors"
    )
    assert metadata.pruned
    assert widths(network) == [6, 6, 6, 12, 12, 24, 24]


def test_another_teacher_may_be_named(photos, run, told):
    told(
        *("distill", photos, "--student-resume", run, "--prune-channels", 0.5, *SHORT),
        *("--teacher", "cifar_resnet8", "--use-pretrained", 0),
    )
    folder = run.parent / "cifar_resnet8_x0_5-pruned-mgd-amp"
    assert yaml.safe_load((folder / names.ARGS).read_text())["teacher"] == "cifar_resnet8"


def test_a_student_trained_on_8_bits_is_a_plain_network(photos, run, told):
    pytest.importorskip("onnxruntime")
    told("distill", photos, "--student-resume", run, "--qat", *SHORT, "--experiment", "qat")
    plain = mgd.create_model("cifar_resnet8_x0_5", 4)
    plain.load_state_dict(weights_of(run.parent / "qat"))
    told("train", photos, "--student-resume", run, *SHORT, "--experiment", "plain")
    told("train", photos, "--student-resume", run, "--qat", *SHORT, "--experiment", "alone")
    one, other = (weights_of(run.parent / name) for name in ("plain", "alone"))
    assert any(not torch.equal(one[key], other[key]) for key in one)
    assert told("export", run.parent / "qat", "--int8", "--least-agreement", 0.5)


def test_what_cannot_be_pruned_is_told(photos, refused):
    line = refused("train", photos, "--arch", "cifar_resnet8", "--prune-channels", 0.5)
    assert "--prune-channels 0.5 needs a trained network" in line
    assert "--student-resume RUN" in line
    assert "from 0 to 0.95" in refused("train", photos, "--prune-channels", 1, *SHORT)


def test_a_file_of_a_pruned_network_says_so(half):
    from safetensors import safe_open

    folder, _ = half
    with safe_open(folder / names.STUDENT, "pt") as file:
        assert json.loads(file.metadata()["mgd"])["pruned"] is True
