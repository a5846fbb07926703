"""A loader process that is killed, as where memory runs out, ends the run in one line."""

import os
import signal
import subprocess

from killing import finish, start, wait_for_progress

from mgd.runfolder import read_epochs

WORDS = [
    *("train", "digits", "--size", "8", "--arch", "cifar_resnet8_x0_25", "--train-images", "200"),
    *("-b", "10", "--workers", "2", "--checkpoint-every", "1", "--tensorboard", "0"),
    *("--experiment", "run", "--resume", "auto", "--epochs"),
]


def workers_of(parent):
    listing = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=True
    ).stdout
    return [int(word) for word in listing.split()]


def epochs_of(folder):
    return [record.epoch for record in read_epochs(folder / "runs" / "run")]


def test_a_killed_worker_is_one_line_and_the_run_goes_on(tmp_path):
    process = start([*WORDS, "1000"], tmp_path)
    try:
        wait_for_progress(process, tmp_path / "runs" / "run" / "best.ckpt")
        workers = workers_of(process.pid)
        assert len(workers) >= 2
        os.kill(workers[0], signal.SIGKILL)
        process.join(60)
        assert process.exitcode == 1
    finally:
        process.kill()
        process.join()
    last = (tmp_path / "printed").read_text().splitlines()[-1]
    assert last.startswith("mgd: a process that loads images died (DataLoader worker (pid")
    assert last.endswith("go on from the last checkpoint with --resume auto")
    assert "Traceback" not in (tmp_path / "printed").read_text()
    epochs = len(epochs_of(tmp_path)) + 1
    finish([*WORDS, str(epochs)], tmp_path)
    assert epochs_of(tmp_path) == [*range(epochs)]


def test_workers_that_outlive_a_killed_run_do_not_hold_its_folder(tmp_path):
    process = start([*WORDS, "1000"], tmp_path)
    wait_for_progress(process, tmp_path / "runs" / "run" / "best.ckpt")
    workers = workers_of(process.pid)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)  # so that they cannot notice that the run is gone
    try:
        process.kill()
        process.join()
        finish([*WORDS, str(len(epochs_of(tmp_path)) + 1)], tmp_path)
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
