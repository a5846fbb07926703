"""Networks of a run: created, loaded and, for distillation, joined."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from mgd.engine.options.config import RunConfig, read_yaml
from mgd.engine.runtime.sync_bn import synchronize
from mgd.engine.tasks.distillation import DistillationTask, Images
from mgd.engine.tasks.folding import fold_batch_norms
from mgd.engine.tasks.supervised import SupervisedTask
from mgd.engine.tasks.task import Task
from mgd.errors import InputError
from mgd.inside import PairLike, points_from_plain
from mgd.method.distiller import Distiller
from mgd.models import PRETRAINED, create_model, load_trained
from mgd.models.pairs import known_points
from mgd.models.weights import load_backbone, read_weights

logger = logging.getLogger(__name__)

DTYPES = {"": None, "32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def build_networks(
    config: RunConfig, num_classes: int, device: torch.device
) -> tuple[nn.Module, nn.Module | None]:
    """Creates the student and, if the run has one, the teacher, on the device.

    A training run has a teacher if it distils; an evaluation, if one is named.

    Args:
        config: The run.
        num_classes: Of its data.
        device: Where to.

    Raises:
        InputError: For networks or weights that cannot be had.
    """
    named = bool(config.networks.teacher or config.networks.teacher_resume)
    distils = config.distillation.distiller != "none"
    student = _student(config, num_classes)
    if config.devices.sync_bn:
        student = synchronize(student)
    teacher = None
    if named if config.output.evaluate else distils:
        teacher = _to(_teacher(config, num_classes), device, config)
    return _to(student, device, config), teacher


def _student(config: RunConfig, num_classes: int) -> nn.Module:
    pretrained = config.networks.use_pretrained == 1 or config.networks.pretrained
    path = config.networks.student_resume
    if config.output.evaluate and path:
        return load_trained(config.networks.arch, path, num_classes)
    weights = PRETRAINED if pretrained and not path else None
    student = create_model(config.networks.arch, num_classes, weights)
    if path:
        load_backbone(student, read_weights(path), path)
    return student


def _teacher(config: RunConfig, num_classes: int) -> nn.Module:
    name, path = config.teacher_name, config.networks.teacher_resume
    if path:
        return load_trained(name, path, num_classes)
    if config.networks.use_pretrained == 0:
        logger.warning("the teacher has random weights; give --teacher-resume FILE to teach")
        return create_model(name, num_classes)
    return create_model(name, num_classes, PRETRAINED)


def build_task(
    config: RunConfig,
    student: nn.Module,
    teacher: nn.Module | None,
    example: Tensor,
    num_steps: int,
    images: Images,
) -> Task:
    """Builds what a run trains.

    Args:
        config: The run.
        student: On its device.
        teacher: On the same device; `None` for supervised training.
        example: A batch of images as the networks take them.
        num_steps: Of an epoch.
        images: Gives training images for an update of the matching; see `DistillationTask`.
    """
    if teacher is None:
        if config.devices.compile:
            student.compile()
        return SupervisedTask(student)
    return DistillationTask(
        build_distiller(config, teacher, student, example), config, num_steps, images
    )


def build_distiller(
    config: RunConfig, teacher: nn.Module, student: nn.Module, example: Tensor
) -> Distiller:
    """Joins two networks as the options say: the one place where options become a distiller.

    Args:
        config: Its names of the networks choose the known points; its distillation and device
            options are those of the distiller.
        teacher, student: On the device of `example`. The teacher's BatchNorms are folded, where
            `fold_teacher` says so.
        example: A batch of images as the networks take them.

    Raises:
        InputError: As `mgd.Distiller`, and for a file of points that cannot be read.
    """
    options, devices = config.distillation, config.devices
    with_kd = options.distiller == "kd" or options.mgd_with_kd == 1
    distiller = Distiller(
        teacher,
        student,
        example,
        points=choose_points(config, teacher, student),
        reducer=options.mgd_reducer,
        feature_weight=options.feature_weight,
        kd_weight=options.kd_weight if with_kd else 0.0,
        kd_temperature=options.kd_temperature,
        kd=options.kd,
        dkd_beta=options.dkd_beta,
        loss_factor=None if options.loss_factor == "auto" else options.loss_factor,
        solver=options.mgd_solver,
        method="mgd" if options.distiller == "kd" else options.distiller,
        teacher_precision=DTYPES[devices.teacher_precision],
    )
    if devices.fold_teacher:
        fold_batch_norms(teacher, example, [pair.teacher for pair in distiller.points.pairs])
    if devices.sync_bn:
        synchronize(distiller.points)
    if devices.compile:
        compile_networks(distiller)
    return distiller


def compile_networks(distiller: Distiller, backend: str = "inductor") -> None:
    """Compiles the inner modules, before DDP wraps them; matching and losses stay as they are."""
    # Both networks also by themselves, as validation runs them.
    tapped = (distiller.frozen_teacher.tapped, distiller.learner.tapped_student)
    for module in (*tapped, distiller.teacher, distiller.student):
        module.compile(backend=backend)


def choose_points(
    config: RunConfig, teacher: nn.Module, student: nn.Module
) -> Literal["auto"] | Sequence[PairLike]:
    """Returns a run's points: the user's file, the known pair's, or "auto".

    Raises:
        InputError: If the file is no YAML list of points.
    """
    given = config.distillation.points
    if config.distillation.distiller == "kd":
        return ()
    if given not in ("", "auto"):
        return points_from_plain(teacher, student, _read_list(Path(given)))
    known = known_points(config.teacher_name, config.networks.arch)
    return known if known and not given else "auto"


def _read_list(path: Path) -> list[object]:
    entries = read_yaml(path, "--points")
    if not isinstance(entries, list):
        raise InputError(f"--points {path} holds no list; make one with mgd points --format yaml")
    return entries


def _to(network: nn.Module, device: torch.device, config: RunConfig) -> nn.Module:
    """Moves a network, in the memory format that the options ask for."""
    if config.devices.channels_last:
        # torch's stubs know this keyword in tensors' `to` alone.
        return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
    return network.to(device)
