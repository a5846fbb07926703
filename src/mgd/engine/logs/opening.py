"""Opens the logs that a run asks for."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mgd import ranks
from mgd.engine.logs import mlflow, wandb
from mgd.engine.logs.log import Log
from mgd.engine.logs.patient import PatientLog
from mgd.engine.logs.tensorboard import open_events
from mgd.engine.options.output import OutputConfig

_PACKAGES: dict[str, Callable[[], Any]] = {
    wandb.NAME: wandb.import_wandb,
    mlflow.NAME: mlflow.import_mlflow,
}
_LOGS: dict[str, Callable[[Path], Log]] = {
    wandb.NAME: wandb.WandbLog,
    mlflow.NAME: mlflow.MlflowLog,
}


def check_logs(output: OutputConfig) -> None:
    """Checks that the packages of the logs are installed where the run will write.

    Raises:
        InputError: For one that is not, with what to install.
    """
    if ranks.is_first():
        for name in output.log:
            _PACKAGES[name]()


def open_logs(folder: Path, output: OutputConfig, epoch: int) -> list[Log]:
    """Opens the logs of a run; a server that does not answer is a warning.

    Args:
        folder: The run folder.
        output: Says which.
        epoch: That the run begins or goes on with.
    """
    logs: list[Log] = []
    if output.tensorboard:
        events = open_events(folder, epoch)
        logs += [] if events is None else [events]
    return logs + [PatientLog(name, partial(_LOGS[name], folder)) for name in output.log]
