"""Networks of one's own in the current folder, named as package.module:callable."""

import os
import sys

import pytest

from mgd.cli import main
from mgd.errors import InputError
from mgd.models import create_model

SMALL = ["--size", "8", "--train-images", "20", "-b", "10", "-j", "0", "--epochs", "1"]
SMALL += ["--tensorboard", "0", "--use-pretrained", "0"]
CODE = """
from mgd.models import create_model

def tiny(num_classes):
    return create_model("cifar_resnet8_x0_25", num_classes)
"""

pytestmark = pytest.mark.usefixtures("few_digits")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with code, as a console script sees it: not on the path."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynets.py").write_text(CODE)
    yield tmp_path
    sys.modules.pop("mynets", None)


def test_code_in_the_current_folder_is_found():
    assert main(["train", "digits", *SMALL, "--arch", "mynets:tiny", "--experiment", "run"]) == 0


def test_every_rank_finds_it(here, free_port, forked_ranks):
    words = ["train", "digits", *SMALL, "--arch", "mynets:tiny", "--experiment", "run"]
    words += ["--devices", "2", "--dist-url", f"tcp://localhost:{free_port}"]
    assert main(words) == 0
    assert (here / "runs" / "run" / "result.json").exists()


def test_what_is_installed_goes_before_the_current_folder(here):
    (here / "colorsys.py").write_text(CODE)
    with pytest.raises(InputError, match="'colorsys:tiny' cannot be imported"):
        create_model("colorsys:tiny", 10)


def test_without_own_code_the_current_folder_is_not_on_the_path():
    create_model("cifar_resnet8", 10)
    assert os.getcwd() not in sys.path


def test_a_files_code_runs_if_the_command_line_names_it_too(here, capsys):
    words = ["train", "digits", *SMALL, "--arch", "mynets:tiny", "--experiment", "run"]
    assert main(words) == 0
    again = ["train", "-c", "runs/run/args.yaml", "--experiment", "again"]
    capsys.readouterr()
    assert main(again) == 2
    assert "arch 'mynets:tiny' would run code named in a file; give --arch on the command line" in (
        capsys.readouterr().err
    )
    assert main([*again, "--arch", "mynets:tiny"]) == 0


FAULTS = """
import torch
from torch import nn
from mgd.models import create_model

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.inner = create_model("cifar_resnet8_x0_25", num_classes)

    def forward(self, images):
        return self.inner(images)

class Odd(Net):
    def forward(self, images):
        return {"features": images, "heads": [self.inner(images)]}

class Text(Net):
    def forward(self, images):
        return "text"

class Failing(Net):
    def forward(self, images):
        raise RuntimeError("my bug\\nand more")

class Maps(Net):
    def forward(self, images):
        return self.inner.conv1(images)

def one_more(num_classes):
    return Net(num_classes + 1)

def without():
    return Net(10)

def with_more(num_classes, width):
    return Net(num_classes)

def raising(num_classes):
    raise ValueError("my\\nproblem")

def deep(num_classes):
    return nn.Linear(num_classes, "many")

def nothing(num_classes):
    pass

def dictionary(num_classes):
    return {"net": Net(num_classes)}

number = 3
"""


