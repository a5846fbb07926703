"""`mgd evaluate`: whatever is given is measured as it was trained, or is told what it is."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mgd.runfolder import read_evaluation

TRACES = pytest.mark.needs(
    "the compiler of 2.6 cannot trace the shape checks of the tests", torch="2.7"
)


def score(lines):
    """Returns the student's score without its pace."""
    (line,) = (line for line in lines if line.startswith("student: "))
    return re.fullmatch(r"(student: Acc@1 .* loss \S+ on 40 images), \d+ images/s", line)[1]


def test_a_run_is_measured_on_its_own_images_as_it_was_trained(run, photos, told):
    lines = told("evaluate", run)
    text = " ".join(" ".join(lines).split())
    assert "photos: 40 images 4 classes: one, three, two, zero" in text
    assert "student cifar_resnet8_x0_5, runs/first/student.safetensors sees 16 px, squash" in text
    assert "(kept with its weights)" in text
    assert lines[-1] == "kept, with the confusions of each class, in runs/evaluate-first"
    (found,) = read_evaluation("runs/evaluate-first").networks
    assert found.top1 > 40
    assert score(lines).startswith(f"student: Acc@1 {found.top1:.1f} ")


@pytest.mark.parametrize("name", ["student.safetensors", "best.ckpt", "last.ckpt"])
def test_a_file_of_a_run_finds_the_images_too(run, told, name):
    assert score(told("evaluate", run / name))
    (found,) = read_evaluation("runs/evaluate-first").networks
    assert found.weights == str(run / name)


def test_the_best_checkpoint_and_the_student_are_the_same_network(run, photos, told):
    expected = score(told("evaluate", run))
    assert score(told("evaluate", run / "best.ckpt")) == expected
    assert score(told("evaluate", photos, "--model", run)) == expected
    shutil.copy(run / "student.safetensors", "elsewhere.safetensors")
    assert score(told("evaluate", photos, "--model", "elsewhere.safetensors")) == expected


@TRACES
@pytest.mark.parametrize("kind", ["safetensors", "pth", "pt2", "onnx"])
def test_every_export_is_measured_as_the_run(run, exported, photos, told, kind):
    measured = score(told("evaluate", photos, "--model", exported / f"net.{kind}"))
    expected = score(told("evaluate", run))
    assert measured.partition(" loss")[0] == expected.partition(" loss")[0]


@TRACES
@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_an_export_in_the_run_folder_finds_the_images(run, exported, told, kind):
    shutil.copy(exported / f"net.{kind}", run / f"student.{kind}")
    assert score(told("evaluate", run / f"student.{kind}"))


def test_flags_win_over_the_file_and_the_lines_say_so(run, told):
    expected = score(told("evaluate", run))
    lines = told("evaluate", run, "--size", 24, "--mean", 0.5, 0.5, 0.5)
    text = " ".join(" ".join(lines).split())
    assert "sees 24 px, squash 100 %, bilinear, mean 0.5 0.5 0.5" in text
    assert "(kept with its weights, but for size, mean)" in text
    assert score(lines) != expected


def test_evaluations_are_never_overwritten(run, told):
    for number in ("", "-2", "-3"):
        assert told("evaluate", run)[-1].endswith(f"in runs/evaluate-first{number}")


@pytest.fixture
def things(here, run, photos):
    """What a hurried user may give in place of a network or of images."""
    (here / "empty").mkdir()
    (here / "note.txt").write_text("hello\n")
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), "script.pt")
    torch.save(nn.Linear(2, 2), "whole.pth")
    for kind in ("pt2", "onnx", "safetensors", "pth"):
        Path(f"text.{kind}").write_text("hello\n")
    shutil.copy(run / "student.safetensors", "alone.safetensors")
    shutil.copytree(photos, here / "photos")
    return here


