"""What a log is, and the names of its figures."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from mgd.runfolder import EpochRecord, RunResult


@runtime_checkable  # so that the tests can check it where it is an argument
class Log(Protocol):
    """Takes the figures of one run, from its start, or from where it goes on."""

    def add_options(self, options: Mapping[str, Any]) -> None:
        """Takes the options of the command line, by the flag without its dashes."""

    def add_epoch(self, record: EpochRecord) -> None:
        """Takes every value of an epoch, under the name of its column in the summary."""

    def add_image(self, name: str, image: Tensor, epoch: int = 0) -> None:
        """Takes a picture.

        Args:
            name: What it shows.
            image: RGB, uint8 (3, H, W).
            epoch: That it was made before.
        """

    def finish(self, result: RunResult) -> None:
        """Takes what the run came to, as `result_figures` names it; the run has ended."""

    def close(self) -> None:
        """Ends the log; a run that has not finished was stopped."""


def result_figures(result: RunResult) -> dict[str, float]:
    """Returns what a run came to by names that are no columns of its summary.

    Example:
        >>> result = RunResult(
        ...     best_epoch=4, valid_top1=70.0, valid_top5=95.0, trained_parameters=100, seconds=9.5
        ... )
        >>> figures = result_figures(result)
        >>> figures["result/valid_top1"], "result/test_top1" in figures
        (70.0, False)
    """
    return {f"result/{name}": value for name, value in asdict(result).items() if value is not None}