@pytest.fixture
def fault(here, capsys):
    """Runs a command that must fail cleanly, and returns its one line."""
    (here / "badnets.py").write_text(FAULTS)
    (here / "unreadable.py").write_text("def build(:\n")
    (here / "dividing.py").write_text("1 / 0\n")

    def call(*words):
        capsys.readouterr()
        assert main(list(words)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert not (here / "runs").exists()
        return line

    yield call
    for name in ("badnets", "unreadable", "dividing"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("badnets:Odd", "returned a dict with features, heads, in which no class scores are known"),
        ("badnets:Text", "returned a str, in which no class scores are known"),
        ("badnets:Failing", "badnets:Failing cannot run on images of 8 x 8 px (my bug"),
        ("badnets:Maps", "badnets:Maps: outputs (4, 8, 8), but the data has 10 classes"),
        ("badnets:one_more", "badnets:one_more: outputs (11,), but the data has 10 classes"),
        ("badnets:without", "cannot be called with num_classes=10 (got an unexpected keyword"),
        ("badnets:with_more", "missing a required argument: 'width'"),
        ("badnets:raising", "(ValueError: my problem, badnets.py line 40); repair it"),
        ("badnets:deep", ", badnets.py line 43); repair it"),  # the user's line, not torch's
        ("badnets:nothing", "returned a NoneType; needed is a torch.nn.Module"),
        ("badnets:dictionary", "returned a dict; needed is a torch.nn.Module"),
        ("badnets:number", "3 is not a callable object"),
        ("badnets:nowhere", "module 'badnets' has no attribute 'nowhere'"),
        ("badnets:", "cannot be imported"),
        (":build", "cannot be imported (ValueError: Empty module name)"),
        ("nowhere:build", "No module named 'nowhere'"),
        ("badnets.below:build", "'badnets' is not a package"),
        ("unreadable:build", "cannot be imported (invalid syntax (unreadable.py, line 1))"),
        ("dividing:build", "(ZeroDivisionError: division by zero, dividing.py line 1)"),
    ],
)
@pytest.mark.parametrize("command", ["train", "distill"])
def test_what_own_code_does_wrong_is_one_line(fault, command, name, reason):
    teacher = ["--teacher", "cifar_resnet8_x0_25"] if command == "distill" else []
    assert reason in fault(command, "digits", *SMALL, *teacher, "--arch", name)


@pytest.mark.parametrize(
    "words", [["--pretrained"], ["--use-pretrained", "1"]], ids=["pretrained", "use-pretrained"]
)
def test_own_code_has_no_published_weights(fault, words):
    small = SMALL[: SMALL.index("--use-pretrained")]
    line = fault("train", "digits", *small, "--arch", "badnets:Net", *words)
    assert "there are no published weights for 'badnets:Net', which is your code" in line


SILENT = SMALL[: SMALL.index("--use-pretrained")]
DISTIL = ["distill", "digits", *SILENT, "--arch", "cifar_resnet8_x0_25", "--experiment", "run"]


def test_a_teacher_of_own_code_brings_its_weights(here, capsys, caplog):
    assert main([*DISTIL, "--teacher", "mynets:tiny"]) == 0
    assert "teacher  mynets:tiny, weights of its own code" in capsys.readouterr().out
    assert "random weights; give" not in caplog.text
    assert main([*DISTIL[:-1], "other", "--teacher", "mynets:tiny", "--use-pretrained", "0"]) == 0
    assert "teacher  mynets:tiny, weights of its own code" in capsys.readouterr().out
    assert "random weights; give" not in caplog.text


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Odd", "it returns a dict without scores"),
        ("Maps", "its outputs are (4, 8, 8), and no scores of the 10 classes"),
        ("one_more", "its outputs are (11,), and no scores of the 10 classes"),
    ],
)
def test_a_teacher_of_own_code_without_scores_teaches_by_its_features(fault, capsys, name, reason):
    teacher = ["--teacher", f"badnets:{name}"]
    assert f"cannot answer: {reason}" in fault(*DISTIL, *teacher, "--distiller", "kd")
    assert f"cannot answer: {reason}" in fault(*DISTIL, *teacher, "--mgd-with-kd", "1")
    assert main([*DISTIL, *teacher]) == 0
    said = capsys.readouterr().out
    assert f"only its features teach: {reason}" in " ".join(said.split())
    assert "teacher: Acc@1" not in said


def test_a_teacher_of_own_code_that_fails_is_one_line(fault):
    line = fault(*DISTIL, "--teacher", "badnets:Failing")
    assert "cannot run on images of 8 x 8 px (my bug)" in line
    assert "give it another --teacher-size" in line


def test_points_of_own_code_that_fails_are_one_line(fault):
    words = ["points", "--teacher", "cifar_resnet8", "--student", "badnets:Failing"]
    assert "my bug and more" in fault(*words, "--size", "16")


def test_a_gpu_that_is_not_there_is_an_error(fault, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    line = fault("train", "digits", *SMALL, "--arch", "cifar_resnet8", "--gpu", "0")
    assert "--gpu 0 is not there: PyTorch sees no CUDA GPU" in line
