"""The help: one screen of common options, all of them on request, none without use."""

import platform
import re
from pathlib import Path

import pytest
import torch

import mgd
from mgd.cli import main
from mgd.engine.options.checks import TEACHER_OPTIONS
from mgd.engine.options.config import OPTIONS
from mgd.engine.options.option import COMMANDS
from shell import parsed


@pytest.fixture
def help_of(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def show(*words):
        with pytest.raises(SystemExit) as caught:
            main(list(words))
        assert caught.value.code == 0
        return capsys.readouterr().out

    return show


def flags_in(text):
    """Returns the flags that have an entry of their own, whatever other texts mention."""
    entries = re.findall(r"^  ((?:-\w, )?--.*)$", text, re.MULTILINE)
    return {flag for entry in entries for flag in re.findall(r"--[\w-]+", entry.split("  ")[0])}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_common_options_are_one_screen(help_of, command):
    lines = help_of(command, "--help").splitlines()
    assert len(lines) <= 52
    assert max(map(len, lines)) <= 80
    place = "DATA|RUN|FILE" if command == "evaluate" else "DATA"
    assert lines[0] == f"usage: mgd {command} {place} [options]"
    assert lines[-1] == f"mgd {command} --help-all lists every option."
    assert f"  mgd {command} " in "\n".join(lines[lines.index("example:") :])


def test_the_page_lists_every_option():
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    parts = re.split(r"^## mgd ", page, flags=re.MULTILINE)[1:]
    pages = {part.split("\n", 1)[0]: part for part in parts}
    for command in COMMANDS:
        text = pages[command]
        listed = {item.flag for item in OPTIONS.values() if command in item.commands} - {"--data"}
        assert listed <= flags_in(text), "run `make docs`"
    assert "\n## mgd predict\n" in page


@pytest.mark.parametrize("command", COMMANDS)
def test_all_options_of_a_command_are_listed_on_request(help_of, command):
    text = help_of(command, "--help-all")
    assert max(map(len, text.splitlines())) <= 80
    of_command = {item.flag for item in OPTIONS.values() if command in item.commands} - {"--data"}
    found = flags_in(text)
    assert of_command <= found
    others = {item.flag for item in OPTIONS.values() if command not in item.commands}
    assert not others & found
    assert flags_in(help_of(command, "--help")) < found


@pytest.mark.parametrize("page", ["--help", "--help-all"])
def test_training_without_a_teacher_does_not_speak_of_one(help_of, page):
    text = help_of("train", page)
    for word in ("teacher", "distil", "matching", "logit", "mgd-", "fold-", "KD"):
        assert word not in text


@pytest.mark.parametrize("page", ["--help", "--help-all"])
def test_evaluation_shows_no_option_of_training(help_of, page):
    found = flags_in(help_of("evaluate", page))
    assert not found & {"--epochs", "--lr", "--resume", "--distiller", "--train-images", "--kd"}
    assert {"--teacher", "--student-resume", "--batch-size"} <= found


def examples_in(text):
    """Yields the words of each command line below "example:"."""
    block = text.partition("example:\n")[2].partition("\n\n")[0].replace("\\\n", " ")
    yield from (line.split() for line in block.splitlines())


def test_the_examples_of_each_command_are_command_lines(help_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    (run / "args.yaml").write_text("data: photos")
    for command in COMMANDS:
        examples = list(examples_in(help_of(command, "--help")))
        assert examples
        for program, name, *words in examples:
            assert (program, name) == ("mgd", command)
            assert parsed([command, *words]).data.data == "photos"


def test_an_evaluation_says_what_may_stand_in_the_place_of_data(help_of):
    text = " ".join(help_of("evaluate", "--help").split())
    assert "or a run, or a file in it, measured on the images of the run" in text
    assert "a .pt2 can run code" in text
    assert "network to train" not in text


def test_the_help_of_predict_is_one_screen_with_an_example(help_of):
    text = help_of("predict", "--help")
    lines = text.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert lines[0] == "usage: mgd predict IMAGES... --model RUN|FILE [options]"
    ((program, name, *words),) = examples_in(text)
    assert (program, name) == ("mgd", "predict")
    flags = flags_in(text) | {"-o"}
    assert {word for word in words if word.startswith("-")} <= flags
    assert {"--top-k", "--format", "--batch-size", "--workers", "--bit-depth", "--arch"} <= flags
    assert "loading a .pt2 can run code in it" in " ".join(text.split())


def test_the_help_of_compare_is_one_screen_with_examples(help_of):
    text = help_of("compare", "--help")
    lines = text.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert lines[0] == "usage: mgd compare RUN|FILE|NAME... [options]"
    assert "  mgd compare resnet50 mobilenet_v2" in text
    assert "loading a .pt2 can run code in it" in " ".join(text.split())


def test_every_option_is_listed_for_some_command():
    assert all(item.commands for item in OPTIONS.values())
    assert {"teacher", "points", "kd_weight", "fold_teacher"} <= TEACHER_OPTIONS
    assert not {"arch", "epochs", "sync_bn"} & TEACHER_OPTIONS


@pytest.mark.parametrize("item", OPTIONS.values(), ids=lambda item: item.name)
def test_the_text_of_an_option_has_its_subject_first(item):
    for text in filter(None, (item.text, item.train_text, item.brief)):
        assert not re.match(r"(of|in|at|to|so|where) ", text)
        assert not text.endswith(".")
    assert "worth" not in item.text


def test_the_versions_are_printed(capsys):
    assert main(["--version"]) == 0
    python = platform.python_version()
    assert capsys.readouterr().out == (
        f"mgd {mgd.__version__} (torch {torch.__version__}, Python {python})\n"
    )
