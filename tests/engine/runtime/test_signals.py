"""A run that is told to stop saves, says so with its exit code, and goes on as if nothing was."""

import os
import signal
from functools import partial

import pytest

import forking
from faults.killing import Place, finish, left_by, start
from mgd.engine.loop.checkpoint import load_checkpoint

EPOCHS, STEPS = 4, 4
WORDS = [
    *("train", "digits", "--size", "8", "--arch", "cifar_resnet8_x0_25", "--train-images", "40"),
    *("-b", "10", "-j", "0", "--tensorboard", "0", "--experiment", "run"),
    *("--epochs", str(EPOCHS)),
]


def tell(place, number):
    os.kill(os.getpid(), number)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What the run leaves that nobody stops."""
    folder = tmp_path_factory.mktemp("whole")
    finish(WORDS, folder)
    return left_by(folder)


@pytest.mark.parametrize("steps", [2 * STEPS, 2 * STEPS + 1, 3 * STEPS - 1])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_saves_and_goes_on(number, code, steps, tmp_path, whole):
    """Told just before a step of the third epoch, it takes that step and saves."""
    process = start(WORDS, tmp_path, Place("step", steps=steps), partial(tell, number=number))
    assert forking.end_of(process, tmp_path) == code
    assert forking.printed(tmp_path).splitlines()[-1] == (
        f"mgd: stopped by {number.name} after saving; go on with --resume auto"
    )
    saved = load_checkpoint(tmp_path / "runs" / "run" / "last.ckpt")
    assert saved["epoch"] * STEPS + saved["step"] == steps + 1
    finish([*WORDS, "--resume", "auto"], tmp_path)
    assert left_by(tmp_path) == whole
