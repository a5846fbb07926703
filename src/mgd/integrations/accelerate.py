"""accelerate: a student that is guided in a plain loop with an Accelerator."""

from collections.abc import Iterable
from typing import Any

from mgd.errors import import_extra
from mgd.integrations.guided import Guided
from mgd.method.distiller import Distiller
from mgd.method.matcher import MatchingReport

import_extra("accelerate", "accelerate", "mgd.integrations.accelerate")


class MatchingGuided(Guided):
    """Guides the student of a loop with accelerate.

    Make it before the optimizer and before `accelerator.prepare`, so that both know what the points
    train. Call `begin_epoch` before each epoch, and add `loss().loss.mean()` to the loss of each
    step. The teacher runs on the accelerator's device in its precision, outside of DDP.
    `accelerator.save_state` writes the matching into a file of its own, and `load_state` goes on
    with it; the student's file is the student alone.

    Args:
        distiller: Joins teacher and student.
        accelerator: The `accelerate.Accelerator` of the loop.
        **schedule: `every_epochs`, `max_images` and `images` of `mgd.integrations.Guided`.

    Raises:
        InputError: As `Guided`.
    """

    def __init__(self, distiller: Distiller, accelerator: Any, **schedule: Any):
        super().__init__(distiller, autocast=accelerator.autocast, **schedule)
        self._accelerator = accelerator
        self.attach()
        accelerator.register_for_checkpointing(self)

    def begin_epoch(self, epoch: int, loader: Iterable[Any]) -> list[MatchingReport]:
        """Solves the matching anew if it is due; see `Guided.begin_epoch`.

        Args:
            epoch: Counted from 0.
            loader: The training loader, as `accelerator.prepare` returned it.

        Raises:
            InputError: If an optimizer was made too early.
        """
        # accelerate has no public list of what it prepared.
        self.check_trained(self._accelerator._optimizers)
        return super().begin_epoch(epoch, loader)
