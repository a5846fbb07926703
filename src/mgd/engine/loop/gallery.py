"""Gallery: the first and the last look at a few validation images, kept in the run folder."""

import logging
from pathlib import Path

import numpy as np
from torch import Tensor

from mgd.engine.loop.checkpoint import load_checkpoint
from mgd.engine.loop.supply import Supply
from mgd.engine.tasks.gallery import pictures_of
from mgd.engine.tasks.task import Task
from mgd.runfolder import Gallery, names, read_gallery, write_gallery

logger = logging.getLogger(__name__)

IMAGES = 6
"""Validation images in a gallery, spread over the classes as they lie in the data."""


def begin_gallery(task: Task, pipeline: Supply, folder: Path | None) -> None:
    """Writes the maps of the untrained student, before the first step; every rank calls it.

    Args:
        task: What will be trained, with a first matching.
        pipeline: Has the images.
        folder: Of the run, on rank 0, which writes; `None` on the others.

    Raises:
        RunError: If the file cannot be written.
    """
    for place in task.in_step([] if folder is None else [folder]):
        found = pipeline.gallery_images(IMAGES)
        begun = None if found is None else task.begin_gallery(*found)
        if begun is not None and begun.is_finite:
            write_gallery(place, begun)


def finish_gallery(task: Task, pipeline: Supply, folder: Path | None) -> None:
    """Adds the maps of the best epoch's weights, which rank 0's task has from then on.

    A run whose first steps were made elsewhere, or by an earlier version, has no gallery. Every
    rank calls it, at the end of the run.

    Args:
        task, pipeline, folder: As in `begin_gallery`.

    Raises:
        InputError: If a file of the run cannot be read.
        RunError: If the gallery cannot be written.
    """
    begun = None if folder is None else _begun(pipeline, folder)
    for place, gallery, images in task.in_step([] if begun is None else [begun]):
        task.load_state_dict(load_checkpoint(place / names.BEST_CHECKPOINT))
        ended = task.finish_gallery(images, gallery)
        if ended.is_finite:
            write_gallery(place, ended)
        else:
            logger.warning(
                "features of the teacher or the student are not finite numbers: the report shows "
                "no feature maps"
            )


def _begun(pipeline: Supply, folder: Path) -> tuple[Path, Gallery, Tensor] | None:
    """Returns the folder, its gallery and the images, if there is a gallery to be finished."""
    begun, found = read_gallery(folder), pipeline.gallery_images(IMAGES)
    if begun is None or found is None or not (folder / names.BEST_CHECKPOINT).is_file():
        return None
    images, _ = found
    if np.array_equal(pictures_of(images), begun.pictures):
        return folder, begun, images
    logger.warning(
        "the validation images are not those that the run began with: its report shows no feature "
        "maps"
    )
    return None