TOGETHER = "give a run folder (mgd evaluate RUN), or images and a network"


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("nowhere", f"'nowhere' does not exist; {TOGETHER}"),
        ("empty", f"'empty' is no run folder, and has no images; {TOGETHER}"),
        ("runs", f"'runs' is no run folder, and has no images; {TOGETHER}"),
        ("photos", "nothing to evaluate: give --student-resume FILE"),
        ("note.txt", "'note.txt' is a file, and no folder of images; to measure a network give"),
        ("alone.safetensors", "give both: mgd evaluate DATA --model alone.safetensors"),
        ("photos --model photos", "'photos' is a folder, and no run folder with a finished epoch"),
        ("photos --model empty", "'empty' is a folder, and no run folder with a finished epoch"),
        ("photos --model nowhere.pt2", "'nowhere.pt2' does not exist"),
        ("photos --model note.txt", "'note.txt' is damaged or no file of weights"),
        ("photos --model text.pth", "give a .pth, .ckpt or .safetensors file, or a run folder"),
        ("photos --model text.pt2", "'text.pt2' is damaged or no .pt2 file"),
        ("photos --model text.onnx", "'text.onnx' is damaged or no .onnx file"),
        ("photos --model text.safetensors", "not a complete safetensors file"),
        ("photos --model script.pt", "is damaged or no checkpoint (RuntimeError: Cannot use"),
        ("photos --model whole.pth", "not loaded for safety; save a state dict instead"),
        ("photos/valid --model runs/first", "has no folder `train`; needed are `train` and"),
        ("runs/first --model runs/first", "'runs/first' is a run folder, and no folder of images"),
    ],
)
def test_what_cannot_be_measured_is_told_what_it_is(things, refused, caplog, words, reason):
    assert reason in refused("evaluate", *words.split())
    assert not caplog.records  # torch logs a traceback of a .pt2 that it cannot read


def test_an_evaluation_is_no_run(run, told, refused):
    told("evaluate", run)
    assert "holds what an evaluation found" in refused("evaluate", "runs/evaluate-first")


def test_without_onnxruntime_it_says_what_to_install(run, photos, refused, monkeypatch):
    Path("net.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    line = refused("evaluate", photos, "--model", "net.onnx")
    assert "pip install 'matching-guided-distillation[onnx]'" in line


class Pooled(nn.Sequential):
    """A network of another project."""

    def __init__(self):
        super().__init__(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 4))


def write_pt2(network, images):
    torch.export.save(torch.export.export(network, (images,), dynamic_shapes=DYNAMIC), "net.pt2")


def write_onnx(network, images):
    torch.onnx.export(
        network, (images,), "net.onnx", dynamo=True, dynamic_shapes=DYNAMIC, verbose=False
    )


DYNAMIC = ({0: torch.export.Dim("batch", max=1024)},)


@pytest.mark.parametrize(("kind", "write"), [("pt2", write_pt2), ("onnx", write_onnx)])
def test_another_projects_export_needs_its_size(here, photos, told, refused, kind, write):
    write(Pooled().eval(), torch.zeros(2, 3, 20, 20))
    line = refused("evaluate", photos, "--model", f"net.{kind}")
    assert f"'net.{kind}' cannot run on images of (3, 224, 224) (" in line
    assert "give the --size that it was exported for" in line
    lines = told("evaluate", photos, "--model", f"net.{kind}", "--size", 20)
    assert score(lines)
    assert "(ImageNet's, since nothing else is known, but for size)" in " ".join(
        " ".join(lines).split()
    )


@TRACES
@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_an_exported_network_is_no_start_and_no_teacher(here, photos, exported, refused, kind):
    file = exported / f"net.{kind}"
    words = [photos, "--arch", "cifar_resnet8", "-j", 0]
    for line in (
        refused("train", *words, "--student-resume", file),
        refused("distill", *words, "--teacher-resume", file),
    ):
        assert "it can be run, but neither trained nor looked inside; give the run folder" in line
