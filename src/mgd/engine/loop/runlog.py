"""Run log: what the engine tells and writes while it runs, in the types of the run folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mgd.data.check import Watch, unwatched
from mgd.engine.logs import Log, open_logs
from mgd.engine.loop.supply import Measured
from mgd.engine.options.config import RunConfig
from mgd.runfolder import EpochRecord, RunFolder, RunResult


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

    def best(self, epoch: int, score: float) -> None:
        """Announces the best epoch so far, from 0: where a run goes on, and at each better one.

        Nothing is announced where a run keeps its last epoch, whatever it came to.
        """

    def end_epoch(self, record: EpochRecord) -> None:
        """Shows an epoch's record."""

    def close(self) -> None:
        """Gives the terminal back."""


class RunLog(RunFolder):
    """The run folder, and the other logs that the run asks for, such as TensorBoard's.

    Args:
        path: The folder; made if it is not there.
        config: The run.

    Raises:
        InputError: As `RunFolder`.
        RunError: As `RunFolder`.
    """

    def __init__(self, path: Path, config: RunConfig):
        super().__init__(path, config.flat())
        self._output = config.output
        self._logs: list[Log] = []

    def open_others(self, epoch: int) -> bool:
        """Opens the other logs of a run that begins or goes on with an epoch; tells of any."""
        self._logs = open_logs(self.path, self._output, epoch)
        for log in self._logs:
            log.add_options(self.options)
        return bool(self._logs)

    def add_epoch(self, record: EpochRecord) -> None:
        """Adds an epoch to the summary and to the other logs."""
        super().add_epoch(record)
        for log in self._logs:
            log.add_epoch(record)

    def add_image(self, name: str, image: Tensor, epoch: int = 0) -> None:
        """Adds a picture, RGB, uint8 (3, H, W), to the other logs."""
        for log in self._logs:
            log.add_image(name, image, epoch)

    def write_result(self, result: RunResult) -> None:
        """Writes what the run came to, here and to the other logs."""
        super().write_result(result)
        for log in self._logs:
            log.finish(result)

    def close(self) -> None:
        """Closes the other logs and releases the folder."""
        for log in self._logs:
            log.close()
        super().close()


def epoch_record(
    means: Mapping[str, float], student: Measured, teacher: Measured | None, **others: Any
) -> EpochRecord:
    """Returns the record of an epoch.

    Args:
        means: "loss", its terms as "loss_TERM", what the meter counted, `images_per_s` and
            `data_wait`.
        student: On the validation images.
        teacher: On the same, if there is one.
        others: The other fields of `EpochRecord`.
    """
    losses = {name: mean for name, mean in means.items() if name.startswith("loss")}
    figures: dict[str, Any] = {name: means[name] for name in means if name not in losses}
    figures |= {**student.as_student, **(teacher.as_teacher if teacher else {})}
    return EpochRecord(losses=losses, **figures, **others)
