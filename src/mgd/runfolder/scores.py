"""Scores: the columns in which a summary has what networks were measured by."""

from typing import NamedTuple


class ScoreColumns(NamedTuple):
    """Columns of the figures by which one kind of networks is measured."""

    train: tuple[str, ...]
    """On the training images."""
    valid: tuple[str, ...]
    """On the validation images."""
    teacher: tuple[str, ...]
    """Of the teacher, on the validation images."""
    best: tuple[str, ...]
    """What is kept of the best epoch; the first chooses it, the higher the better."""
    name: str
    """What the first is, for a message."""


CLASSIFIED = ScoreColumns(
    train=("train_top1",),
    valid=("valid_loss", "valid_top1", "valid_top5"),
    teacher=("teacher_top1", "teacher_top5"),
    best=("top1", "top5"),
    name="validation accuracy",
)
DETECTED = ScoreColumns(
    train=(),
    valid=("valid_map", "valid_map_50", "valid_map_75"),
    teacher=("teacher_map", "teacher_map_50"),
    best=("map", "map_50"),
    name="validation mAP",
)
