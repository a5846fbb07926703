"""Reading: a run as its folder tells it. A damaged file is one `InputError`."""

import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from mgd.errors import InputError
from mgd.runfolder import names
from mgd.runfolder.files import read_json, read_rows, telling_of
from mgd.runfolder.records import (
    EpochRecord,
    MatchingRecord,
    OptionsChange,
    PointMatching,
    RunResult,
)
from mgd.runfolder.starts import Start, read_starts
from mgd.runfolder.updates import PointUpdate, read_updates

_NEEDED = ("arch", "data", "distiller", "size", "train-images")
_EARLIER = re.compile(names.EARLIER_ARGS.format(r"(\d+)", r"(\d+)"))
_SEED = re.compile(r"-seed\d+$")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run folder holds."""

    folder: Path
    options: dict[str, Any]
    """Of the command line, by the flag without its dashes."""
    epochs: list[EpochRecord]
    """In order; none before the first has ended."""
    result: RunResult | None
    """None until the run has ended."""
    matching: MatchingRecord | None
    """None without a matching."""
    changes: list[OptionsChange] = field(default_factory=list)
    """Where the run was resumed with other options, in order; `options` are the last."""
    starts: list[Start] = field(default_factory=list)
    """By which commands it was made and on which machines, in order."""
    updates: list[PointUpdate] = field(default_factory=list)
    """What each update of the matching found at each point, in order."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def group(self) -> str:
        """The name without `-seedN`: runs of one group differ in their seed alone."""
        return _SEED.sub("", self.name)

    @property
    def accuracy(self) -> float | None:
        """Top-1 in percent, on test images or else on validation images; None until the end.

        Of a run that finds boxes it is their mean average precision.
        """
        return None if self.result is None else self.result.score

    @property
    def finds_boxes(self) -> bool:
        """Whether `accuracy` is the mean average precision of boxes."""
        if self.result is not None:
            return self.result.valid_map is not None
        return any(record.valid_map is not None for record in self.epochs)

    @property
    def is_agreement(self) -> bool:
        """Whether `accuracy` is agreement with the teacher, since no image has a label."""
        result = self.result
        return result is not None and bool(result.valid_is_agreement) and result.test_top1 is None

    @property
    def points(self) -> list[PointMatching]:
        """The matching of each point; empty without a matching."""
        return self.matching.points if self.matching else []


def is_run(folder: Path) -> bool:
    """Tells whether a run was started in this folder."""
    return (folder / names.ARGS).exists()


def read_run(folder: str | Path) -> Run:
    """Reads a run folder.

    Raises:
        InputError: If it is not a run folder, or a file in it cannot be read.

    Example:
        >>> read_run("/nowhere")
        Traceback (most recent call last):
        ...
        mgd.errors.InputError: '/nowhere' is no run folder (no args.yaml); give one below --output
    """
    folder = Path(folder)
    # The summary is missing until the training begins.
    if not (folder / names.ARGS).is_file():
        raise InputError(f"'{folder}' is no run folder (no {names.ARGS}); give one below --output")
    return Run(
        folder=folder,
        options=read_options(folder / names.ARGS),
        epochs=read_epochs(folder),
        result=read_result(folder),
        matching=read_matching(folder),
        changes=read_changes(folder),
        starts=read_starts(folder),
        updates=read_updates(folder),
    )


def read_epochs(folder: Path) -> list[EpochRecord]:
    """Reads the finished epochs of a run; none where there is no file yet.

    Raises:
        InputError: If the file cannot be read.
    """
    return read_rows(folder / names.SUMMARY, EpochRecord.from_row)


def read_matching(folder: Path) -> MatchingRecord | None:
    """Reads the last matching of a run; None where there is no file.

    Raises:
        InputError: If the file cannot be read.
    """
    path = folder / names.MATCHING
    with telling_of(path):
        return MatchingRecord.from_plain(read_json(path)) if path.is_file() else None


def read_result(folder: Path) -> RunResult | None:
    """Reads the outcome of a run; None until it has ended.

    Raises:
        InputError: If the file cannot be read.
    """
    path = folder / names.RESULT
    with telling_of(path):
        return RunResult.from_plain(read_json(path)) if path.is_file() else None


def read_changes(folder: Path) -> list[OptionsChange]:
    """Reads where a run was resumed with other options, in order.

    Raises:
        InputError: If a file cannot be read.
    """
    earlier = earlier_args(folder)
    options = [read_options(path) for path in (*earlier.values(), folder / names.ARGS)]
    return [
        OptionsChange(
            epoch=epoch,
            step=step,
            changed={
                name: (before[name], after[name])
                for name in before
                if name in after and before[name] != after[name]
            },
        )
        for (epoch, step), (before, after) in zip(earlier, pairwise(options), strict=True)
    ]


def earlier_args(folder: Path) -> dict[tuple[int, int], Path]:
    """Returns the files with a run's earlier options by the place where they end, in order."""
    found = ((_EARLIER.fullmatch(path.name), path) for path in folder.iterdir())
    places = {(int(match[1]), int(match[2])): path for match, path in found if match}
    return dict(sorted(places.items()))


def read_options(path: Path) -> dict[str, Any]:
    """Reads the options of a run, by the flag without its dashes.

    Raises:
        InputError: If the file cannot be read, or lacks what every run has.
    """
    with telling_of(path):
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(options, dict):
            raise ValueError("it holds no options")
        if missing := [name for name in _NEEDED if name not in options]:
            raise ValueError(f"no '{missing[0]}'")
        return options
