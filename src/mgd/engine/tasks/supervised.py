"""Supervised training: a network learns from labels alone."""

from collections.abc import Sequence

from lightning_fabric import Fabric
from torch import Tensor, nn

from mgd.data.loading import Key
from mgd.engine.tasks.classifiers import Classifiers
from mgd.engine.tasks.label_term import LabelTerm
from mgd.engine.tasks.task import ClassifierTask, Losses
from mgd.views import Preprocess


class SupervisedTask(ClassifierTask):
    """Trains a network on the cross-entropy.

    Args:
        classifiers: With a student alone, on its device.
        label_term: The cross-entropy.
    """

    def __init__(self, classifiers: Classifiers, label_term: LabelTerm):
        self.classifiers, self._label_term = classifiers, label_term
        self._call: nn.Module = self.student
        self._preprocess = Preprocess(classifiers.student.view)

    @property
    def trained(self) -> nn.Module:
        """The student."""
        return self.student

    def setup(self, fabric: Fabric) -> None:
        """Wraps the student."""
        self._call = fabric.setup_module(self.student)
        self._preprocess.to(fabric.device)

    @property
    def wrapped(self) -> nn.Module:
        """The wrapped student."""
        return self._call

    def losses(
        self, images: Tensor, targets: Tensor, labelled: float = 1.0, seen: Sequence[Key] = ()
    ) -> Losses:
        """Returns the logits and their cross-entropy; see `Task.losses`."""
        logits = self.classifiers.student.answers(self._call(self._preprocess(images)))
        return logits.detach(), {"ce": self._label_term.loss(logits, targets, labelled)}
