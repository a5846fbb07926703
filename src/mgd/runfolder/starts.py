"""Starts: by which command, with which packages and on which machine a run was made."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mgd.runfolder import names
from mgd.runfolder.fields import read_fields
from mgd.runfolder.files import read_json, telling_of
from mgd.runfolder.writing import write_whole

_STARTS = "starts"


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start of a run: its first, or one that went on where it had been stopped."""

    time: str
    """ISO 8601, in UTC."""
    epoch: int
    """The epoch, from 0, that the run began with."""
    step: int
    """Steps of that epoch that were trained before."""
    command: list[str]
    """The words of the command line; none where a program called `mgd.engine.run.train`."""
    versions: dict[str, str]
    """By the name of the package; "python" is Python's."""
    system: str
    processor: str
    cores: int
    """Of the processor, that the run could use."""
    devices: list[str]
    """Name of each GPU, over all processes; none on a CPU."""
    processes: int
    threads: int
    """Of each process."""
    commit: str | None = None
    """Of the git repository around the current folder."""


def read_starts(folder: Path) -> list[Start]:
    """Reads the starts of a run, in order; none of a run that was made before they were recorded.

    Raises:
        InputError: If the file cannot be read.
    """
    path = folder / names.ENVIRONMENT
    with telling_of(path):
        if not path.is_file():
            return []
        starts: Any = read_json(path).get(_STARTS)
        if not isinstance(starts, list) or not all(isinstance(each, dict) for each in starts):
            raise ValueError(f"'{_STARTS}' is no list of starts")
        return [Start(**read_fields(Start, each)) for each in starts]


def write_starts(folder: Path, starts: Sequence[Start]) -> None:
    """Writes the starts of a run.

    Raises:
        RunError: If the file cannot be written.
    """
    text = json.dumps({_STARTS: [asdict(start) for start in starts]}, indent=1)
    write_whole(folder / names.ENVIRONMENT, lambda file: file.write(text.encode()))
