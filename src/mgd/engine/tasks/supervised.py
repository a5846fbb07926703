"""Supervised training: a network learns from labels alone."""

from lightning_fabric import Fabric
from torch import Tensor, nn

from mgd.engine.tasks.task import Losses, Task, cross_entropy


class SupervisedTask(Task):
    """Trains a network on the cross-entropy.

    Args:
        student: (B, C, H, W) -> (B, K), on its device.
    """

    def __init__(self, student: nn.Module):
        self.student = student
        self._call = student

    @property
    def trained(self) -> nn.Module:
        """The student."""
        return self.student

    def setup(self, fabric: Fabric) -> None:
        """Wraps the student."""
        self._call = fabric.setup_module(self.student)

    def losses(self, images: Tensor, labels: Tensor) -> Losses:
        """Returns the logits and their cross-entropy; see `Task.losses`."""
        logits = self._call(images)
        return logits, {"ce": cross_entropy(logits, labels)}
