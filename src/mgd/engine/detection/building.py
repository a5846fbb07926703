"""From options to a task of detectors."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mgd.data.boxes import Target
from mgd.engine.detection.detectors import Detectors
from mgd.engine.detection.tasks import (
    DetectorDistillationTask,
    DetectorTask,
    SupervisedDetectorTask,
    Weights,
)
from mgd.engine.options.config import RunConfig
from mgd.engine.options.detectors import POINTS
from mgd.engine.tasks.building import DTYPES, read_points
from mgd.engine.tasks.distillation import Images
from mgd.errors import InputError
from mgd.inside import Canvas, PairLike, discover_points, evaluating, points_from_plain
from mgd.method.distiller import Distiller
from mgd.method.positions import box_weights, score_weights

_PYRAMID = ".fpn."
"""In the path of every level of a pyramid."""


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
    options = config.distillation
    teacher, student = detectors.teacher.network, detectors.student.network
    distiller = Distiller(
        teacher,
        student,
        [*example],
        points=choose_detector_points(options.points, teacher, student, example),
        reducer=options.mgd_reducer,
        feature_weight=options.feature_weight,
        loss_factor=None if options.loss_factor == "auto" else options.loss_factor,
        solver=options.mgd_solver,
        method=options.distiller,
        teacher_precision=DTYPES[config.devices.teacher_precision],
    )
    weights = _WEIGHTS[config.detection.position_weights]
    return DetectorDistillationTask(distiller, detectors, config, num_steps, images, weights)


def choose_detector_points(
    given: str, teacher: nn.Module, student: nn.Module, example: Sequence[Tensor]
) -> Sequence[PairLike]:
    """Returns a run's points: those of the user's file, or those that are found.

    Args:
        given: A word of `POINTS`, or a file; empty for "auto".
        teacher, student: The networks.
        example: A few images.

    Raises:
        InputError: If the file is no YAML list of points, or none of this kind is found.
    """
    kind = given or "auto"
    if kind not in POINTS:
        return points_from_plain(teacher, student, read_points(Path(kind)))
    with evaluating(teacher), evaluating(student), torch.no_grad():
        found = list(discover_points(teacher, student, [*example]))
    wanted = {"auto": (True, False), "pyramid": (True,), "backbone": (False,)}[kind]
    pairs = [pair for pair in found if (_PYRAMID in f".{pair.teacher}") in wanted]
    if not pairs:
        raise InputError(
            f"`points` (={kind}): none found where both networks have maps of equal size, of some "
            "pixels; give a larger `size`, another of "
            + ", ".join(POINTS)
            + ", or a file of points"
        )
    return pairs


def _by_boxes(targets: Sequence[Target], canvas: Canvas) -> Tensor:
    return box_weights([target["boxes"] for target in targets], canvas)


_WEIGHTS: dict[str, Weights | None] = {
    "none": None,
    "boxes": _by_boxes,
    "scores": lambda *_: score_weights,
}
