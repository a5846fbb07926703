"""A loss of one's own at the points, named as package.module:callable."""

import sys
from itertools import pairwise

import pytest
import torch

from mgd.cli import main
from mgd.runfolder import names, read_run

SMALL = ["digits", "--size", "8", "--train-images", "40", "-b", "10", "-j", "0"]
SMALL += [
    "--tensorboard",
    "0",
    "--use-pretrained",
    "0",
    "--arch",
    "cifar_resnet8_x0_25",
    "--teacher",
    "cifar_resnet8",
]
CODE = """
import torch
from torch import nn
import mgd

class Scaled(mgd.MatchedPoint):
    def __init__(self, pair):
        super().__init__(pair, mgd.REDUCERS["amp"])
        self.scale = nn.Parameter(torch.ones(()))

    @property
    def num_channels(self):
        return self.pair.student_shape[0]

    def loss(self, student, teacher):
        return (self.scale * student - self.matcher.select(teacher)).square().sum((1, 2, 3))

def nothing(pair):
    return 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch, few_digits):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mylosses.py").write_text(CODE)
    yield tmp_path
    sys.modules.pop("mylosses", None)


def weights(folder, run):
    return torch.load(folder / "runs" / run / "last.ckpt", weights_only=True)


def test_a_run_with_it_resumes_as_if_it_had_not_stopped(here):
    words = ["distill", *SMALL, "--distiller", "mylosses:Scaled"]
    assert main([*words, "--epochs", "2", "--experiment", "whole"]) == 0
    # The schedule is that of 2 epochs, as long as it is constant.
    assert main([*words, "--epochs", "1", "--experiment", "part"]) == 0
    assert main([*words, "--epochs", "2", "--experiment", "part", "--resume", "auto"]) == 0
    whole, part = weights(here, "whole"), weights(here, "part")
    for name, value in whole["distiller"].items():
        torch.testing.assert_close(part["distiller"][name], value, rtol=0, atol=0)
    assert any("scale" in name and value != 1 for name, value in whole["distiller"].items())
    assert all(
        torch.equal(part["student"][name], value) for name, value in whole["student"].items()
    )
    record = read_run(here / "runs" / "whole").epochs
    assert all("own_1" in str(epoch.row()) for epoch in record)
    steps = [epoch.row()["matching_cost"] for epoch in record]
    assert all(before != after for before, after in pairwise(steps))
    card = (here / "runs" / "whole" / names.CARD).read_text()
    assert "a loss of its authors, `mylosses:Scaled`" in card


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mylosses:nothing", "--distiller made a int of the pair"),
        ("mylosses:missing", "distiller 'mylosses:missing' cannot be imported"),
        ("matching", "--distiller matching is unknown; choose one of none, kd, mgd"),
    ],
)
def test_a_name_that_cannot_be_used_is_told_in_a_line(here, capsys, name, reason):
    assert main(["distill", *SMALL, "--epochs", "1", "--distiller", name]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert "Traceback" not in said


def test_a_file_does_not_make_the_code_run_by_itself(here, capsys):
    (here / "args.yaml").write_text("distiller: mylosses:Scaled\n")
    assert main(["distill", *SMALL, "-c", "args.yaml"]) == 2
    assert "would run code named in a file; give --distiller" in capsys.readouterr().err


def test_what_was_trained_with_it_needs_it_no_more(here):
    words = ["distill", *SMALL, "--epochs", "1", "--distiller", "mylosses:Scaled"]
    assert main([*words, "--experiment", "run"]) == 0
    (here / "mylosses.py").unlink()
    sys.modules.pop("mylosses")
    assert main(["evaluate", "runs/run"]) == 0
    assert main(["export", "runs/run", "-o", "student.safetensors"]) == 0
    assert main(["report", "runs/run"]) == 0
    assert (here / "student.safetensors").exists()
