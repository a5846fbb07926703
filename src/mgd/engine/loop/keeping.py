"""Keeping: has a run keep its teacher's answers, under a key of all that they depend on."""

import re
import socket
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import PIL
import torch
import torchvision
from lightning_fabric import Fabric
from lightning_fabric.strategies.dp import DataParallelStrategy

from mgd import ranks
from mgd.engine.loop.checkpoint import checksum
from mgd.engine.loop.pipeline import Pipeline
from mgd.engine.options.config import RunConfig
from mgd.engine.tasks.answer_store import GIB
from mgd.engine.tasks.classifier import Classifier
from mgd.engine.tasks.distillation import DistillationTask
from mgd.engine.tasks.kept_teacher import KeptTeacher
from mgd.engine.tasks.task import Task
from mgd.errors import InputError
from mgd.runfolder import names
from mgd.version import __version__


def keep_teacher(
    config: RunConfig, fabric: Fabric, pipeline: Pipeline, task: Task, path: Path
) -> str:
    """Has a task ask its teacher once for each view of an image, if the options say so.

    Args:
        config: The run.
        fabric: Launched.
        pipeline: Its data.
        task: Not yet set up for its devices.
        path: The run folder; nothing is written before the first step.

    Returns:
        A line about what is kept; empty where nothing is.

    Raises:
        InputError: If it is more than may be kept, or the ranks cannot share it.
    """
    options = config.distillation
    if not options.fixed_views or not isinstance(task, DistillationTask):
        return ""
    _check_ranks(fabric)
    given = options.teacher_views_dir
    home = Path(given) if given else path / names.KEPT_ANSWERS
    kept = KeptTeacher(
        task.distiller,
        len(task.classifiers.classes),
        home,
        answers_key(config, fabric, pipeline, task),
        options.teacher_views,
        len(pipeline.splits.trained_on),
    )
    kept.check_size(options.teacher_views_gib)
    task.kept = kept
    epochs = "1 epoch" if options.teacher_views == 1 else f"{options.teacher_views} epochs"
    return (
        f"the teacher runs in {epochs} and rests then: its answers to as "
        f"many views of each image are kept, {kept.store.num_bytes() / GIB:.2g} GiB in "
        f"'{kept.store.folder}'"
    )


def _check_ranks(fabric: Fabric) -> None:
    if isinstance(fabric.strategy, DataParallelStrategy):
        raise InputError(
            "`teacher_views` does not work with DataParallel, which asks the teacher on every "
            "device by itself; use `parallel=ddp` or `parallel=single`"
        )
    machines = set(ranks.gather_objects(socket.gethostname()))
    if len(machines) > 1:
        raise InputError(
            f"`teacher_views` keeps answers in files that all processes map into memory, and these "
            f"run on {len(machines)} machines; use one, or leave the option out"
        )


def answers_key(
    config: RunConfig, fabric: Fabric, pipeline: Pipeline, task: DistillationTask
) -> dict[str, Any]:
    """Returns all that the teacher's answers depend on, but for the view and the image number."""
    more, devices = config.augmentation, config.devices
    teacher = task.classifiers.teacher
    assert teacher is not None  # the task distils
    return {
        "digest of the images": pipeline.splits.trained_on.digest(),
        "changes": {
            "seed": config.schedule.seed,
            "crop": asdict(task.classifiers.largest_view),
            "augment": pipeline.augment,
            "auto_augment": more.auto_augment,
            "random_erase": more.random_erase,
        },
        "teacher": _teacher_key(teacher),
        "taps": [str(pair.teacher) for pair in task.distiller.points.pairs],
        "arithmetic": {
            "device": fabric.device.type,
            "precision": devices.precision,
            "teacher_precision": devices.teacher_precision,
            "fold_teacher": devices.fold_teacher,
            "channels_last": devices.channels_last,
            "compile": devices.compile,
        },
        # Other versions may decode or change an image in another way.
        "packages": {
            "mgd": __version__,
            **{module.__name__: module.__version__ for module in (torch, torchvision, PIL)},
        },
    }


def _teacher_key(teacher: Classifier) -> dict[str, Any]:
    # Its layers as they print themselves tell strides and sizes, which the weights do not.
    layers = re.sub("0x[0-9a-f]+", "", repr(teacher.network))
    columns = teacher.columns
    return {
        "name": teacher.name,
        "digest of the layers": sha256(layers.encode()).hexdigest(),
        "digest of the weights": checksum(teacher.network.state_dict()),
        "view": asdict(teacher.view),
        "columns": None if columns is None else columns.tolist(),
    }
