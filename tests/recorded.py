"""Records of a run that never was, with every field set."""

from mgd.runfolder import (
    EpochRecord,
    MatchingRecord,
    PointMatching,
    RunResult,
    Start,
    epoch_columns,
)

OPTIONS = {"arch": "net", "data": "digits", "distiller": "none", "size": 8, "train-images": 100}
COLUMNS = epoch_columns(["loss", "loss_ce"], teacher=False, matching=False, skips=False)
ALL_COLUMNS = epoch_columns(["loss", "loss_ce"], teacher=True, matching=True, skips=True)


def an_epoch(epoch=0, **changes):
    values = {
        "epoch": epoch,
        "lr": 0.1,
        "losses": {"loss": 1 / 3, "loss_ce": 0.25},
        "train_top1": 10.0,
        "valid_loss": 2.5,
        "valid_top1": 50.0,
        "valid_top5": 90.0,
        "images_per_s": 1000.5,
        "data_wait": 0.1,
        "seconds": 1.5,
    }
    return EpochRecord(**{**values, **changes})


def a_point(**changes):
    values = {
        "teacher": "relu$1",
        "student": "relu$2",
        "teacher_channels": 4,
        "first_cost": 1.5,
        "point": "relu$1 -> relu$2",
        "cost_before": 1.0,
        "cost_after": 0.5,
        "churn": 0.25,
        "dead_channels": 0,
        "images": 40,
        "seconds": 0.1,
        "matching": [[0, 3], [1, 2]],
    }
    return PointMatching(**{**values, **changes})


def a_matching(epoch=0, **changes):
    return MatchingRecord(epoch=epoch, points=[a_point(**changes)])


def a_result(**changes):
    values = {
        "best_epoch": 1,
        "valid_top1": 99.0,
        "valid_top5": 100.0,
        "test_top1": 70.0,
        "test_top5": 95.0,
        "trained_parameters": 1234567,
        "seconds": 2.5,
    }
    return RunResult(**{**values, **changes})


def a_start(epoch=0, **changes):
    values = {
        "time": "2026-11-25T10:40:04+00:00",
        "epoch": epoch,
        "step": 0,
        "command": ["mgd", "train", "my photos"],
        "versions": {"mgd": "0.2.0", "torch": "2.14.1"},
        "system": "Linux-6",
        "processor": "A fast one",
        "cores": 8,
        "devices": ["GPU A", "GPU A"],
        "processes": 2,
        "threads": 4,
        "commit": "0123456789abcdef",
    }
    return Start(**{**values, **changes})
