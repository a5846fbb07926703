"""A run that is told to stop saves, says so with its exit code, and goes on as if nothing was."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

MAIN = Path(__file__).parents[2] / "main_base.py"
WORDS = [
    *("digits", "--size", "8", "--arch", "cifar_resnet8_x0_25", "--train-images", "40"),
    *("-b", "10", "-j", "0", "--tensorboard", "0", "--experiment", "run", "--epochs"),
]


def rows(folder):
    lines = (folder / "runs" / "run" / "summary.csv").read_text().splitlines()
    return [line.split(",")[:8] for line in lines]  # what follows are times


def start(folder, epochs, *more):
    with (folder / "printed").open("w") as printed:
        return subprocess.Popen(
            [sys.executable, str(MAIN), *WORDS, str(epochs), *more],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            stdout=printed,
            stderr=subprocess.STDOUT,
        )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_saves_and_goes_on(number, code, tmp_path):
    # Of its length, the step schedule asks nothing: so the run to stop may be far too long.
    job = start(tmp_path, 500)
    deadline = time.monotonic() + 180
    while not (tmp_path / "runs/run/summary.csv").exists() or len(rows(tmp_path)) < 3:
        assert job.poll() is None, (tmp_path / "printed").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    job.send_signal(number)
    assert job.wait(timeout=30) == code
    assert (tmp_path / "printed").read_text().splitlines()[-1] == (
        f"mgd: stopped by {number.name} after saving; go on with --resume auto"
    )
    epochs = len(rows(tmp_path)) + 1
    assert start(tmp_path, epochs, "--resume", "auto").wait(timeout=180) == 0
    (tmp_path / "whole").mkdir()
    assert start(tmp_path / "whole", epochs).wait(timeout=180) == 0
    assert rows(tmp_path) == rows(tmp_path / "whole")
    final = [
        (folder / "runs/run/student.safetensors").read_bytes()
        for folder in (tmp_path, tmp_path / "whole")
    ]
    assert final[0] == final[1]
