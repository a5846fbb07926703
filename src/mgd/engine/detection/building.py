"""From options to a task of detectors."""

from collections.abc import Sequence

from torch import Tensor

from mgd.engine.detection.detectors import Detectors
from mgd.engine.detection.tasks import (
    DetectorTask,
    SupervisedDetectorTask,
)
from mgd.engine.options.config import RunConfig
from mgd.engine.tasks.distillation import Images


def build_detector_task(
    config: RunConfig,
    detectors: Detectors,
    example: Sequence[Tensor],
    num_steps: int,
    images: Images,
) -> DetectorTask:
    """Builds what a run trains.

    Args:
        config: The run.
        detectors: The networks, on their device; without a teacher for supervised training.
        example: A few training images from 0 to 1.
        num_steps: Of an epoch.
        images: Gives training images for an update of the matching; see `TaughtTask`.

    Raises:
        InputError: As `mgd.Distiller`.
    """
    if detectors.teacher is None:
        return SupervisedDetectorTask(detectors)
    raise NotImplementedError
