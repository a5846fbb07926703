"""A loader process that is killed, as where memory runs out, ends the run in one line."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

import forking
from faults.killing import Place, die, finish, rows_of, start
from mgd.engine.loop.workers import telling_of_dead_workers
from mgd.errors import RunError

WORDS = [
    *("train", "digits", "--size", "8", "--arch", "cifar_resnet8_x0_25", "--train-images", "200"),
    *("-b", "10", "--workers", "2", "--checkpoint-every", "1", "--tensorboard", "0"),
    *("--experiment", "run", "--resume", "auto", "--epochs"),
]
SECOND_EPOCH = Place("batch", 3, steps=25)


def epochs_of(folder):
    return [int(row["epoch"]) for row in rows_of(folder / "runs" / "run")]


def workers():
    """Returns the loader processes of the run that calls this."""
    found = [process.pid for process in multiprocessing.active_children()]
    assert len(found) >= 2
    return found


def kill_a_worker(place):
    os.kill(workers()[0], signal.SIGKILL)


def stop_the_workers_and_die(place):
    """Stops them, so that they cannot notice that the run is gone."""
    Path("workers").write_text(" ".join(map(str, workers())))
    for worker in workers():
        os.kill(worker, signal.SIGSTOP)
    die(place)


def test_a_killed_worker_is_one_line_and_the_run_goes_on(tmp_path):
    process = start([*WORDS, "1000"], tmp_path, SECOND_EPOCH, kill_a_worker)
    assert forking.end_of(process, tmp_path) == 1
    last = forking.printed(tmp_path).splitlines()[-1]
    assert last.startswith("mgd: a process that loads images died (DataLoader worker (pid")
    assert last.endswith("go on from the last checkpoint with --resume auto")
    assert "Traceback" not in forking.printed(tmp_path)
    epochs = len(epochs_of(tmp_path)) + 1
    assert epochs >= 2
    finish([*WORDS, str(epochs)], tmp_path)
    assert epochs_of(tmp_path) == [*range(epochs)]


@telling_of_dead_workers()
def read_from(worker):
    """Has the connection break a moment before the operating system tells of the death."""
    if worker is not None:
        os.kill(worker.pid, signal.SIGKILL)
    raise ConnectionResetError


def test_a_connection_that_breaks_before_the_worker_is_dead_is_told_the_same():
    worker = forking.server().Process(target=signal.pause)
    worker.start()
    told = rf"images died \(DataLoader worker \(pid {worker.pid}\) is dead\)"
    with pytest.raises(RunError, match=told):
        read_from(worker)


def test_a_connection_that_breaks_while_no_worker_died_is_left_alone():
    with pytest.raises(ConnectionResetError):
        read_from(None)


@telling_of_dead_workers()
def write_a_file():
    """As where torch's handler of SIGCHLD raises while a file is written."""
    try:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. \nMore.")
    except RuntimeError as error:
        raise RunError(f"cannot write 'last.ckpt' ({error}); free some space") from error


def test_a_worker_that_dies_while_a_file_is_written_is_told_the_same():
    told = r"images died \(DataLoader worker \(pid 7\) is killed by signal: Killed\.\); if memory"
    with pytest.raises(RunError, match=told):
        write_a_file()


def test_workers_that_outlive_a_killed_run_do_not_hold_its_folder(tmp_path):
    process = start([*WORDS, "2"], tmp_path, SECOND_EPOCH, stop_the_workers_and_die)
    assert forking.end_of(process, tmp_path) == -signal.SIGKILL
    orphans = [int(word) for word in (tmp_path / "workers").read_text().split()]
    try:
        finish([*WORDS, "2"], tmp_path)
        assert epochs_of(tmp_path) == [0, 1]
    finally:
        for orphan in orphans:
            os.kill(orphan, signal.SIGKILL)
