"""Lightning: a callback that guides the student inside a LightningModule."""

import functools
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from torch import Tensor

from mgd.errors import InputError, import_extra
from mgd.inside import find_labels
from mgd.integrations.guided import Guided
from mgd.method.distiller import Distiller
from mgd.method.learner import Distilled

# Lightning is published under two names; one user has one of them.
_PACKAGE = "lightning.pytorch" if find_spec("lightning") else "pytorch_lightning"
lightning = import_extra(_PACKAGE, "lightning", "mgd.integrations.lightning")


class MatchingGuided(lightning.Callback):  # type: ignore[name-defined]  # imported by name
    """Adds the teacher's part to the loss of each `training_step`, and keeps the matching.

    The module's code stays as it is: its `training_step` calls the student once and returns the
    loss, or a dictionary with it. `configure_optimizers` gives the optimizer all parameters of the
    student, `self.parameters()`. The callback updates the matching before epochs, moves the
    teacher to the student's device, runs it in the trainer's precision, and logs the teacher's
    terms as `teacher/kd`, `teacher/mgd_1` and so on. It works under DDP and with accumulated
    gradients. The module's `state_dict` in a checkpoint is that without distillation; the matching
    is in the callback's state, and `trainer.fit(..., ckpt_path=...)` goes on with it.

    Args:
        distiller: Its student is inside the LightningModule that is trained.
        **schedule: `every_epochs`, `max_images` and `images` of `mgd.integrations.Guided`. Without
            `images` a matching is measured on the training loader.

    Raises:
        InputError: As `Guided`; at the start of `fit` for a student that is not in the module, for
            manual optimization, and for an optimizer that lacks the points' parameters.
    """

    def __init__(self, distiller: Distiller, **schedule: Any):
        self.guided = Guided(distiller, **schedule)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Guides the student, before the optimizers are made."""
        if stage != "fit":
            return
        if not any(module is self.guided.student for module in pl_module.modules()):
            raise InputError(
                f"the distiller's student is not inside {type(pl_module).__name__}; make the "
                "distiller of the very network that the module trains, such as `module.network`"
            )
        if not pl_module.automatic_optimization:
            raise InputError(
                f"{type(pl_module).__name__} optimizes by hand, so the callback cannot add to its "
                "loss; use mgd.integrations.Guided in its `training_step`"
            )
        self.guided.attach()
        self._add_to_step(pl_module)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Gives the module back as it was."""
        if stage == "fit":
            self.guided.detach()
            vars(pl_module).pop("training_step", None)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Checks that what the points train is trained."""
        self.guided.check_trained(trainer.optimizers)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Updates the matching where it is due."""
        self.guided.begin_epoch(trainer.current_epoch, trainer.train_dataloader)

    def state_dict(self) -> dict[str, Any]:
        """Returns the matching and the layers of the points, for the checkpoint."""
        return self.guided.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes back to a matching."""
        self.guided.load_state_dict(state_dict)

    def _add_to_step(self, pl_module: Any) -> None:
        step = pl_module.training_step

        # Inside of the step, since DDP looks for unused parameters in what the step returns.
        @functools.wraps(step)
        def training_step(batch: Any, *more: Any, **named: Any) -> Any:
            returned = step(batch, *more, **named)
            if returned is None:  # the module skips this batch
                return None
            distilled = self.guided.loss(find_labels(batch))
            _log(pl_module, distilled)
            return _with_teacher(returned, distilled.loss.mean())

        pl_module.training_step = training_step


def _with_teacher(returned: Any, teachers: Tensor) -> Any:
    if isinstance(returned, Mapping):
        return {**returned, "loss": returned["loss"] + teachers}
    return returned + teachers


def _log(pl_module: Any, distilled: Distilled) -> None:
    terms = distilled.terms.items()
    pl_module.log_dict({f"teacher/{name}": term.detach().mean() for name, term in terms})
