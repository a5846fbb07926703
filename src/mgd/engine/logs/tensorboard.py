"""TensorBoard: the summary of a run as scalars, its options as hyper-parameters, and pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mgd.engine.logs.log import result_figures
from mgd.runfolder import EpochRecord, RunResult, names

METRICS = ("valid_top1", "result/valid_top1", "result/test_top1", "result/teacher_top1")
"""What the table of hyper-parameters compares runs by."""


class EventLog:
    """Writes each epoch's record as TensorBoard scalars.

    Args:
        writer: A `torch.utils.tensorboard.SummaryWriter`.
    """

    def __init__(self, writer: Any):
        self._writer = writer
        self._end: Any = None

    def add_options(self, options: Mapping[str, Any]) -> None:
        """Writes the options as hyper-parameters, beside which TensorBoard shows the metrics.

        The writer's own `add_hparams` would make a folder more, which TensorBoard shows as a run.
        """
        from torch.utils.tensorboard.summary import hparams

        plain = {name: _plain(value) for name, value in options.items()}
        metrics, start, self._end = hparams(plain, dict.fromkeys(METRICS))
        for summary in (metrics, start):
            self._writer.file_writer.add_summary(summary)
        self._writer.flush()

    def add_epoch(self, record: EpochRecord) -> None:
        """Writes every value of a record under the name of its column."""
        for name, value in record.row().items():
            self._writer.add_scalar(name, value, record.epoch)
        self._writer.flush()

    def add_image(self, name: str, image: Tensor, epoch: int = 0) -> None:
        """Writes a picture, RGB, uint8 (3, H, W)."""
        self._writer.add_image(name, image, epoch)
        self._writer.flush()

    def finish(self, result: RunResult) -> None:
        """Writes what the run came to, and that it has ended."""
        for name, value in result_figures(result).items():
            self._writer.add_scalar(name, value, result.best_epoch)
        if self._end is not None:
            self._writer.file_writer.add_summary(self._end)

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


def open_events(folder: Path, epoch: int) -> EventLog | None:
    """Opens an event file of a run; None where the package tensorboard is not installed.

    Args:
        folder: The run folder.
        epoch: That the run begins or goes on with. TensorBoard drops what an earlier event file has
            of it and of later ones.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return EventLog(SummaryWriter(str(folder / names.TENSORBOARD), purge_step=epoch))


def _plain(value: Any) -> int | float | str:
    """Returns a value as a hyper-parameter may be."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return value if isinstance(value, (int, float, str)) else ""
