"""Run log: the engine's findings as records, in the run folder and in TensorBoard."""

import os

import pytest
from filelock import FileLock

from mgd.engine.loop.evaluation import Scores
from mgd.engine.loop.runlog import RunLog, epoch_record
from mgd.engine.options.config import RunConfig
from mgd.engine.run import train
from mgd.errors import InputError
from mgd.runfolder import epoch_columns, read_epochs, read_run

MEANS = {"loss": 1.5, "loss_ce": 1.0, "loss_kd": 0.5, "train_top1": 10.0}
PACE = {"images_per_s": 100.0, "data_wait": 0.25}
STUDENT = Scores(0.5, 50.0, 75.0, 4, 1.0, ((2, 4),))
TEACHER = Scores(0.25, 90.0, 100.0, 4, 1.0, ((3, 4),))
OTHERS = {"epoch": 2, "lr": 0.1, "seconds": 1.5}
COLUMNS = epoch_columns(["loss", "loss_ce", "loss_kd"], teacher=True, matching=False, skips=False)


def test_an_epoch_record_is_what_was_measured():
    record = epoch_record({**MEANS, **PACE}, STUDENT, TEACHER, skipped_steps=3, **OTHERS)
    assert record.row() == {
        "epoch": 2, "lr": 0.1, **MEANS, "valid_loss": 0.5, "valid_top1": 50.0, "valid_top5": 75.0,
        "teacher_top1": 90.0, "teacher_top5": 100.0, "skipped_steps": 3, **PACE, "seconds": 1.5,
    }  # fmt: skip


def test_without_a_teacher_there_are_none_of_its_scores():
    record = epoch_record({**MEANS, **PACE}, STUDENT, None, **OTHERS)
    assert (record.teacher_top1, record.teacher_top5) == (None, None)


@pytest.mark.parametrize("tensorboard", [0, 1])
def test_the_log_writes_events_where_asked_for(tmp_path, tensorboard):
    config = RunConfig().replace(tensorboard=tensorboard, data="digits")
    log = RunLog(tmp_path / "run", config)
    log.columns = COLUMNS
    assert log.open_others(0) == bool(tensorboard)
    record = epoch_record({**MEANS, **PACE}, STUDENT, TEACHER, **OTHERS)
    log.add_epoch(record)
    log.close()
    assert read_epochs(tmp_path / "run") == [record]
    assert read_run(tmp_path / "run").options == config.flat()
    assert (tmp_path / "run" / "tensorboard").exists() == bool(tensorboard)
    RunLog(tmp_path / "run", config).close()


def test_a_refused_run_changes_nothing(fast_run, tmp_path):
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    with (
        FileLock(folder / ".lock"),
        pytest.raises(InputError, match="in use"),
    ):
        train(fast_run.replace(experiment="mine"))
    assert os.listdir(folder) == [".lock"]
