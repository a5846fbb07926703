"""Supply: what the loop asks of a run's data, whatever is to be found on its images."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mgd.data.loading import TrainBatches
from mgd.engine.loop.meter import TermMeter
from mgd.engine.runtime.figures import whole_number
from mgd.engine.tasks.task import Task
from mgd.runfolder import ScoreColumns

logger = logging.getLogger(__name__)


class Measured(ABC):
    """What a measurement of a network found, by the columns that a summary has for it."""

    @property
    @abstractmethod
    def best(self) -> dict[str, float]:
        """What is kept of the best epoch; the first figure chooses it, the higher the better."""

    @property
    @abstractmethod
    def as_student(self) -> dict[str, float]:
        """The columns of an epoch, where the student was measured."""

    @property
    @abstractmethod
    def as_teacher(self) -> dict[str, float]:
        """The columns of an epoch, where the teacher was measured."""


class Supply(ABC):
    """A run's data on this rank. The loop has no branch for any kind of it."""

    device: torch.device
    train_batches: TrainBatches
    """The order of the images to train on."""
    scores: ScoreColumns
    """By what the networks are measured."""

    @property
    @abstractmethod
    def num_trained_on(self) -> int:
        """Number of the images to train on."""

    @property
    @abstractmethod
    def num_valid(self) -> int:
        """Number of the images that choose the epoch."""

    @property
    def is_label_free(self) -> bool:
        """Whether the labels of the validation images are the teacher's answers."""
        return False

    @abstractmethod
    def batches(self) -> Iterator[Any]:
        """Yields this rank's share of the batches that `train_batches` is at, for `prepare`."""

    @abstractmethod
    def prepare(self, batch: Any, place: tuple[int, int] | None = None) -> tuple[Any, Any]:
        """Moves a batch to the device.

        Args:
            batch: From a loader.
            place: Epoch and number of a batch to train on.

        Returns:
            The images and what is known of them, as the task's `losses` takes both.
        """

    @abstractmethod
    def meter(self, terms: Sequence[str]) -> TermMeter:
        """Returns what adds up the terms of the loss, and what else a training forward tells."""

    @abstractmethod
    def measure(self, task: Task) -> Measured:
        """Measures a task's student on the images that choose the epoch."""

    def gallery_images(self, number: int) -> tuple[Tensor, Sequence[str]] | None:
        """Returns so many validation images, on the device, and what is on them, or fewer.

        `None` where no feature maps of them are to be kept.
        """
        return None

    def state_dict(self) -> dict[str, int]:
        """Returns how many training images there are."""
        return {"images": self.num_trained_on}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Warns where the training images are not those of the state."""
        then, now = whole_number(state, "images"), self.num_trained_on
        if then != now:
            logger.warning(
                "the checkpoint was made with %d training images, there are %d now: the run goes "
                "on, but not as it would have without a stop",
                *(then, now),
            )
