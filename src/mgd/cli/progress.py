"""Progress on the terminal: a live display of the epoch, and lasting lines for each one done."""

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.constrain import Constrain
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn, track
from rich.text import Text

from mgd.cli.lines import decimals, folded, printable_lines, scores_of
from mgd.data.check import Watch
from mgd.engine.loop.opening import WIDTH
from mgd.engine.loop.runlog import Reporter
from mgd.runfolder import EpochRecord


class RichReporter(Reporter):
    """Draws with rich; in a pipe or log file only the lasting lines appear."""

    def __init__(self) -> None:
        self._console: Console | None = None
        self._progress: _Display | None = None
        self._bar: TaskID | None = None
        self._steps = self._epoch = self._epochs = self._images = 0
        self._best: tuple[int, float] | None = None
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
        task = progress.add_task(text, total=number, values=f"of {number} batches, left")
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
            self._bar = self._live().add_task("", total=epochs * steps, values="left")
        self._show(done)

    def _live(self) -> "_Display":
        """Returns the one display, which all bars share."""
        if self._progress is None:
            self._progress = _Display(self._terminal())
            self._progress.start()
        return self._progress

    def step(self, done: int, values: Mapping[str, float]) -> None:
        """Updates the bar, and the figures below it."""
        figures = [f"{values['images_per_s']:.0f} images/s"]
        if not math.isnan(values.get("train_top1", math.nan)):  # no image with a label yet
            figures.append(f"training Acc@1 {values['train_top1']:.1f}")
        self._show(done, figures, _losses(values))

    def best(self, epoch: int, score: float) -> None:
        """Keeps the best epoch so far."""
        self._best = epoch, score

    def _show(self, done: int, figures: Iterable[str] = (), losses: Iterable[str] = ()) -> None:
        if self._bar is None:
            return
        best = [self._best_so_far()] if self._best else []
        below = _Figures([f"step {done}/{self._steps}", *figures, *best], list(losses))
        self._live().update(
            self._bar,
            completed=self._epoch * self._steps + done,
            description=f"epoch {self._epoch + 1}/{self._epochs}",
            below=below,
        )

    def _best_so_far(self) -> str:
        epoch, score = self._best or (0, 0.0)
        return f"best {score:.{decimals(self._images)}f} at epoch {epoch + 1}"

    def end_epoch(self, record: EpochRecord) -> None:
        """Prints the epoch's lines: the learning rate, accuracies and pace, and the losses."""
        figures = [
            f"epoch {record.epoch + 1}/{self._epochs}",
            f"lr {record.lr:.4g}",
            scores_of(record, self._images),
        ]
        if record.teacher_score is not None:
            figures.append(f"teacher {record.teacher_score:.{decimals(self._images)}f}")
        figures.append(f"{record.images_per_s:.0f} images/s")
        losses = [*_losses(record.losses), f"wait {100 * record.data_wait:.0f} %"]
        if self._best:
            losses[-1] += ","
            is_best = self._best[0] == record.epoch
            losses.append("best so far" if is_best else self._best_so_far())
        columns = min(WIDTH, self._terminal().width)
        self.message(folded(figures, columns=columns))
        self.message(folded(losses, gap=" ", indent="  ", columns=columns))

    def close(self) -> None:
        """Takes the display away."""
        if self._progress is not None:
            self._progress.stop()

    def _terminal(self) -> Console:
        if self._console is None:
            self._console = Console()
        return self._console


def passing_bar(text: str) -> Watch:
    """Returns what draws a bar on a terminal's error output while items pass, and nothing else.

    Args:
        text: What goes on.
    """

    def watch(items: Iterable[Any], number: int) -> Iterable[Any]:
        console = Console(stderr=True)
        is_hidden = not console.is_terminal
        return track(items, text, number, console=console, transient=True, disable=is_hidden)

    return watch


def _losses(values: Mapping[str, float]) -> list[str]:
    """Returns the loss and its terms, in brackets, as parts of a line."""
    terms = "|".join(
        f"{name.removeprefix('loss_')} {value:.4g}"
        for name, value in values.items()
        if name.startswith("loss_")
    )
    return [f"loss {values['loss']:.4g}", *(f"({terms})".split("|") if terms else ())]


class _Display(Progress):
    """Bars of what goes on, each with lines below it if it has some."""

    def __init__(self, console: Console):
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),  # what is left of the line
            TextColumn("{task.fields[values]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            expand=True,
            refresh_per_second=4,
            speed_estimate_period=3600,  # so that what lies between two epochs counts as well
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yields the bars, which in a wide terminal are no longer than a line is elsewhere."""
        yield Constrain(self.make_tasks_table(self.tasks), WIDTH)
        yield from (
            task.fields["below"] for task in self.tasks if task.visible and "below" in task.fields
        )


class _Figures:
    """Lines that are folded between two figures, to fit the terminal as wide as it is now."""

    def __init__(self, *groups: list[str]):
        self._groups = groups

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        for figures in filter(None, self._groups):
            shown = folded(figures, indent="  ", columns=options.max_width)
            yield Text(shown, no_wrap=True, overflow="ellipsis")
