"""Tasks of detectors: on boxes alone, or under a teacher as well."""

from collections.abc import Callable, Sequence

from lightning_fabric import Fabric
from torch import Tensor, nn

from mgd.data.boxes import Target
from mgd.data.loading import Key
from mgd.engine.detection.detectors import Detectors
from mgd.engine.options.config import RunConfig
from mgd.engine.tasks.distillation import Images, TaughtTask
from mgd.engine.tasks.task import Losses, Task
from mgd.inside import Canvas
from mgd.method.distiller import Distiller
from mgd.method.learner import Distilled
from mgd.models import Metadata

Weights = Callable[[Sequence[Target], Canvas], object]
"""Gives the weights over positions, as `Distiller.guide` takes them, for the boxes of a batch."""


class DetectorTask(Task):
    """A task whose networks find boxes. Its labels teach by the losses of the detector itself.

    Args:
        detectors: The plain networks, as they are evaluated and saved.
    """

    def __init__(self, detectors: Detectors):
        self.detectors = detectors

    @property
    def student(self) -> nn.Module:
        """The plain detector that is trained."""
        return self.detectors.student.network

    @property
    def metadata(self) -> Metadata:
        """What belongs to the student's weights."""
        return self.detectors.student.metadata

    def _own_terms(self, losses: dict[str, Tensor], images: int) -> dict[str, Tensor]:
        """Returns the detector's losses, means over the batch, as one value an image."""
        given = zip(self.label_terms, self.detectors.student.losses, strict=True)
        return {term: losses[name].float().expand(images) for term, name in given}


def term_names(losses: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of a detector's losses as terms.

    Example:
        >>> term_names(("loss_classifier", "bbox_regression"))
        ('classifier', 'bbox_regression')
    """
    return tuple(name.removeprefix("loss_") for name in losses)


class SupervisedDetectorTask(DetectorTask):
    """Trains a detector on boxes alone.

    Args:
        detectors: With a student alone, on its device.
    """

    def __init__(self, detectors: Detectors):
        super().__init__(detectors)
        self.terms = self.label_terms = term_names(detectors.student.losses)
        self._call: nn.Module = self.student

    @property
    def trained(self) -> nn.Module:
        """The student."""
        return self.student

    def setup(self, fabric: Fabric) -> None:
        """Wraps the student."""
        self._call = fabric.setup_module(self.student)

    @property
    def wrapped(self) -> nn.Module:
        """The wrapped student."""
        return self._call

    def losses(
        self,
        images: list[Tensor],
        targets: list[Target],
        labelled: float = 1.0,
        seen: Sequence[Key] = (),
    ) -> Losses:
        """Returns the losses of the detector; see `Task.losses`."""
        return None, self._own_terms(self._call(images, targets), len(images))


class DetectorDistillationTask(DetectorTask, TaughtTask):
    """Trains a detector on boxes and under a teacher.

    Args:
        distiller: Both networks, joined, on their device.
        detectors: The same networks.
        config: The run.
        num_steps: Of an epoch.
        images: Gives training images for an update of the matching, this rank's share.
        weights: Of the positions that the teacher is followed at; `None` for equal ones.
    """

    def __init__(
        self,
        distiller: Distiller,
        detectors: Detectors,
        config: RunConfig,
        num_steps: int,
        images: Images,
        weights: Weights | None = None,
    ):
        DetectorTask.__init__(self, detectors)
        self.label_terms = term_names(detectors.student.losses)
        self._weights = weights
        TaughtTask.__init__(self, distiller, config, num_steps, images)

    def losses(
        self,
        images: list[Tensor],
        targets: list[Target],
        labelled: float = 1.0,
        seen: Sequence[Key] = (),
    ) -> Losses:
        """Returns the losses of the detector and the teacher's terms; see `Task.losses`."""
        weights = None
        if self._weights is not None:
            weights = self._weights(targets, self.distiller.canvas(images))
        guidance = self._guidance(images, seen, weights)
        distilled: Distilled = self._learner(images, None, guidance, targets)
        return None, {**self._own_terms(distilled.output, len(images)), **distilled.terms}
