"""Updates of the matching: what each of them found at each point, over the whole run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mgd.runfolder import names
from mgd.runfolder.fields import read_fields
from mgd.runfolder.files import read_rows
from mgd.runfolder.records import MatchingRecord
from mgd.runfolder.writing import write_table


@dataclass(frozen=True, kw_only=True)
class PointUpdate:
    """What one update found at one distillation point; see `PointMatching`."""

    epoch: int
    """The epoch that the update came before, from 0."""
    teacher: str
    student: str
    cost_before: float
    cost_after: float
    churn: float
    dead_channels: int
    images: int
    seconds: float
    """Duration of the whole update, all points."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "PointUpdate":
        """Makes a record of a CSV row.

        Raises:
            ValueError: If a needed column is missing or its value is of another kind.
        """
        return cls(**read_fields(cls, row))


_COLUMNS = [field.name for field in fields(PointUpdate)]


def updates_of(record: MatchingRecord) -> list[PointUpdate]:
    """Returns what an update found, point by point, without the matchings."""
    found = []
    for point in record.points:
        values = {name: getattr(point, name) for name in _COLUMNS if name != "epoch"}
        found.append(PointUpdate(epoch=record.epoch, **values))
    return found


def read_updates(folder: Path) -> list[PointUpdate]:
    """Reads the updates of a run, in order; none of a run of an earlier version.

    Raises:
        InputError: If the file cannot be read.
    """
    return read_rows(folder / names.UPDATES, PointUpdate.from_row)


def write_updates(folder: Path, updates: Sequence[PointUpdate]) -> None:
    """Writes the updates of a run.

    Raises:
        RunError: If the file cannot be written.
    """
    write_table(folder / names.UPDATES, _COLUMNS, [asdict(update) for update in updates])
