"""Weights & Biases: a run there for each run folder."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mgd.engine.logs.ids import keep_id, read_ids
from mgd.engine.logs.log import result_figures
from mgd.errors import import_extra
from mgd.runfolder import EpochRecord, RunResult

NAME = "wandb"
PROJECT = "mgd"
"""Where the variable WANDB_PROJECT names none."""
_PATIENCE = {"WANDB_INIT_TIMEOUT": "30", "WANDB_FINISH_TIMEOUT": "60"}
"""Seconds to wait for the server, where the user's environment does not say; wandb's own default
waits at the end of a run until it answers."""


class WandbLog:
    """Sends a run to wandb's server, or keeps it for `wandb sync` where WANDB_MODE is offline.

    Args:
        folder: The run folder; wandb's own files are in it as well.
    """

    def __init__(self, folder: Path):
        for name, seconds in _PATIENCE.items():
            os.environ.setdefault(name, seconds)
        self._wandb = import_wandb()
        given = read_ids(folder).get(NAME)
        if given is None:
            given = secrets.token_hex(4)
            keep_id(folder, NAME, given)
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=folder.resolve().name,
            id=given,
            resume="allow",
            dir=str(folder),
            # What the terminal shows is no record, and wandb would have to stand in its way.
            settings=self._wandb.Settings(console="off", quiet=True),
        )
        self._run.define_metric("epoch")
        self._run.define_metric("*", step_metric="epoch")
        self._has_finished = False

    def add_options(self, options: Mapping[str, Any]) -> None:
        """Sends the options as wandb's config."""
        self._run.config.update(dict(options), allow_val_change=True)

    def add_epoch(self, record: EpochRecord) -> None:
        """Sends every value of a record under the name of its column."""
        self._run.log(record.row())

    def add_image(self, name: str, image: Tensor, epoch: int = 0) -> None:
        """Sends a picture, RGB, uint8 (3, H, W)."""
        pixels = image.permute(1, 2, 0).numpy()
        self._run.log({"epoch": epoch, name: self._wandb.Image(pixels)})

    def finish(self, result: RunResult) -> None:
        """Sends what the run came to as wandb's summary."""
        self._run.summary.update(result_figures(result))
        self._has_finished = True

    def close(self) -> None:
        """Ends the run there, as failed if it has not finished; a resumed run opens it again."""
        self._run.finish(exit_code=0 if self._has_finished else 1)


def import_wandb() -> Any:
    """Imports the package.

    Raises:
        InputError: If it is not installed.
    """
    return import_extra("wandb", "log", "--log wandb")
