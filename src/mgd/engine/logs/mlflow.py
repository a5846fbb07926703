"""MLflow: a run in its store for each run folder."""

import os
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from mgd.engine.logs.ids import keep_id, read_ids
from mgd.engine.logs.log import result_figures
from mgd.errors import import_extra
from mgd.runfolder import EpochRecord, RunResult

NAME = "mlflow"
EXPERIMENT = "mgd"
"""Where the variable MLFLOW_EXPERIMENT_NAME names none."""
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""Seconds to wait for the server, and tries, where the user's environment does not say; with
MLflow's own defaults one call may take minutes."""
_AT_ONCE = 100
"""Parameters that MLflow takes in one call."""


class MlflowLog:
    """Writes a run into the store that MLFLOW_TRACKING_URI names.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path):
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        mlflow = import_mlflow()
        self._entities, self._client = mlflow.entities, mlflow.MlflowClient()
        given = read_ids(folder).get(NAME)
        if given is None:
            given = self._create(folder.resolve().name)
            keep_id(folder, NAME, given)
        else:
            self._client.update_run(given, status="RUNNING")
        self._id: str = given
        self._has_finished = False

    def _create(self, run_name: str) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self._client.create_experiment(name)
        return str(self._client.create_run(number, run_name=run_name).info.run_id)

    def add_options(self, options: Mapping[str, Any]) -> None:
        """Writes the options as MLflow's parameters.

        A parameter is for ever: an option that is another one in a resumed run is the tag
        "resumed.OPTION".
        """
        there = self._client.get_run(self._id).data.params
        texts = {name: str(value) for name, value in options.items()}
        new = iter([self._entities.Param(n, text) for n, text in texts.items() if n not in there])
        while some := list(islice(new, _AT_ONCE)):
            self._client.log_batch(self._id, params=some)
        for name, text in texts.items():
            if there.get(name, text) != text:
                self._client.set_tag(self._id, f"resumed.{name}", text)

    def add_epoch(self, record: EpochRecord) -> None:
        """Writes every value of a record under the name of its column."""
        self._log(record.row(), record.epoch)

    def add_image(self, name: str, image: Tensor, epoch: int = 0) -> None:
        """Writes a picture, RGB, uint8 (3, H, W), as a file of the run."""
        file = f"{name.replace(' ', '-')}-{epoch}.png"
        self._client.log_image(self._id, image.permute(1, 2, 0).numpy(), file)

    def finish(self, result: RunResult) -> None:
        """Writes what the run came to."""
        self._log(result_figures(result), result.best_epoch)
        self._has_finished = True

    def _log(self, values: Mapping[str, float], epoch: int) -> None:
        now = int(1000 * time.time())
        metrics = [self._entities.Metric(name, each, now, epoch) for name, each in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self) -> None:
        """Ends the run there, as failed if it has not finished; a resumed run opens it again."""
        self._client.set_terminated(self._id, "FINISHED" if self._has_finished else "FAILED")


def import_mlflow() -> Any:
    """Imports the package, mlflow or mlflow-skinny.

    Raises:
        InputError: If it is not installed.
    """
    return import_extra("mlflow", "log", "--log mlflow")
