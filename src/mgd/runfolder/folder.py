"""The run folder as the run that writes it sees it."""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from mgd.errors import InputError
from mgd.runfolder import names
from mgd.runfolder.lock import lock_folder
from mgd.runfolder.reading import earlier_args, read_epochs, read_matching
from mgd.runfolder.records import EpochRecord, MatchingRecord, PointMatching, RunResult
from mgd.runfolder.starts import Start, read_starts, write_starts
from mgd.runfolder.updates import read_updates, updates_of, write_updates
from mgd.runfolder.writing import remove_leftovers, write_table, write_whole


class RunFolder:
    """Writes a run's files; it holds the folder's lock from the start until `close`.

    Args:
        path: The folder; made if it is not there.
        options: Of the command line, by the flag without its dashes.
        columns: Of the summary, as `epoch_columns` gives them; a run that does not know them yet
            sets them before its first epoch.

    Raises:
        InputError: If another run holds the folder, or it cannot be made.
        RunError: If the options cannot be written.

    Example:
        >>> import tempfile
        >>> from mgd.runfolder import RunResult, read_result
        >>> result = RunResult(
        ...     best_epoch=0, valid_top1=70.0, valid_top5=95.0, trained_parameters=100, seconds=9.5
        ... )
        >>> folder = RunFolder(Path(tempfile.mkdtemp()), {"arch": "resnet18"}, ["epoch", "loss"])
        >>> folder.write_result(result)
        >>> folder.close()
        >>> read_result(folder.path).valid_top1
        70.0
    """

    def __init__(self, path: Path, options: Mapping[str, Any], columns: Sequence[str] = ()):
        self.path, self.options, self.columns = path, options, list(columns)
        self._made = [folder for folder in (path, *path.parents) if not folder.exists()]
        try:
            self._found = set() if path in self._made else set(os.listdir(path))
            path.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(path)
        except OSError as error:
            raise InputError(
                f"cannot write to '{path}' ({error}); choose another --output"
            ) from error
        try:
            remove_leftovers(path)
            # A run that goes on says what it was made with until it is sure that it can.
            if not (path / names.ARGS).exists():
                self._write_options(names.ARGS, options)
        except BaseException:  # whatever it is, the folder must not stay locked
            self._lock.release()
            raise

    def keep_epochs_before(self, epoch: int) -> None:
        """Drops the records from an epoch on: a resumed run writes those again.

        An update of the matching before that epoch stays: a run that goes on inside the epoch does
        not repeat it.
        """
        self._write_epochs([each for each in read_epochs(self.path) if each.epoch < epoch])
        updates = read_updates(self.path)
        if updates and updates[-1].epoch > epoch:
            write_updates(self.path, [each for each in updates if each.epoch <= epoch])

    def discard(self) -> None:
        """Removes the files and folders that this run has made, where the run could not begin.

        The name is then free for the next try. Whatever was there before stays as it is.
        """
        with suppress(OSError):  # somebody else keeps something in it, or holds the lock's file
            for name in {names.ARGS, names.SUMMARY, names.BAD_IMAGES, names.LOCK} - self._found:
                (self.path / name).unlink(missing_ok=True)
            for folder in self._made:
                folder.rmdir()

    def add_start(self, start: Start) -> None:
        """Adds a start to those that are recorded."""
        write_starts(self.path, [*read_starts(self.path), start])

    def go_on(self, epoch: int, step: int, earlier: Mapping[str, Any] | None) -> Path | None:
        """Writes the options from here on, keeps earlier ones, drops those that are undone.

        The outcome of a run that had ended is dropped as well, and its card: this run writes others
        when it has ended.

        Args:
            epoch: The run goes on here,
            step: after so many steps of this epoch.
            earlier: The options with which it came here, if they were others.

        Returns:
            The file with the earlier options.
        """
        for place, path in earlier_args(self.path).items():
            if place >= (epoch, step):
                path.unlink()
        kept = None
        if earlier is not None:
            name = names.EARLIER_ARGS.format(epoch, step)
            self._write_options(name, earlier)
            kept = self.path / name
        self._write_options(names.ARGS, self.options)
        for name in (names.RESULT, names.CARD):
            (self.path / name).unlink(missing_ok=True)
        return kept

    def add_epoch(self, record: EpochRecord) -> None:
        """Adds an epoch to the summary."""
        self._write_epochs([*read_epochs(self.path), record])

    def _write_epochs(self, records: Sequence[EpochRecord]) -> None:
        rows = [record.row() for record in records]
        write_table(self.path / names.SUMMARY, self.columns, rows)

    def write_matching(self, record: MatchingRecord) -> None:
        """Writes the matching of an update, and adds what it found to that of those before it.

        After epoch 0 each point keeps the `first_cost` of the record that is there already.
        """
        earlier = read_matching(self.path) if record.epoch else None
        first = {_taps(point): point.first_cost for point in earlier.points} if earlier else {}
        points = [
            replace(point, first_cost=first.get(_taps(point), point.first_cost))
            for point in record.points
        ]
        record = replace(record, points=points)
        self._write(names.MATCHING, json.dumps(record.to_plain()))
        before = [each for each in read_updates(self.path) if each.epoch < record.epoch]
        write_updates(self.path, [*before, *updates_of(record)])

    def write_result(self, result: RunResult) -> None:
        """Writes what the run came to."""
        self._write(names.RESULT, json.dumps(result.to_plain(), indent=1))

    def _write_options(self, name: str, options: Mapping[str, Any]) -> None:
        self._write(name, yaml.safe_dump(dict(options), sort_keys=False))

    def _write(self, name: str, text: str) -> None:
        write_whole(self.path / name, lambda file: file.write(text.encode()))

    def close(self) -> None:
        """Releases the lock, so that another run can use the folder."""
        self._lock.release()


def _taps(point: PointMatching) -> tuple[str, str]:
    return point.teacher, point.student
