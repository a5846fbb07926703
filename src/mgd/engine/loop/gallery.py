"""Gallery: the first and the last look at a few validation images, kept in the run folder."""

import logging
from pathlib import Path

import numpy as np

from mgd.engine.loop.checkpoint import load_checkpoint
from mgd.engine.loop.supply import Supply
from mgd.engine.tasks.gallery import pictures_of
from mgd.engine.tasks.task import Task
from mgd.runfolder import names, read_gallery, write_gallery

logger = logging.getLogger(__name__)

IMAGES = 6
"""Validation images in a gallery, spread over the classes as they lie in the data."""


def begin_gallery(task: Task, pipeline: Supply, folder: Path) -> None:
    """Writes the maps of the untrained student, before the first step; rank 0 alone calls it.

    Args:
        task: What will be trained, with a first matching.
        pipeline: Has the images.
        folder: Of the run.

    Raises:
        RunError: If the file cannot be written.
    """
    found = pipeline.gallery_images(IMAGES)
    if found is None:
        return
    begun = task.begin_gallery(*found)
    if begun is not None and begun.is_finite:
        write_gallery(folder, begun)


def finish_gallery(task: Task, pipeline: Supply, folder: Path) -> None:
    """Adds the maps of the best epoch's weights, which the task has from then on.

    A run whose first steps were made elsewhere, or by an earlier version, has no gallery. Rank 0
    alone calls it, at the end of the run.

    Raises:
        InputError: If a file of the run cannot be read.
        RunError: If the gallery cannot be written.
    """
    begun, best = read_gallery(folder), folder / names.BEST_CHECKPOINT
    found = pipeline.gallery_images(IMAGES)
    if begun is None or found is None or not best.is_file():
        return
    images, _ = found
    if not np.array_equal(pictures_of(images), begun.pictures):
        logger.warning(
            "the validation images are not those that the run began with: its report shows no "
            "feature maps"
        )
        return
    task.load_state_dict(load_checkpoint(best))
    ended = task.finish_gallery(images, begun)
    if not ended.is_finite:
        logger.warning(
            "features of the teacher or the student are not finite numbers: the report shows no "
            "feature maps"
        )
        return
    write_gallery(folder, ended)
