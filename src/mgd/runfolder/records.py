"""Typed records of a run, and their form in CSV and JSON files.

A reader takes the fields that it knows and ignores the others, so that files of a later version
can be read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mgd.runfolder.fields import get, number, read_fields, whole
from mgd.runfolder.scores import CLASSIFIED, DETECTED, ScoreColumns

_LOSS = "loss"


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """What one epoch came to: a row of the summary. Accuracies and precisions are in percent.

    It has the figures of one kind of `ScoreColumns`; those of the others are None.
    """

    epoch: int
    """From 0."""
    lr: float
    """Learning rate of the epoch's first step."""
    losses: Mapping[str, float]
    """Mean per training image: "loss", and each of its terms as "loss_TERM"."""
    train_top1: float | None = None
    valid_loss: float | None = None
    valid_top1: float | None = None
    valid_top5: float | None = None
    valid_map: float | None = None
    """Mean average precision of boxes, over overlaps of 0.50 to 0.95 as COCO has it."""
    valid_map_50: float | None = None
    """The same for boxes that overlap by half."""
    valid_map_75: float | None = None
    teacher_top1: float | None = None
    """Of the teacher on the validation images; None without a teacher."""
    teacher_top5: float | None = None
    teacher_map: float | None = None
    teacher_map_50: float | None = None
    valid_is_agreement: int | None = None
    """1 where the classes of the validation images are the teacher's answers, so that `valid_top1`
    is no accuracy."""
    matching_cost: float | None = None
    """Mean channel distance of the matched pairs, 0 to 4; None without a matching."""
    matching_churn: float | None = None
    """Share of the teacher channels that the last update matched anew, 0 to 1."""
    skipped_steps: int | None = None
    """Training steps left out by --on-nan skip; None in other modes."""
    images_per_s: float
    """Training images per second, over all processes."""
    data_wait: float
    """Share of the training time spent waiting for data, 0 to 1."""
    seconds: float
    """Duration of the epoch, validation included."""

    @property
    def score(self) -> float | None:
        """The figure that chooses the epoch: top-1 accuracy, or mean average precision."""
        return self.valid_top1 if self.valid_map is None else self.valid_map

    @property
    def teacher_score(self) -> float | None:
        """The same of the teacher; None without one."""
        return self.teacher_top1 if self.teacher_map is None else self.teacher_map

    def row(self) -> dict[str, float]:
        """Returns the values by column, without those that are None."""
        row: dict[str, float] = {}
        for column in epoch_columns(
            self.losses,
            teacher=True,
            matching=True,
            skips=True,
            agreement=True,
            scores=DETECTED if self.valid_map is not None else CLASSIFIED,
        ):
            value = self.losses[column] if _is_loss(column) else getattr(self, column)
            if value is not None:
                row[column] = value
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "EpochRecord":
        """Makes a record of a CSV row; an empty cell is None.

        Raises:
            ValueError: If a needed column is missing or its value is no number.
        """
        if None in row:  # where `csv.DictReader` puts the cells that have no column
            raise ValueError("a row has more cells than the header")
        # A run that was resumed with another term has no value of it in its first rows.
        terms = [name for name in row if _is_loss(name) and row[name] not in (None, "")]
        losses = {name: number(row, name) for name in {_LOSS: None, **dict.fromkeys(terms)}}
        record = cls(losses=losses, **read_fields(cls, row))
        needed = CLASSIFIED if record.valid_map is None else DETECTED
        for name in (*needed.train, *needed.valid):
            number(row, name)
        return record


def epoch_columns(
    losses: Iterable[str],
    *,
    teacher: bool,
    matching: bool,
    skips: bool,
    agreement: bool = False,
    scores: ScoreColumns = CLASSIFIED,
) -> list[str]:
    """Returns the columns of a run's summary, in order.

    Args:
        losses: "loss", and each of its terms as "loss_TERM".
        teacher: Whether the run has a teacher.
        matching: Whether it has a matching.
        skips: Whether it leaves out steps whose loss is not finite.
        agreement: Whether the teacher's answers are the classes of its validation images.
        scores: By what the networks are measured.
    """
    teachers = scores.teacher if teacher else ()
    matchings = ["matching_cost", "matching_churn"] if matching else []
    skipped = ["skipped_steps"] if skips else []
    valid = [*scores.valid, *(["valid_is_agreement"] if agreement else [])]
    times = ["images_per_s", "data_wait", "seconds"]
    start = ["epoch", "lr", *losses, *scores.train]
    return [*start, *valid, *teachers, *matchings, *skipped, *times]


