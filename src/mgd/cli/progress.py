"""Progress on the terminal: a live line for the epoch, two lasting ones for each done."""

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mgd.cli.lines import accuracies, agreement, decimals, folded, printable_lines
from mgd.data.check import Watch
from mgd.engine.loop.runlog import Reporter
from mgd.runfolder import EpochRecord


class RichReporter(Reporter):
    """Draws with rich; in a pipe or log file only the lasting lines appear."""

    def __init__(self) -> None:
        self._console: Console | None = None
        self._progress: Progress | None = None
        self._bar: TaskID | None = None
        self._steps = self._epoch = self._epochs = self._images = 0
        self._announced: set[str] = set()

    def message(self, text: str) -> None:
        """Prints one line."""
        shown = printable_lines(text)
        self._terminal().print(shown, markup=False, highlight=False, soft_wrap=True)

    def watch(self, text: str) -> Watch:
        """Returns what draws a bar while it passes items on; a log has a line the first time."""
        return partial(self._watched, text)

    def _watched(self, text: str, items: Iterable[Any], number: int) -> Iterator[Any]:
        if not self._terminal().is_terminal:
            if text not in self._announced:
                self.message(f"{text} ...")
            self._announced.add(text)
            yield from items
            return
        progress = self._live()
        self._show_epoch(False)  # one line at a time, which the longer of two would widen
        task = progress.add_task(text, total=number, values=f"of {number} batches")
        try:
            for item in items:
                yield item
                progress.advance(task)
        finally:
            progress.remove_task(task)
            self._show_epoch(True)
            progress.refresh()  # else the line would stay until something else is drawn

    def _show_epoch(self, visible: bool) -> None:
        if self._bar is not None:
            self._live().update(self._bar, visible=visible)

    def start(self, images: int) -> None:
        """Keeps over how many images the accuracy of an epoch is."""
        self._images = images

    def start_epoch(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        """Moves the bar, which counts the steps of the whole run, to this epoch."""
        self._epoch, self._epochs, self._steps = epoch, epochs, steps
        if self._bar is None:
            self._bar = self._live().add_task("", total=epochs * steps, values="")
        self._show(done, "")

    def _live(self) -> Progress:
        """Returns the one display, which all bars share."""
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=10),  # what is left of 80 columns
                TextColumn("{task.fields[values]}"),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._terminal(),
                transient=True,
                disable=not self._terminal().is_terminal,
            )
            self._progress.start()
        return self._progress

    def step(self, done: int, values: Mapping[str, float]) -> None:
        """Updates the bar."""
        top1 = values["train_top1"]
        accuracy = "" if math.isnan(top1) else f"Acc@1 {top1:.1f}  "  # no image with a label yet
        shown = f"loss {values['loss']:.3f}  {accuracy}{values['images_per_s']:.0f} images/s"
        self._show(done, shown)

    def _show(self, done: int, values: str) -> None:
        if self._bar is not None:
            self._live().update(
                self._bar,
                completed=self._epoch * self._steps + done,
                description=f"epoch {self._epoch + 1}/{self._epochs}",
                values=values,
            )

    def end_epoch(self, record: EpochRecord) -> None:
        """Prints the epoch's lines: the learning rate, accuracies and pace, and the losses."""
        figures = [
            f"epoch {record.epoch + 1}/{self._epochs}",
            f"lr {record.lr:.4g}",
            agreement(record.valid_top1, self._images)
            if record.valid_is_agreement
            else accuracies(record.valid_top1, record.valid_top5, self._images),
        ]
        if record.teacher_top1 is not None:
            figures.append(f"teacher {record.teacher_top1:.{decimals(self._images)}f}")
        figures.append(f"{record.images_per_s:.0f} images/s")
        terms = "|".join(
            f"{name.removeprefix('loss_')} {value:.4g}"
            for name, value in record.losses.items()
            if name.startswith("loss_")
        )
        losses = [f"loss {record.losses['loss']:.4g}", *f"({terms})".split("|")]
        losses.append(f"wait {100 * record.data_wait:.0f} %")
        self.message(folded(figures))
        self.message(folded(losses, gap=" ", indent="  "))

    def close(self) -> None:
        """Takes the bar away."""
        if self._progress is not None:
            self._progress.stop()

    def _terminal(self) -> Console:
        if self._console is None:
            self._console = Console()
        return self._console
