"""TensorBoard: the summary of a run as scalars."""

from pathlib import Path
from typing import Any

from mgd.runfolder import EpochRecord, names


class EventLog:
    """Writes each epoch's record as TensorBoard scalars.

    Args:
        writer: A `torch.utils.tensorboard.SummaryWriter`.
    """

    def __init__(self, writer: Any):
        self._writer = writer

    def add_epoch(self, record: EpochRecord) -> None:
        """Writes every value of a record under the name of its column."""
        for name, value in record.row().items():
            self._writer.add_scalar(name, value, record.epoch)
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


def open_events(folder: Path) -> EventLog | None:
    """Opens the event file of a run; None where the package tensorboard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return EventLog(SummaryWriter(str(folder / names.TENSORBOARD)))
