"""Updates: one step of the optimizer, from the gradient of its batches to new weights."""

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

from lightning_fabric import Fabric
from torch import Tensor
from torch.optim import Optimizer

from mgd import ranks
from mgd.engine.loop.averaging import build_averaging
from mgd.engine.loop.optim import build_optimizer, build_scheduler
from mgd.engine.options.config import ScheduleConfig
from mgd.engine.tasks.task import Task


class Updates:
    """Adds up the gradient of a step, limits it, updates the weights, and moves the schedule on.

    A step calls `begin`, then `backward` for each of its batches inside `batch`, and at the end
    `step` or `skip`.

    Args:
        fabric: Launched.
        task: What is trained; it is set up for the devices here, once the optimizer knows its
            parameters.
        config: The options of optimizer and schedule.
        num_steps: Of an epoch.
    """

    def __init__(self, fabric: Fabric, task: Task, config: ScheduleConfig, num_steps: int):
        self._fabric, self._task, self._most = fabric, task, config.clip_grad_norm
        optimizer = build_optimizer(task.trained, config)
        self.scheduler = build_scheduler(optimizer, config, num_steps)
        task.setup(fabric)
        self.optimizer = cast("Optimizer", fabric.setup_optimizers(optimizer))  # one gives one
        self.weights = build_averaging(task, config)
        self._rates = [
            {name: value for name, value in group.items() if name not in ("params", "lr")}
            for group in optimizer.param_groups
        ]

    def state_dict(self) -> dict[str, Any]:
        """Returns where the schedule is; the optimizer and the averaged weights have their own."""
        return self.scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there at the rates of the options, where those of the state were others.

        Args:
            state: Loaded after that of the optimizer, whose rates are then set.
        """
        self.scheduler.load_state_dict(state)
        self.scheduler.base_lrs = [rates["initial_lr"] for rates in self._rates]
        for group, rates, factor in zip(
            self.optimizer.param_groups, self._rates, self.scheduler.lr_lambdas, strict=True
        ):
            group.update(rates, lr=rates["initial_lr"] * factor(self.scheduler.last_epoch))

    def begin(self) -> None:
        """Forgets the gradient of the step before; a forward needs the memory."""
        self.optimizer.zero_grad(set_to_none=True)

    def batch(self, is_last: bool) -> AbstractContextManager[None]:
        """Returns what forward and backward of a batch run in.

        Args:
            is_last: Whether it is the step's last; the ranks add their gradients up in this alone.
        """
        if is_last or not ranks.are_several():  # Fabric minds the question where there is one rank
            return nullcontext()
        wrapped = self._task.wrapped
        return self._fabric.no_backward_sync(wrapped)  # type: ignore[arg-type]  # Fabric made it

    def backward(self, terms: Tensor, images: int) -> None:
        """Adds a batch to the gradient of the step's loss, which is a mean over all its images.

        Args:
            terms: Weighted terms of the loss (n, B) of this rank's images.
            images: Of the whole step, on all ranks.
        """
        # Ranks may have one image more or less; DDP averages over ranks, this over images.
        self._fabric.backward(terms.sum() * (self._fabric.world_size / images))

    def step(self) -> None:
        """Updates the weights; nothing here waits for the device."""
        if self._most is not None:
            self._fabric.clip_gradients(
                self._task.wrapped,
                self.optimizer,
                max_norm=self._most,
                error_if_nonfinite=False,  # the watch and the gradient scaler have their own ways
            )
        self.optimizer.step()
        self.weights.update()
        self.scheduler.step()

    def skip(self) -> None:
        """Leaves the update out; only the schedule moves on."""
        with warnings.catch_warnings():  # torch minds a schedule without an update
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            self.scheduler.step()
