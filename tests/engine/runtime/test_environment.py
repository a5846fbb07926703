"""Environment: what a run says of its command and its machine, and what it keeps to itself."""

import platform
import subprocess

import pytest
import torch
from lightning_fabric import Fabric

from engine.loop.test_trainer import CutAt, PowerCutError
from mgd.cli import main
from mgd.engine.run import train
from mgd.engine.runtime.environment import describe_start
from mgd.runfolder import read_starts


def described(*command):
    return describe_start(Fabric(accelerator="cpu", devices=1), command, 2, 3)


def test_versions_and_machine_are_those_of_this_process():
    start = described("mgd", "train", "photos")
    assert (start.epoch, start.step, start.command) == (2, 3, ["mgd", "train", "photos"])
    assert start.versions["python"] == platform.python_version()
    assert start.versions["torch"] == torch.__version__
    assert {"mgd", "torchvision", "numpy", "scipy", "lightning-fabric"} < set(start.versions)
    assert (start.devices, start.processes, start.threads) == ([], 1, torch.get_num_threads())
    assert start.processor
    assert start.cores >= 1


def test_a_package_that_is_not_imported_is_left_out(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    monkeypatch.delitem(__import__("sys").modules, "timm")
    assert "timm" not in described().versions


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("tcp://joe:secret@host:1", "tcp://***@host:1"),
        ("--dist-url=tcp://token@host", "--dist-url=tcp://***@host"),
        ("tcp://host:1", "tcp://host:1"),
        ("photos@home", "photos@home"),
        ("http://host/a@b", "http://host/a@b"),
    ],
)
def test_credentials_of_an_address_are_left_out(word, kept):
    assert described(word).command == [kept]


def test_nothing_of_the_users_environment_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("MY_TOKEN", "hush-hush")
    assert "hush-hush" not in repr(described())
    assert platform.node() not in repr(described()).replace("localhost", "")


def test_the_commit_is_that_of_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert described().commit is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert described().commit == head.stdout.strip()


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert described().commit is None


@pytest.mark.usefixtures("few_digits")
def test_a_resumed_run_has_a_start_for_each_life(fast_run):
    config = fast_run.replace(experiment="run", checkpoint_every=1, print_freq=1)
    with pytest.raises(PowerCutError):
        train(config, CutAt(1, 2), ["mgd", "train", "first"])
    folder = train(config.replace(resume="auto"), command=["mgd", "train", "again"]).folder
    first, again = read_starts(folder)
    assert (first.epoch, first.step, first.command[-1]) == (0, 0, "first")
    assert (again.epoch, again.step, again.command[-1]) == (1, 1, "again")
    assert first.time <= again.time


@pytest.mark.usefixtures("few_digits")
def test_a_command_is_kept_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", "digits", "--size", "8", "--arch", "cifar_resnet8_x0_25", "-b", "10"]
    words += ["--train-images", "30", "--epochs", "1", "--workers", "0", "--experiment", "my run"]
    assert main(words) == 0
    (start,) = read_starts(tmp_path / "runs" / "my run")
    assert start.command == ["mgd", *words]


@pytest.mark.usefixtures("few_digits")
def test_a_run_that_could_not_go_on_has_no_start_more(fast_run):
    folder = train(fast_run.replace(experiment="run", epochs=1)).folder
    with pytest.raises(Exception, match="was made with --arch"):
        train(fast_run.replace(experiment="run", resume="auto", arch="cifar_resnet8"))
    assert len(read_starts(folder)) == 1
