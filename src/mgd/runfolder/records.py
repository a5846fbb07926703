"""Typed records of a run, and their form in CSV and JSON files.

A reader takes the fields that it knows and ignores the others, so that files of a later version
can be read.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

_LOSS = "loss"


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """What one epoch came to: a row of the summary. Accuracies are in percent."""

    epoch: int
    """From 0."""
    lr: float
    """Learning rate of the epoch's first step."""
    losses: Mapping[str, float]
    """Mean per training image: "loss", and each of its terms as "loss_TERM"."""
    train_top1: float
    valid_loss: float
    valid_top1: float
    valid_top5: float
    teacher_top1: float | None = None
    """Of the teacher on the validation images; None without a teacher."""
    teacher_top5: float | None = None
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

    def row(self) -> dict[str, float]:
        """Returns the values by column, without those that are None."""
        row: dict[str, float] = {}
        for column in epoch_columns(
            self.losses, teacher=True, matching=True, skips=True, agreement=True
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
        losses = {name: _number(row, name) for name in {_LOSS: None, **dict.fromkeys(terms)}}
        return cls(losses=losses, **read_fields(cls, row))


def epoch_columns(
    losses: Iterable[str], *, teacher: bool, matching: bool, skips: bool, agreement: bool = False
) -> list[str]:
    """Returns the columns of a run's summary, in order.

    Args:
        losses: "loss", and each of its terms as "loss_TERM".
        teacher: Whether the run has a teacher.
        matching: Whether it has a matching.
        skips: Whether it leaves out steps whose loss is not finite.
        agreement: Whether the teacher's answers are the classes of its validation images.
    """
    teachers = ["teacher_top1", "teacher_top5"] if teacher else []
    matchings = ["matching_cost", "matching_churn"] if matching else []
    skipped = ["skipped_steps"] if skips else []
    valid = ["valid_loss", "valid_top1", "valid_top5"]
    valid += ["valid_is_agreement"] if agreement else []
    times = ["images_per_s", "data_wait", "seconds"]
    start = ["epoch", "lr", *losses, "train_top1"]
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
        points = _get(values, "points")
        if not isinstance(points, list) or not all(isinstance(each, dict) for each in points):
            raise ValueError("'points' is no list of points")
        read = [PointMatching(**read_fields(PointMatching, point)) for point in points]
        return cls(epoch=_whole(values, "epoch"), points=read)


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run came to. Accuracies are in percent."""

    best_epoch: int
    """The epoch with the best accuracy on the validation images, from 0; -1 without any."""
    valid_top1: float
    """Of that epoch, on the validation images that chose it."""
    valid_top5: float
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

    def to_plain(self) -> dict[str, Any]:
        """Returns the record as JSON has it."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "RunResult":
        """Makes a record of what `to_plain` gave.

        Raises:
            ValueError: If a needed key is missing or its value is no number.
        """
        return cls(**read_fields(cls, values))


def _get(values: Mapping[str, Any], key: str) -> Any:
    if values.get(key) in (None, ""):
        raise ValueError(f"no '{key}'")
    return values[key]


def _number(values: Mapping[str, Any], key: str) -> float:
    value = _get(values, key)
    try:
        if isinstance(value, bool):
            raise TypeError("float() would take it")
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"'{key}' is {value!r}, not a number") from error


def _whole(values: Mapping[str, Any], key: str) -> int:
    number = _number(values, key)
    if not number.is_integer():
        raise ValueError(f"'{key}' is {values[key]!r}, not a whole number")
    return int(number)


def _text(values: Mapping[str, Any], key: str) -> str:
    value = _get(values, key)
    if not isinstance(value, str):
        raise ValueError(f"'{key}' is {value!r}, not a text")
    return value


def _channels(values: Mapping[str, Any], key: str) -> list[list[int]]:
    groups = _get(values, key)
    is_table = isinstance(groups, list) and all(isinstance(group, list) for group in groups)
    if not is_table or not all(type(channel) is int for group in groups for channel in group):
        raise ValueError(f"'{key}' is no list of lists of channels")
    if not groups or len({len(group) for group in groups}) != 1:
        raise ValueError(f"'{key}' has groups of different sizes, or none")
    return [list(group) for group in groups]


def _words(values: Mapping[str, Any], key: str) -> list[str]:
    words = _get(values, key)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"'{key}' is no list of texts")
    return list(words)


def _texts(values: Mapping[str, Any], key: str) -> dict[str, str]:
    texts = _get(values, key)
    if not isinstance(texts, dict) or not all(isinstance(each, str) for each in texts.values()):
        raise ValueError(f"'{key}' is no table of texts")
    return dict(texts)


def _or_none(read: Callable[[Mapping[str, Any], str], Any]) -> Callable[..., Any]:
    return lambda values, key: None if values.get(key) in (None, "") else read(values, key)


_READERS: dict[Any, Callable[[Mapping[str, Any], str], Any]] = {
    int: _whole,
    float: _number,
    str: _text,
    int | None: _or_none(_whole),
    float | None: _or_none(_number),
    list[list[int]]: _channels,
    list[str]: _words,
    dict[str, str]: _texts,
    str | None: _or_none(_text),
}


def read_fields(record: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of those fields of a record that have one of the types above.

    Raises:
        ValueError: If a needed key is missing or its value is of another kind.
    """
    typed = ((field.name, _READERS.get(field.type)) for field in fields(record))
    return {name: read(values, name) for name, read in typed if read is not None}
