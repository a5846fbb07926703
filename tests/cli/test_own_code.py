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
