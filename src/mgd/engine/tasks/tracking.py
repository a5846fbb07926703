"""Tracking: which training steps feed the matching, so that an update needs no pass of its own."""

import torch.distributed as dist

from mgd.engine.options.config import RunConfig
from mgd.method.distiller import Distiller
from mgd.method.rematch import RematchSchedule, add_over_ranks


class OnlineTracking:
    """Lets the last training steps before an update add to the statistics of the points.

    The features are those of the student in training mode, on augmented images, while its weights
    move on; in exchange the update costs no forward pass. The statistics are buffers of the
    points, and so are in every checkpoint.

    Args:
        config: `mgd_tracking` says whether to do anything; `mgd_images` how many images to see.
        distiller: Not for DataParallel, whose replicas would lose what they add.
        rematch: Before which epochs there is an update.
        num_steps: Of an epoch.
    """

    def __init__(
        self,
        config: RunConfig,
        distiller: Distiller | None,
        rematch: RematchSchedule,
        num_steps: int,
    ):
        options, self.schedule = config.distillation, config.schedule
        self.distiller = distiller if options.mgd_tracking == "online" else None
        self.rematch = rematch
        batch_size = config.data.batch_size * config.devices.world_size
        self.first_step = max(0, num_steps - -(-options.mgd_images // batch_size))

    def has_tracked(self, epoch: int) -> bool:
        """Tells whether the update before this epoch can use what was tracked in the last one."""
        if self.distiller is None or epoch <= self.schedule.start_epoch:
            return False
        # None where every tracked step was skipped; the sums are of all ranks, so all agree.
        return all(sums.image_count for sums in self.distiller.running_sums())

    def before_step(self, epoch: int, step: int) -> None:
        """Switches tracking on for the steps before an update that will be used, afresh."""
        if self.distiller is None:
            return
        wanted = epoch + 1 < self.schedule.total_epochs and self.rematch.due(epoch + 1)
        self.distiller.tracking = wanted and step >= self.first_step
        if wanted and step == self.first_step:
            self._reset()

    def end_epoch(self) -> None:
        """Gives every rank what all ranks saw."""
        if self.distiller is not None and self.distiller.tracking:
            add_over_ranks(self.distiller)
            self.distiller.tracking = False

    def gather(self) -> None:
        """Moves all ranks' statistics to rank 0, which writes a checkpoint inside an epoch."""
        if self.distiller is None or not self.distiller.tracking or not dist.is_initialized():
            return
        for sums in self.distiller.running_sums():
            for statistic in sums.statistics():
                dist.reduce(statistic, dst=0)
        self.restore(step=1)

    def restore(self, step: int) -> None:
        """Leaves statistics loaded from inside an epoch to rank 0, whose sums are those of all."""
        if step and dist.is_initialized() and dist.get_rank() != 0:
            self._reset()

    def _reset(self) -> None:
        if self.distiller is not None:
            for sums in self.distiller.running_sums():
                sums.reset()
