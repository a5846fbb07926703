"""Watch: a loss or gradient that is not finite is found at its step and never saved."""

import logging
import math
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from mgd import ranks
from mgd.engine.runtime.figures import whole_number
from mgd.engine.tasks.task import Task
from mgd.errors import InputError

logger = logging.getLogger(__name__)

OnNan = Literal["stop", "skip"]


class LossWatch:
    """Judges every step before its update.

    With "stop" nothing waits for the device: the first bad step is kept in a record there,
    which `check` reads where the run waits anyway, and before each save. With "skip" every
    step waits for one value, since the host decides whether to update.

    Args:
        task: Its terms, parameters and buffers are watched.
        mode: What to do with a bad step.
        checkpoint: The file to name as the last good one.
        scaled: Whether a gradient scaler, which skips infinite gradients itself, is at work.
    """

    def __init__(self, task: Task, mode: OnNan, checkpoint: Path, scaled: bool = False):
        self.task, self.mode, self.scaled = task, mode, scaled
        self.checkpoint = checkpoint
        self.skipped = 0
        self._kept: list[Tensor] = []
        self._is_reached = False
        device = next(task.student.parameters()).device
        # The first bad step, counted from 1, and the mean of each term in it.
        self._record = torch.zeros(1 + len(task.terms), dtype=torch.float64, device=device)

    def before_forward(self) -> None:
        """Keeps what a forward changes, running statistics above all, where it may be undone."""
        if self.mode == "skip":
            self._kept = [buffer.clone() for buffer in self.task.volatile_buffers()]

    @torch.no_grad()
    def is_spoiled(self, epoch: int, step: int, terms: Tensor) -> bool:
        """Tells whether to leave this step's update out; the forward is undone then.

        Args:
            epoch: From 0.
            step: From 1.
            terms: Weighted terms (n, B), after the backward.
        """
        means = terms.detach().double().mean(1)
        bad = ~(means.isfinite().all() & self._gradient_is_finite())
        found = torch.cat([torch.full_like(means[:1], step), means])
        if self.mode == "stop":
            self._record = torch.where(bad & (self._record[0] == 0), found, self._record)
            return False
        worst, *terms_there = _worst(torch.where(bad, found, 0.0))
        if not worst:
            return False
        for buffer, kept in zip(self.task.volatile_buffers(), self._kept, strict=True):
            buffer.copy_(kept)
        self.skipped += 1
        if ranks.is_first():
            text = self._describe(terms_there)
            logger.warning("skipped epoch %d, step %d: %s", epoch, step, text)
        return True

    def check_reached(self) -> None:
        """Checks in the first step that every weight has a gradient, where DDP waits for each.

        Raises:
            InputError: For weights without, such as those of an auxiliary head.
        """
        if self._is_reached or not ranks.are_several():
            return
        self._is_reached = True
        weights = self.task.trained.named_parameters()
        idle = [name for name, weight in weights if weight.requires_grad and weight.grad is None]
        if idle:
            raise InputError(
                f"{len(idle)} weights get no gradient, and several processes cannot wait for it: "
                f"{', '.join(idle[:4])}; build the network without them (of torchvision's with "
                "`aux_logits=False`), freeze them, or train in one process"
            )

    def check(self, epoch: int) -> None:
        """Looks at the record of all ranks.

        Raises:
            InputError: If a step was bad, naming it, its terms and the last good checkpoint.
        """
        step, *means = _worst(self._record)
        if step:
            raise InputError(
                f"the loss is not finite at epoch {epoch}, step {step:.0f} "
                f"({self._describe(means)}); lower --lr, raise --loss-factor or use --on-nan skip, "
                f"then {self._way()}"
            )

    def check_weights(self, epoch: int, step: int) -> None:
        """Keeps weights that are no numbers out of every checkpoint; waits for the device.

        Raises:
            InputError: If a parameter or running statistic is not finite.
        """
        trained = [item for item in self.task.trained.named_parameters() if item[1].requires_grad]
        named = [*trained, *self.task.running_statistics()]
        fine = torch.stack([value.isfinite().all() for _, value in named]).tolist()
        wrong = [name for (name, _), good in zip(named, fine, strict=True) if not good]
        if wrong:
            raise InputError(
                f"'{wrong[0]}' is not finite after epoch {epoch}, step {step}; lower --lr, then "
                f"{self._way()}"
            )

    def reset(self) -> None:
        """Starts an epoch's count of skipped steps."""
        self.skipped = 0

    def state_dict(self) -> dict[str, Any]:
        """Returns how many steps of the epoch were skipped."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to a state."""
        self.skipped = whole_number(state, "skipped")

    def _gradient_is_finite(self) -> Tensor:
        gradients = [p.grad for p in self.task.trained.parameters() if p.grad is not None]
        if self.scaled or not gradients:
            return torch.ones((), dtype=torch.bool, device=self._record.device)
        return get_total_norm(gradients).isfinite()

    def _describe(self, means: list[float]) -> str:
        terms = zip(self.task.terms, means, strict=True)
        text = ", ".join(f"loss_{name} {mean:.4g}" for name, mean in terms)
        finite = all(map(math.isfinite, means))
        return f"{text}, but the gradient is infinite or no number" if finite else text

    def _way(self) -> str:
        if self.checkpoint.exists():
            return f"go on from '{self.checkpoint}' with --resume auto"
        return "start again: there is no checkpoint yet"


def _worst(record: Tensor) -> list[float]:
    """Returns the record of the first bad step on any rank; waits for the device once."""
    records: list[list[float]] = torch.stack(ranks.gather(record)).tolist()
    bad = [each for each in records if each[0]]
    # The gradient carries a NaN to every rank; where it began, a term is one too.
    return min(bad, key=_blame, default=[0.0] * len(record))


def _blame(record: list[float]) -> tuple[float, int]:
    return record[0], sum(map(math.isfinite, record))
