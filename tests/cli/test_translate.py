"""Translation: a user of the command line reads flags, a user of the library reads arguments."""

import re
from pathlib import Path
from urllib.error import URLError

import pytest

import mgd
from mgd.cli import main
from mgd.cli.translate import with_flags


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("`batch_size` (=0) is out of range", "--batch-size 0 is out of range"),
        ("raise `batch_size` or lower `ranks`", "raise --batch-size or lower --devices"),
        ("`share` (=0.5) leaves", "--holdout 0.5 leaves"),
        ("use `parallel=ddp`", "use --parallel ddp"),
        ("`pretrained` contradicts", "--pretrained contradicts"),
        ("use `weights=None`", "use --use-pretrained 0"),
        ("`weights=FILE`", "--teacher-resume FILE or --student-resume FILE"),
        ("`kd_temperature` (=0) must", "--kd-temperature 0 must"),
        ("`reducer` (=max) must", "--mgd-reducer max must"),
        # No argument that has a flag: as it was.
        ("`num_classes` (=0) must", "`num_classes` (=0) must"),
        ("folder with `train` and `valid`", "folder with `train` and `valid`"),
        ("a mapping with `teacher` and `student`", "a mapping with `teacher` and `student`"),
        ("as `x += y` do", "as `x += y` do"),
        ("one `name: value` a line", "one `name: value` a line"),
        ("nothing in backticks", "nothing in backticks"),
    ],
)
def test_arguments_become_flags(message, expected):
    assert with_flags(message) == expected


def test_messages_of_the_wings_name_no_flag():
    """Those of `models` and `data` are read by users of the library too."""
    root = Path(mgd.__file__).parent
    files = [*root.glob("models/*.py"), *root.glob("data/*.py")]
    assert len(files) > 8
    for file in files:
        assert not re.search(r"--[a-z]", file.read_text()), file.name


def test_missing_weights_are_told_in_the_words_of_each_user(monkeypatch, tmp_path, capsys):
    def refuse(*args, **kwargs):
        raise URLError("no route")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(mgd.InputError) as caught:
        mgd.create_model("resnet18", weights="pretrained")
    assert "`weights=None`" in str(caught.value)
    assert "--" not in str(caught.value)
    assert main(["train", "digits", "--arch", "resnet18", "--use-pretrained", "1"]) == 2
    said = capsys.readouterr().err
    assert "use --use-pretrained 0 for random weights" in said
    assert "with --teacher-resume FILE or --student-resume FILE" in said
    assert "`" not in said


def test_an_error_of_the_data_names_the_flag(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", "digits", "--size", "8", "--arch", "cifar_resnet8", "-j", "0"]
    assert main([*words, "--train-images", "3"]) == 2
    assert capsys.readouterr().err.startswith("mgd: --train-images 3 must be from 10")
