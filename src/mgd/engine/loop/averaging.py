"""Averaging: which weights of the student a run measures and saves, the last or their mean."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mgd import ranks
from mgd.engine.options.config import ScheduleConfig
from mgd.engine.runtime.figures import whole_number
from mgd.engine.tasks.task import Task

_LAST = "last_student"
_STEPS = "averaged_steps"


class LastWeights:
    """The weights as the last step left them: nothing is averaged."""

    def update(self) -> None:
        """Takes in the weights after a step."""

    def end_epoch(self) -> None:
        """Gives every rank what rank 0 has."""

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Lends the student the weights that are the result, for as long as the block takes."""
        yield

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint needs beside the task's state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes back to the state of a checkpoint, after the task has."""


class AveragedWeights(LastWeights):
    """The exponential moving average of the student's weights and BatchNorm statistics.

    `mean <- d mean + (1 - d) weights` after every step, where `d` is the smaller of `decay` and
    `(1 + t) / (10 + t)` in step t, from 1: the mean is mostly over the last ninth of the steps so
    far, until `decay` limits it. The statistics are averaged as the weights are, so that they fit
    them. Other buffers may be anything, such as an attention mask with infinite values, and stay.

    The mean is kept beside the network, and no second network is made as torch's `AveragedModel`
    does: a student in training has hooks, compiled modules, perhaps weights that cannot be copied.

    Args:
        task: Its student, on its device; what is trained beside the student is not averaged.
        decay: Share of the mean that a step keeps, from 0 to 1.
    """

    def __init__(self, task: Task, decay: float):
        self.network, self.decay, self.steps = task.student, decay, 0
        statistics = [value for _, value in task.running_statistics() if value.is_floating_point()]
        weights = [value for value in task.student.parameters() if value.requires_grad]
        self._last: list[Tensor] = [*weights, *statistics]
        self._mean = [value.detach().clone() for value in self._last]

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights after a step; the host does not wait for the device."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        average = get_ema_multi_avg_fn(decay)
        average(self._mean, [value.detach() for value in self._last], None)

    def end_epoch(self) -> None:
        """Gives every rank what rank 0 has: each rank's statistics are of its own images."""
        ranks.share(self._mean)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Lends the student the mean, for as long as the block takes."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for last, mean in zip(self._last, self._mean, strict=True):
            kept = last.clone()
            last.copy_(mean)
            mean.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """Returns the mean as the checkpoint's student, which is the result, and the last weights.

        Both are copies, so that they stay what they are while the mean is lent.
        """
        last = copy.deepcopy(self.network.state_dict())
        with self.in_place():
            mean = copy.deepcopy(self.network.state_dict())
        return {"student": mean, _LAST: last, _STEPS: self.steps}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes back to a state."""
        self.steps = whole_number(state, _STEPS)
        self.network.load_state_dict(state["student"])
        for last, mean in zip(self._last, self._mean, strict=True):
            mean.copy_(last)
        self.network.load_state_dict(state[_LAST])


def build_averaging(task: Task, config: ScheduleConfig) -> LastWeights:
    """Builds what the options ask for."""
    return AveragedWeights(task, config.model_ema_decay) if config.model_ema else LastWeights()
