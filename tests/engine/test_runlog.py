"""Run folders: one owner at a time, small files whole, rows neither lost nor doubled."""

import csv
import fcntl
import os
import subprocess
import sys

import pytest

from mgd.engine.loop.evaluation import Scores
from mgd.engine.loop.runlog import RunFolder, read_summary, write_per_class
from mgd.engine.options.config import RunConfig
from mgd.engine.run import train
from mgd.errors import InputError, RunError

COLUMNS = ["epoch", "loss"]


def make(path, **options):
    return RunFolder(path, RunConfig().replace(tensorboard=0, **options), COLUMNS)


def test_a_folder_in_use_is_refused_and_free_again_after(tmp_path):
    first = make(tmp_path / "run")
    with pytest.raises(InputError, match=r"run' is in use by another run"):
        make(tmp_path / "run", seed=7)
    first.close()
    make(tmp_path / "run").close()


def test_a_refused_run_changes_nothing(fast_run, tmp_path):
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="in use"):
            train(fast_run.replace(experiment="mine"))
    assert os.listdir(folder) == [".lock"]


def test_a_folder_held_by_another_process_is_refused(tmp_path):
    code = """
import fcntl, sys
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
    (tmp_path / "run").mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run" / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        holder.stdout.readline()
        with pytest.raises(InputError, match="in use"):
            make(tmp_path / "run")
    finally:
        holder.communicate()  # ends its input, and so the process and its lock
    make(tmp_path / "run").close()


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(InputError, match=r"cannot write to '.*runs/run'.*choose another --output"):
        make(tmp_path / "runs" / "run")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    folder = make(tmp_path / "run")
    folder.write("result.json", "old")
    before = sorted(os.listdir(folder.path))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"cannot write '.*result\.json'.*No space left"):
        folder.write("result.json", "new")
    folder.close()
    assert sorted(os.listdir(folder.path)) == before
    assert (folder.path / "result.json").read_text() == "old"


def test_rows_are_added_and_dropped_by_epoch(tmp_path):
    folder = make(tmp_path / "run")
    folder.keep_rows_before(0)
    assert (folder.path / "summary.csv").read_text() == "epoch,loss\n"
    for epoch in range(4):
        folder.add_row({"epoch": epoch, "loss": epoch / 8})
    folder.keep_rows_before(2)
    assert read_summary(folder.path) == [
        {"epoch": "0", "loss": "0.0"},
        {"epoch": "1", "loss": "0.125"},
    ]
    folder.close()


def test_no_summary_is_no_rows(tmp_path):
    assert read_summary(tmp_path) == []


def test_classes_of_any_name_have_their_row(tmp_path):
    scores = Scores(0.1, 50.0, 100.0, 5, 1.0, ((1, 4), (1, 1), (0, 0)))
    names = ['a,"b"', "<script>", "naïve 猫"]
    write_per_class(tmp_path / "per_class.csv", names, {"student": scores, "teacher": scores})
    with (tmp_path / "per_class.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["class", "images", "student_top1", "teacher_top1"],
            ['a,"b"', "4", "25.00", "25.00"],
            ["<script>", "1", "100.00", "100.00"],
            ["naïve 猫", "0", "", ""],
        ]
