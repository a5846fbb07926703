"""`mgd export`: where it writes, in which format, and what it never replaces unasked."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mgd
from mgd.engine.loop.checkpoint import load_checkpoint, save_checkpoint

TRACES = pytest.mark.needs(
    "the compiler of 2.6 cannot trace the shape checks of the tests", torch="2.7"
)


@pytest.fixture
def alone(here, trained):
    """A file of weights in a folder of somebody else's files."""
    (here / "mine").mkdir()
    shutil.copy(trained / "student.safetensors", "mine/net.safetensors")
    return Path("mine/net.safetensors")


def same(one, other):
    first, second = load_file(one), load_file(other)
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_last_checkpoint_leaves_the_best_student_alone(run, trained, told):
    state = load_checkpoint(run / "last.ckpt")
    # Which epoch is the best depends on the processor's arithmetic; the last must be another one.
    last = {name: tensor + 1 for name, tensor in state["student"].items()}
    save_checkpoint({**state, "student": last}, run / "last.ckpt")
    lines = told("export", run / "last.ckpt", "--format", "safetensors")
    assert lines[-1] == "runs/first/last.safetensors"
    assert (run / "student.safetensors").read_bytes() == (
        trained / "student.safetensors"
    ).read_bytes()
    assert not same(run / "last.safetensors", run / "student.safetensors")
    exported = load_file(run / "last.safetensors")
    assert all(torch.equal(exported[name], last[name]) for name in exported)
    _, metadata = mgd.load_network(run / "last.safetensors")
    assert metadata.classes == ("one", "three", "two", "zero")


def test_in_the_run_folder_an_export_may_be_repeated(run, told):
    for _ in range(2):
        files = told("export", run, "--format", "pth")[-2:]
        assert files == ["runs/first/student.pth", "runs/first/student.json"]


def test_the_run_folder_holds_its_student_as_safetensors_already(run, refused):
    line = refused("export", run, "--format", "safetensors")
    assert "'runs/first/student.safetensors' is the file to export itself" in line
    assert "give another --output" in line
    assert "is the file to export itself" in refused(
        "export", run, "-o", "runs/../runs/first/student.safetensors"
    )


def test_elsewhere_a_file_of_the_default_name_is_not_replaced(alone, told, refused):
    Path("mine/net.pth").write_bytes(b"mine")
    line = refused("export", alone, "--format", "pth")
    assert "'mine/net.pth' is there already; give --output mine/net.pth to replace it" in line
    assert Path("mine/net.pth").read_bytes() == b"mine"
    files = told("export", alone, "-o", "mine/net.pth")[-2:]
    assert files == ["mine/net.pth", "mine/net.json"]
    assert mgd.load_network("mine/net.pth")[1].arch == "cifar_resnet8_x0_5"


def test_a_json_file_of_another_project_is_not_replaced(alone, told, refused):
    Path("mine/net.json").write_text('{"mine": 1}')
    for words in ([], ["-o", "mine/net.pth"]):
        line = refused("export", alone, "--format", "pth", *words)
        assert "'mine/net.json', where the classes and the view belong, is another file" in line
    assert json.loads(Path("mine/net.json").read_text()) == {"mine": 1}
    told("export", alone, "-o", "mine/other.pth")
    told("export", alone, "-o", "mine/other.pth")  # its own metadata may be


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_the_format_is_that_of_the_name(alone, told, kind):
    told("export", alone, "-o", f"mine/copy.{kind}")
    network, metadata = mgd.load_network(f"mine/copy.{kind}")
    assert metadata.view.size == 16
    assert not network.training


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            "--format pth -o x.safetensors",
            "readers know a pth file by its name; let it end in .pth",
        ),
        ("--format safetensors -o x.pth", "let it end in .safetensors, or choose another --format"),
        ("--format pth -o x.json", "let it end in .pth"),
        ("-o x", "readers know a pt2 file by its name; let it end in .pt2"),
        ("-o nowhere/x.pth", "the folder 'nowhere' does not exist; make it"),
        ("-o mine.pth", "--output mine.pth is a folder; name a file"),
        ("--format tar", "invalid choice: 'tar'"),
        ("--arch resnet18", "does not fit ResNet"),
        ("--arch mynets:tiny", "network 'mynets:tiny' cannot be imported"),
    ],
)
def test_where_it_cannot_be_written_is_one_line(alone, here, refused, words, reason):
    (here / "mine.pth").mkdir()
    assert reason in refused("export", alone, *words.split())


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("nowhere", "weights 'nowhere' do not exist"),
        ("mine", "'mine' is a folder, and no run folder with a finished epoch"),
        ("note.txt", "'note.txt' is damaged or no file of weights"),
        ("net.pt2", "'net.pt2' is exported already; give its run folder or weights"),
    ],
)
def test_what_cannot_be_exported_is_one_line(alone, refused, source, reason):
    Path("note.txt").write_text("hello\n")
    assert reason in refused("export", source)


def test_without_onnx_it_says_what_to_install(alone, refused, monkeypatch):
    def export(*arguments, **options):
        raise ImportError("No module named 'onnxscript'")

    monkeypatch.setattr(torch.onnx, "export", export)  # torch may have imported it already
    line = refused("export", alone, "--format", "onnx")
    assert "ONNX files need more packages (No module named 'onnxscript')" in line
    assert "pip install 'matching-guided-distillation[onnx]', or use the format pt2" in line


CODE = """
from mgd.models import create_model
from torch import nn

class Named(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.inner = create_model("cifar_resnet8_x0_25", num_classes)

    def forward(self, images):
        return {"features": images, "logits": self.inner(images)}
"""


@TRACES
def test_own_code_that_returns_a_dictionary_is_exported_with_its_scores_alone(
    here, photos, told, refused, monkeypatch
):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (here / "named.py").write_text(CODE)
    words = ["--size", 16, "--epochs", 1, "-b", 40, "-j", 0, "--tensorboard", 0]
    told("train", photos, "--arch", "named:Named", *words, "--experiment", "own")
    line = refused("export", "runs/own")
    assert "is of 'named:Named', which is code; name it with --arch to run it" in line
    told("export", "runs/own", "--arch", "named:Named")
    told("export", "runs/own", "--arch", "named:Named", "--format", "onnx")
    images = torch.randn(3, 3, 16, 16)
    network, _ = mgd.load_network("runs/own/student.safetensors", arch="named:Named")
    for kind in ("pt2", "onnx"):
        exported, metadata = mgd.load_network(f"runs/own/student.{kind}")
        torch.testing.assert_close(exported(images), network(images)["logits"], atol=1e-5, rtol=0)
        assert metadata.arch == "named:Named"
        # The file holds the network: the code is not needed any more.
        assert told("evaluate", f"runs/own/student.{kind}")
    sys.modules.pop("named", None)
