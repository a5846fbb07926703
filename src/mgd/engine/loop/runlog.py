"""Run log: what the engine tells and writes while it runs, in the types of the run folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgd.data.check import Watch, unwatched
from mgd.engine.loop.evaluation import Scores
from mgd.engine.loop.events import EventLog, open_events
from mgd.engine.options.config import RunConfig
from mgd.runfolder import EpochRecord, RunFolder


class Reporter:
    """What the engine tells while it runs; this one is silent. The command line's draws."""

    def message(self, text: str) -> None:
        """Says one thing."""

    def watch(self, text: str) -> Watch:
        """Returns what shows how far something long is that comes before the steps of an epoch.

        Args:
            text: What is being done.
        """
        return unwatched

    def start(self, images: int) -> None:
        """Announces the training, and over how many images the accuracy of an epoch is."""

    def start_epoch(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        """Announces an epoch and how many of its steps are done already."""

    def step(self, done: int, values: Mapping[str, float]) -> None:
        """Shows running means after so many steps of the epoch."""

    def best(self, epoch: int, top1: float) -> None:
        """Announces the best epoch so far, from 0: where a run goes on, and at each better one.

        Nothing is announced where a run keeps its last epoch, whatever it came to.
        """

    def end_epoch(self, record: EpochRecord) -> None:
        """Shows an epoch's record."""

    def close(self) -> None:
        """Gives the terminal back."""


class RunLog(RunFolder):
    """The run folder, with TensorBoard's events if the run asks for them.

    Args:
        path: The folder; made if it is not there.
        config: The run.

    Raises:
        InputError: As `RunFolder`.
        RunError: As `RunFolder`.
    """

    def __init__(self, path: Path, config: RunConfig):
        super().__init__(path, config.flat())
        self._has_events = bool(config.output.tensorboard)
        self._events: EventLog | None = None

    def add_epoch(self, record: EpochRecord) -> None:
        """Adds an epoch to the summary and to TensorBoard."""
        super().add_epoch(record)
        if self._has_events and self._events is None:
            self._events = open_events(self.path)
        if self._events is not None:
            self._events.add_epoch(record)

    def close(self) -> None:
        """Closes the event file and releases the folder."""
        if self._events is not None:
            self._events.close()
        super().close()


def epoch_record(
    means: Mapping[str, float], student: Scores, teacher: Scores | None, **others: Any
) -> EpochRecord:
    """Returns the record of an epoch.

    Args:
        means: "loss", its terms as "loss_TERM", `train_top1`, `images_per_s` and `data_wait`.
        student: On the validation images.
        teacher: On the same, if there is one.
        others: The other fields of `EpochRecord`.
    """
    return EpochRecord(
        losses={name: mean for name, mean in means.items() if name.startswith("loss")},
        train_top1=means["train_top1"],
        valid_loss=student.loss,
        valid_top1=student.top1,
        valid_top5=student.top5,
        teacher_top1=teacher.top1 if teacher else None,
        teacher_top5=teacher.top5 if teacher else None,
        images_per_s=means["images_per_s"],
        data_wait=means["data_wait"],
        **others,
    )
