"""Tracking: which training steps feed the matching, so that an update needs no pass of its own."""

from mgd import ranks
from mgd.engine.options.config import RunConfig
from mgd.method.distiller import Distiller
from mgd.method.rematch import RematchSchedule, add_over_ranks


class OnlineTracking:
    """Says which training steps before an update add to the statistics of the points.

    The features are those of the student in training mode, on augmented images, while its weights
    change; in exchange the update costs no forward pass. The statistics are buffers of the points,
    and so are in every checkpoint.

    Args:
        config: `mgd_tracking` says whether to track at all; `mgd_images` how many images to see.
        distiller: Whose points have the statistics.
        rematch: Before which epochs there is an update.
        num_steps: Of an epoch.
    """

    def __init__(
        self, config: RunConfig, distiller: Distiller, rematch: RematchSchedule, num_steps: int
    ):
        options, self.schedule = config.distillation, config.schedule
        self.distiller, self.rematch = distiller, rematch
        self.is_wanted = options.mgd_tracking == "online"
        self.is_on = False
        """Whether the step that comes is tracked."""
        in_step = config.data.batch_size * config.schedule.grad_accum_steps
        in_step *= config.devices.world_size
        self.first_step = max(0, num_steps - -(-options.mgd_images // in_step))

    def has_tracked(self, epoch: int) -> bool:
        """Tells whether the update before this epoch can use what was tracked in the last one."""
        if not self.is_wanted or epoch <= self.schedule.start_epoch:
            return False
        # None where every tracked step was skipped; the sums are of all ranks, so all agree.
        return all(sums.image_count for sums in self.distiller.points.running_sums())

    def begin_step(self, epoch: int, step: int) -> None:
        """Switches tracking on for the steps before an update that will be used, from zero."""
        if not self.is_wanted:
            return
        is_used = epoch + 1 < self.schedule.total_epochs and self.rematch.due(epoch + 1)
        self.is_on = is_used and step >= self.first_step
        if is_used and step == self.first_step:
            self._reset()

    def end_epoch(self) -> None:
        """Gives every rank what all ranks saw."""
        if self.is_on:
            add_over_ranks(self.distiller)
            self.is_on = False

    def gather(self) -> None:
        """Moves all ranks' statistics to rank 0, which writes a checkpoint inside an epoch."""
        if self.is_on:
            sums = self.distiller.points.running_sums()
            ranks.sum_on_first(tensor for each in sums for tensor in each.statistics())

    def state_dict(self) -> dict[str, bool]:
        """Tells whether the statistics beside it are those of an epoch that goes on."""
        return {"is_on": self.is_on}

    def load_state_dict(self, state: dict[str, bool]) -> None:
        """Leaves statistics from inside an epoch to rank 0, whose sums are those of all ranks."""
        if state["is_on"] and ranks.rank() != 0:
            self._reset()

    def _reset(self) -> None:
        for sums in self.distiller.points.running_sums():
            sums.reset()
