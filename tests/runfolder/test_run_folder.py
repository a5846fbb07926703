"""Run folders: one writer at a time, and all that it writes is read back."""

import json
import multiprocessing
import os
import subprocess
import sys

import pytest
import yaml
from filelock import FileLock

from mgd.errors import InputError, RunError
from mgd.runfolder import RunFolder, lock_folder, read_changes, read_epochs, read_run
from recorded import ALL_COLUMNS, COLUMNS, OPTIONS, a_matching, a_point, a_result, an_epoch

HOLD = """
import sys
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def make(path, columns=COLUMNS, **options):
    return RunFolder(path, {**OPTIONS, **options}, columns)


def test_what_is_written_is_read(tmp_path):
    folder = make(tmp_path / "mine-seed3", ALL_COLUMNS, lr=0.1)
    folder.keep_epochs_before(0)
    epochs = [an_epoch(0, teacher_top1=90.0, matching_cost=0.5), an_epoch(1, skipped_steps=2)]
    for record in epochs:
        folder.add_epoch(record)
    folder.write_matching(a_matching())
    folder.write_result(a_result())
    folder.close()
    run = read_run(tmp_path / "mine-seed3")
    assert run.options == {**OPTIONS, "lr": 0.1}
    assert (run.epochs, run.matching, run.result) == (epochs, a_matching(), a_result())
    assert (run.name, run.group, run.accuracy) == ("mine-seed3", "mine", 70.0)
    assert sorted(os.listdir(run.folder)) == [
        ".lock", "args.yaml", "matching.csv", "matching.json", "result.json", "summary.csv",
    ]  # fmt: skip


def test_the_files_are_plain_yaml_csv_and_json(tmp_path):
    folder = make(tmp_path)
    folder.add_epoch(an_epoch())
    folder.write_matching(a_matching())
    folder.write_result(a_result())
    folder.close()
    assert yaml.safe_load((tmp_path / "args.yaml").read_text()) == OPTIONS
    assert (tmp_path / "summary.csv").read_text() == (
        f"{','.join(COLUMNS)}\n0,0.1,{1 / 3!r},0.25,10.0,2.5,50.0,90.0,1000.5,0.1,1.5\n"
    )
    (point,) = json.loads((tmp_path / "matching.json").read_text())["points"]
    assert list(point) == [
        "teacher", "student", "teacher_channels", "first_cost", "point", "cost_before",
        "cost_after", "churn", "dead_channels", "images", "seconds", "matching",
    ]  # fmt: skip
    assert list(json.loads((tmp_path / "result.json").read_text())) == [
        "best_epoch", "valid_top1", "valid_top5", "valid_map", "valid_map_50", "test_map",
        "test_map_50", "teacher_map", "teacher_map_50", "test_top1", "test_top5", "teacher_top1",
        "teacher_top5", "valid_is_agreement", "trained_parameters", "student_parameters",
        "teacher_parameters", "stopped_after", "seconds",
    ]  # fmt: skip


def test_a_resumed_run_drops_the_epochs_that_it_runs_again(tmp_path):
    folder = make(tmp_path)
    folder.keep_epochs_before(0)
    assert (tmp_path / "summary.csv").read_text() == f"{','.join(COLUMNS)}\n"
    for epoch in range(4):
        folder.add_epoch(an_epoch(epoch))
    folder.keep_epochs_before(2)
    folder.close()
    assert read_epochs(tmp_path) == [an_epoch(0), an_epoch(1)]


def test_earlier_options_are_kept_in_the_order_of_their_places(tmp_path):
    folder = make(tmp_path, lr=4)
    places = [(2, 0), (2, 10), (10, 0)]
    for lr, place in enumerate(places, start=1):
        path = folder.go_on(*place, {**OPTIONS, "lr": lr, "old": 1})
        assert path.name == f"args-until-epoch-{place[0]}-step-{place[1]}.yaml"
        assert yaml.safe_load(path.read_text()) == {**OPTIONS, "lr": lr, "old": 1}
    changes = read_changes(tmp_path)
    assert [(change.epoch, change.step) for change in changes] == places
    assert [change.changed for change in changes] == [{"lr": (n, n + 1)} for n in (1, 2, 3)]
    assert read_run_with_an_epoch(folder).changes == changes
    folder.close()


def read_run_with_an_epoch(folder):
    folder.add_epoch(an_epoch())
    return read_run(folder.path)


def test_earlier_options_of_epochs_that_are_trained_again_are_dropped(tmp_path):
    folder = make(tmp_path)
    for place in [(2, 0), (2, 10), (10, 0)]:
        folder.go_on(*place, {**OPTIONS, "size": place[0]})
    assert folder.go_on(2, 5, None) is None
    assert [(change.epoch, change.step) for change in read_changes(tmp_path)] == [(2, 0)]
    folder.go_on(0, 0, None)
    folder.close()
    assert os.listdir(tmp_path).count("args.yaml") == len(list(tmp_path.glob("args*")))


def test_a_resumed_run_may_have_another_column(tmp_path):
    folder = make(tmp_path)
    folder.add_epoch(an_epoch(0))
    folder.close()
    folder = make(tmp_path, ALL_COLUMNS)
    folder.keep_epochs_before(1)
    folder.add_epoch(an_epoch(1, skipped_steps=2))
    folder.close()
    assert [record.skipped_steps for record in read_epochs(tmp_path)] == [None, 2]


def test_a_point_keeps_its_cost_before_the_first_update(tmp_path):
    folder = make(tmp_path)
    folder.keep_epochs_before(0)
    costs = []
    for epoch, cost in ((0, 1.5), (2, 0.75), (4, 0.5), (0, 1.25)):  # the last: a run begun anew
        folder.write_matching(a_matching(epoch, first_cost=cost, cost_before=cost))
        (point,) = read_run(tmp_path).points
        costs.append((point.first_cost, point.cost_before))
    folder.close()
    assert costs == [(1.5, 1.5), (1.5, 0.75), (1.5, 0.5), (1.25, 1.25)]


def test_a_point_that_is_new_has_its_own_first_cost(tmp_path):
    folder = make(tmp_path)
    folder.keep_epochs_before(0)
    folder.write_matching(a_matching(0))
    both = a_matching(1)
    both.points.append(a_point(teacher="other", first_cost=3.0))
    folder.write_matching(both)
    assert [point.first_cost for point in read_run(tmp_path).points] == [1.5, 3.0]
    folder.close()


def test_a_folder_in_use_is_refused_and_free_again_after(tmp_path):
    first = make(tmp_path / "run")
    with pytest.raises(InputError, match=r"run' is in use by another run; wait, or name another"):
        make(tmp_path / "run", seed=7)
    assert "seed" not in yaml.safe_load((tmp_path / "run" / "args.yaml").read_text())
    first.close()
    make(tmp_path / "run").close()


def test_a_folder_held_by_another_process_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run" / ".lock")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="in use"):
            make(tmp_path / "run")
        assert os.listdir(tmp_path / "run") == [".lock"]
    finally:
        holder.communicate()  # ends its input, and so the process and its lock
    make(tmp_path / "run").close()


def test_a_forked_child_does_not_hold_the_folder(tmp_path):
    """As a data-loader worker that outlives its run."""
    folder = make(tmp_path / "run")
    context = multiprocessing.get_context("fork")
    child_may_end = context.Event()
    child = context.Process(target=child_may_end.wait)
    child.start()
    try:
        with pytest.raises(InputError, match="in use"):  # the fork has released nothing
            make(tmp_path / "run")
        folder.close()
        make(tmp_path / "run").close()
        assert child.is_alive()
    finally:
        child_may_end.set()
        child.join()


def test_a_lock_file_of_an_earlier_run_is_no_lock(tmp_path):
    (tmp_path / ".lock").write_text("left")
    lock_folder(tmp_path).release()


def test_a_start_that_fails_releases_the_folder(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"cannot write '.*args\.yaml'.*No space left"):
            make(tmp_path)
    with FileLock(tmp_path / ".lock", timeout=0):
        pass


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    folder = make(tmp_path)
    folder.write_result(a_result())
    before = (tmp_path / "result.json").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"cannot write '.*result\.json'.*No space left"):
            folder.write_result(a_result(test_top1=1.0))
    folder.close()
    assert (tmp_path / "result.json").read_bytes() == before


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(InputError, match=r"cannot write to '.*runs/run'.*choose another --output"):
        make(tmp_path / "runs" / "run")


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_discarded_folder_is_gone_with_the_parents_that_it_made(tmp_path):
    folder = make(tmp_path / "runs" / "deep" / "run")
    folder.keep_epochs_before(0)
    folder.discard()
    folder.close()
    assert os.listdir(tmp_path) == []


def test_parents_with_something_else_in_them_stay(tmp_path):
    folder = make(tmp_path / "runs" / "run")
    (tmp_path / "runs" / "other").mkdir()
    folder.discard()
    folder.close()
    assert os.listdir(tmp_path / "runs") == ["other"]


def test_a_file_of_somebody_else_in_a_new_folder_stays(tmp_path):
    folder = make(tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    folder.discard()
    folder.close()
    assert files_of(tmp_path / "run") == {"notes.txt": b"mine"}


@pytest.mark.parametrize("content", [{}, {"notes.txt": b"mine"}, {"bad_images.txt": b"old"}])
def test_a_folder_that_was_there_is_as_it_was(tmp_path, content):
    """The name stays free: a folder with an args.yaml would hold a run."""
    for name, value in content.items():
        (tmp_path / name).write_bytes(value)
    folder = make(tmp_path)
    folder.discard()
    folder.close()
    assert files_of(tmp_path) == content


def test_a_run_that_was_there_is_as_it_was(tmp_path):
    first = make(tmp_path)
    first.add_epoch(an_epoch())
    first.close()
    before = files_of(tmp_path)
    second = make(tmp_path, lr=7)
    second.discard()
    second.close()
    assert files_of(tmp_path) == before
