"""Networks of a run: created, loaded and, for distillation, joined."""

import logging
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from mgd.distiller import Distiller
from mgd.engine.config import RunConfig
from mgd.errors import InputError
from mgd.models import PRETRAINED, create_model
from mgd.models.pairs import known_points
from mgd.models.weights import load_backbone, load_weights, num_classes_of, read_weights

logger = logging.getLogger(__name__)


def build_student(config: RunConfig, num_classes: int) -> nn.Module:
    """Creates the student, with pretrained or given weights if the flags say so."""
    pretrained = config.networks.use_pretrained == 1 or config.networks.pretrained
    path = config.networks.student_resume
    weights = PRETRAINED if pretrained and not path else None
    student = create_model(config.networks.arch, num_classes, weights)
    if path:
        load_backbone(student, read_weights(path), path)
    return student


def build_teacher(config: RunConfig, num_classes: int) -> nn.Module:
    """Creates the trained teacher; its class count comes from its file."""
    name, path = config.teacher_name, config.networks.teacher_resume
    if path:
        weights = read_weights(path)
        teacher = create_model(name, num_classes_of(weights))
        load_weights(teacher, weights, path)
        return teacher
    if config.networks.use_pretrained == 0:
        logger.warning("the teacher has random weights; give --teacher-resume FILE to teach")
        return create_model(name, num_classes)
    return create_model(name, num_classes, PRETRAINED)


def build_distiller(
    config: RunConfig, teacher: nn.Module, student: nn.Module, example: Tensor
) -> Distiller:
    """Joins the two at the points that the flags name."""
    options = config.distillation
    with_kd = options.distiller == "kd" or options.mgd_with_kd == 1
    return Distiller(
        teacher,
        student,
        points=_points(config),
        reducer=options.mgd_reducer,
        example=example,
        kd_temperature=options.kd_temperature if with_kd else None,
        solver=options.mgd_solver,
    )


def _points(config: RunConfig):  # type: ignore[no-untyped-def]
    if config.distillation.distiller == "kd":
        return ()
    given = config.distillation.points
    if given and given != "auto":
        return read_points(Path(given))
    known = known_points(config.teacher_name, config.networks.arch)
    return known if known and not given else "auto"