def _is_loss(column: str) -> bool:
    return column == _LOSS or column.startswith(f"{_LOSS}_")


@dataclass(frozen=True, kw_only=True)
class OptionsChange:
    """A place where a run was resumed with other options."""

    epoch: int
    """The first epoch, or part of one, that was trained with the options after the change."""
    step: int
    """Steps of that epoch that were trained before the change."""
    changed: Mapping[str, tuple[Any, Any]]
    """Value before and after, by the flag without its dashes."""


@dataclass(frozen=True, kw_only=True)
class PointMatching:
    """What the last update found at one distillation point."""

    teacher: str
    """Tap in the teacher."""
    student: str
    """Tap in the student."""
    teacher_channels: int
    first_cost: float
    """Mean distance of the matched pairs, 0 to 4, before the run's first update."""
    point: str
    """Name of the pair."""
    cost_before: float
    """The same before this update."""
    cost_after: float
    """The same after this update."""
    churn: float
    """Share of the teacher channels that this update matched anew, 0 to 1."""
    dead_channels: int
    """Student channels that are zero on every image seen."""
    images: int
    """Images that the distances are a mean over."""
    seconds: float
    """Duration of the whole update, all points."""
    matching: list[list[int]]
    """Teacher channel by group and student channel."""


@dataclass(frozen=True, kw_only=True)
class MatchingRecord:
    """What an update of the matching found at every point."""

    epoch: int
    """The epoch that the update came before."""
    points: list[PointMatching]

    def to_plain(self) -> dict[str, Any]:
        """Returns the record as JSON has it."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "MatchingRecord":
        """Makes a record of what `to_plain` gave.

        Raises:
            ValueError: If a needed key is missing or its value is of another kind.
        """
        points = get(values, "points")
        if not isinstance(points, list) or not all(isinstance(each, dict) for each in points):
            raise ValueError("'points' is no list of points")
        read = [PointMatching(**read_fields(PointMatching, point)) for point in points]
        return cls(epoch=whole(values, "epoch"), points=read)


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run came to. Accuracies and precisions are in percent."""

    best_epoch: int
    """The epoch with the best score on the validation images, from 0; -1 without any."""
    valid_top1: float | None = None
    """Of that epoch, on the validation images that chose it; None where boxes are found."""
    valid_top5: float | None = None
    valid_map: float | None = None
    """Mean average precision of boxes, where these are found; the columns of an epoch say more."""
    valid_map_50: float | None = None
    test_map: float | None = None
    test_map_50: float | None = None
    teacher_map: float | None = None
    teacher_map_50: float | None = None
    test_top1: float | None = None
    """Of that epoch, on the test images; None where the data has no test part."""
    test_top5: float | None = None
    teacher_top1: float | None = None
    """Of the teacher, on the test images, or on the validation images if there are no others."""
    teacher_top5: float | None = None
    valid_is_agreement: int | None = None
    """1 where `valid_top1` is how often the student agrees with its teacher, and no accuracy."""
    trained_parameters: int
    """Of the student, and of what a method trains beside it."""
    student_parameters: int | None = None
    """Of the student alone; None of a run of an earlier version."""
    teacher_parameters: int | None = None
    """Of the teacher; None without one."""
    stopped_after: int | None = None
    """Epochs that were trained, where `--patience` ended the run before its last; else None."""
    seconds: float
    """Duration of the run, with the epochs before it was resumed."""

    @property
    def score(self) -> float | None:
        """Top-1 or mean average precision, on test images or else on validation images."""
        test, valid = (self.test_map, self.valid_map)
        if valid is None:
            test, valid = self.test_top1, self.valid_top1
        return valid if test is None else test

    @property
    def is_tested(self) -> bool:
        """Whether `score` is of test images, which chose nothing."""
        return self.test_top1 is not None or self.test_map is not None

    @property
    def teacher_score(self) -> float | None:
        """The same of the teacher; None without one."""
        return self.teacher_top1 if self.teacher_map is None else self.teacher_map

    def to_plain(self) -> dict[str, Any]:
        """Returns the record as JSON has it."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "RunResult":
        """Makes a record of what `to_plain` gave.

        Raises:
            ValueError: If a needed key is missing or its value is no number.
        """
        result = cls(**read_fields(cls, values))
        needed = CLASSIFIED if result.valid_map is None else DETECTED
        for name in needed.best:
            number(values, f"valid_{name}")
        return result
