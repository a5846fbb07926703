"""Run folder: everything a run leaves behind, and nothing half-written."""

import csv
import fcntl
import io
import json
import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import yaml

from mgd.engine.loop.checkpoint import remove_leftovers, write_whole
from mgd.engine.loop.evaluation import Scores
from mgd.engine.options.config import RunConfig
from mgd.errors import InputError, RunError
from mgd.method.distiller import Distiller
from mgd.method.rematch import MatchingReport

Row = dict[str, Any]
BAD_IMAGES = "bad_images.txt"

_LOCKS: "weakref.WeakSet[IO[str]]" = weakref.WeakSet()


def _drop_locks() -> None:
    # Workers outlive a killed run for seconds; a lock they shared would keep the next one out.
    for lock in list(_LOCKS):
        lock.close()


os.register_at_fork(after_in_child=_drop_locks)


class Reporter:
    """What the engine tells while it runs; this one is silent. The command line's draws."""

    def message(self, text: str) -> None:
        """Says one thing."""

    def start_epoch(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        """Announces an epoch and how many of its steps are done already."""

    def step(self, done: int, values: Mapping[str, float]) -> None:
        """Shows running means after so many steps of the epoch."""

    def end_epoch(self, row: Row) -> None:
        """Shows an epoch's row."""

    def close(self) -> None:
        """Gives the terminal back."""


class RunFolder:
    """One run's folder: `args.yaml`, `summary.csv`, `matching.json`, `result.json`, checkpoints.

    Args:
        path: The folder; made when the run starts.
        config: Written to `args.yaml`.
        columns: Of `summary.csv`.
    """

    def __init__(self, path: Path, config: RunConfig, columns: Sequence[str]):
        self.path, self.columns = path, list(columns)
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = (path / ".lock").open("w")
            _LOCKS.add(self._lock)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_leftovers(path)
        except BlockingIOError as error:
            self._lock.close()
            raise InputError(
                f"run folder '{path}' is in use by another run; wait, or name another --experiment"
            ) from error
        except OSError as error:
            raise InputError(
                f"cannot write to '{path}' ({error}); choose another --output"
            ) from error
        try:
            self.write("args.yaml", yaml.safe_dump(config.flat(), sort_keys=False))
        except RunError:
            self._lock.close()
            raise
        self.events = _event_writer(path) if config.output.tensorboard else None

    def write(self, name: str, text: str) -> None:
        """Writes a small file whole, or leaves the old one."""
        write_whole(self.path / name, lambda file: file.write(text.encode()))

    def keep_rows_before(self, epoch: int) -> None:
        """Drops the rows of `summary.csv` from an epoch on, which a resumed run writes again."""
        rows = [row for row in read_summary(self.path) if int(row["epoch"]) < epoch]
        self._write_summary(rows)

    def add_row(self, row: Row) -> None:
        """Adds an epoch to `summary.csv` and to TensorBoard."""
        self._write_summary([*read_summary(self.path), row])
        if self.events is not None:
            for name in self.columns:
                if isinstance(row[name], (int, float)):
                    self.events.add_scalar(name, row[name], int(row["epoch"]))
            self.events.flush()

    def _write_summary(self, rows: Sequence[Row]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        self.write("summary.csv", text.getvalue())

    def write_matching(
        self, distiller: Distiller, reports: Sequence[MatchingReport], epoch: int
    ) -> None:
        """Keeps the matching of every point, with its cost on the first update and on this one."""
        path = self.path / "matching.json"
        earlier = json.loads(path.read_text())["points"] if path.exists() and epoch else []
        points = []
        for index, (point, report) in enumerate(
            zip(distiller.matched_points(), reports, strict=True)
        ):
            first = earlier[index]["first_cost"] if earlier else report.cost_before
            points.append(
                {
                    "teacher": str(point.pair.teacher),
                    "student": str(point.pair.student),
                    "teacher_channels": point.pair.teacher_shape[0],
                    "first_cost": first,
                    **asdict(report),
                    "matching": point.matcher.matching.tolist(),
                }
            )
        self.write("matching.json", json.dumps({"epoch": epoch, "points": points}))

    def write_result(self, values: Mapping[str, Any]) -> None:
        """Writes `result.json`, the run's outcome."""
        self.write("result.json", json.dumps(values, indent=1))

    def close(self) -> None:
        """Lets another run have the folder."""
        if self.events is not None:
            self.events.close()
        self._lock.close()


def summary_columns(
    terms: Sequence[str], distilled: bool, matching: Iterable[str], skips: bool
) -> list[str]:
    """Returns the columns of `summary.csv`; the loss is the sum of its terms."""
    teacher = ["teacher_top1", "teacher_top5"] if distilled else []
    valid = ["valid_loss", "valid_top1", "valid_top5"]
    skipped = ["skipped_steps"] if skips else []
    times = ["images_per_s", "data_wait", "seconds"]
    return ["epoch", "lr", *terms, *valid, *teacher, *matching, *skipped, *times]


def matching_columns(reports: Sequence[MatchingReport]) -> Row:
    """Returns the means over the points of an update, under their columns."""
    return {
        "matching_cost": sum(report.cost_after for report in reports) / len(reports),
        "matching_churn": sum(report.churn for report in reports) / len(reports),
    }


def read_summary(folder: Path) -> list[Row]:
    """Reads the rows of a run's `summary.csv`; none where there is no file."""
    path = folder / "summary.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_bad_images(folder: Path, bad_images: Sequence[str]) -> None:
    """Lists the images left out, a line each; a name that is no UTF-8 keeps its bytes."""
    text = "".join(f"{' '.join(line.splitlines())}\n" for line in bad_images)
    content = text.encode(errors="surrogateescape")
    write_whole(folder / BAD_IMAGES, lambda file: file.write(content))


def write_per_class(path: Path, classes: Sequence[str], scores: Mapping[str, Scores]) -> None:
    """Writes a CSV with a row per class: its images and each network's top-1 accuracy, percent."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "images", *(f"{name}_top1" for name in scores)])
        for index, name in enumerate(classes):
            cells = [score.per_class[index] for score in scores.values()]
            shares = [f"{100 * right / all_:.2f}" if all_ else "" for right, all_ in cells]
            writer.writerow([name, cells[0][1], *shares])


def _event_writer(path: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(path / "tensorboard"))
