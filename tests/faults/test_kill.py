"""`kill -9` anywhere: the run goes on and ends bit-identical to one that nobody killed."""

import random
import signal
import time

import pytest
from killing import finish, left_by, start, wait_for_progress

WORDS = [
    *("distill", "digits", "--size", "8", "--arch", "cifar_resnet8_x0_25", "--teacher"),
    *("cifar_resnet8_x0_5", "--use-pretrained", "0", "--mgd-reducer", "rd", "--mgd-with-kd", "1"),
    *("--mgd-update-freq", "2", "--mgd-images", "40", "--train-images", "80", "-b", "10"),
    *("--checkpoint-every", "1", "--tensorboard", "0", "--experiment", "run", "--lr", "0.05"),
    *("--epochs", "8", "--loss-factor", "1000"),
]
KILLS = 20


def words(workers):
    return [*WORDS, "--workers", str(workers), "--resume", "auto"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What the run leaves if nobody kills it."""
    folder = tmp_path_factory.mktemp("whole")
    finish(words(0), folder)
    left = left_by(folder)
    assert [row["epoch"] for row in left["rows"]] == list("01234567")
    return left


def end_and_compare(folder, workers, whole):
    finish(words(workers), folder)
    assert left_by(folder) == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_random_moments(tmp_path, whole, workers):
    dice = random.Random(workers)
    killed, epochs = 0, set()
    for life in range(KILLS):
        process = start(words(workers), tmp_path)
        if life % 5:
            wait_for_progress(process, tmp_path / "runs" / "run" / "last.ckpt")
            time.sleep(dice.uniform(0, 0.06))
        else:
            time.sleep(dice.uniform(0, 1))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        summary = tmp_path / "runs" / "run" / "summary.csv"
        epochs.add(len(summary.read_text().splitlines()) if summary.exists() else 0)
    assert killed == KILLS, (tmp_path / "printed").read_text()
    assert len(epochs) > 2  # the kills were spread over the run
    end_and_compare(tmp_path, workers, whole)


def test_killed_before_each_of_its_file_operations(tmp_path, whole):
    """The n-th life dies just before its n-th change of a file, and so between all of them."""
    for number in range(1, KILLS + 1):
        process = start(words(0), tmp_path, "at_file_operation", number)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL, (tmp_path / "printed").read_text()
    end_and_compare(tmp_path, 0, whole)


def test_killed_inside_a_checkpoint_write(tmp_path, whole):
    for number in (1, 2, 9, 10, 11):
        process = start(words(0), tmp_path, "inside_write", number)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL, (tmp_path / "printed").read_text()
        left = [file.name for file in (tmp_path / "runs" / "run").glob(".*.ckpt.*")]
        assert len(left) == 1  # half a checkpoint, which the next life takes away
    end_and_compare(tmp_path, 0, whole)
