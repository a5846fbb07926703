"""From options to a task: the networks of a run, joined where it distils."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mgd.engine.options.config import RunConfig, read_yaml
from mgd.engine.runtime.sync_bn import synchronize
from mgd.engine.tasks.classifier import Classifier
from mgd.engine.tasks.classifiers import Classifiers
from mgd.engine.tasks.distillation import DistillationTask, Images
from mgd.engine.tasks.folding import fold_batch_norms
from mgd.engine.tasks.label_term import LabelTerm
from mgd.engine.tasks.supervised import SupervisedTask
from mgd.engine.tasks.task import Task
from mgd.engine.tasks.trial import try_networks
from mgd.errors import InputError
from mgd.inside import PairLike, points_from_plain
from mgd.method.choices import PointMaker
from mgd.method.distiller import Distiller
from mgd.method.weights import logit_weight
from mgd.models.pairs import known_points
from mgd.own_code import import_own
from mgd.views import Preprocess, View

DTYPES = {"": None, "32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def build_task(
    config: RunConfig,
    classifiers: Classifiers,
    example: Tensor,
    num_steps: int,
    images: Images,
    class_weights: Tensor | None = None,
) -> Task:
    """Builds what a run trains.

    Args:
        config: The run.
        classifiers: The networks, on their device; without a teacher for supervised training.
        example: A batch of training images, uint8.
        num_steps: Of an epoch.
        images: Gives training images for an update of the matching; see `DistillationTask`.
        class_weights: Of the cross-entropy, (K,) on the device; `None` for equal ones.

    Raises:
        InputError: As `try_networks` and `build_distiller`.
    """
    try_networks(classifiers, example)
    student, teacher = classifiers.student, classifiers.teacher
    if teacher is None:
        if config.devices.compile:
            student.network.compile()
        smoothing = config.labels.label_smoothing
        label_term = LabelTerm(smoothing=smoothing, class_weights=class_weights)
        return SupervisedTask(classifiers, label_term)
    distiller = build_distiller(
        config,
        teacher.network,
        student.network,
        example,
        teacher_view=teacher.view,
        student_view=student.view,
        teacher_output=teacher.answers,
    )
    return DistillationTask(distiller, classifiers, config, num_steps, images, class_weights)


def build_distiller(
    config: RunConfig,
    teacher: nn.Module,
    student: nn.Module,
    example: Tensor,
    *,
    teacher_view: View | None = None,
    student_view: View | None = None,
    teacher_output: Callable[[Any], Tensor] | None = None,
) -> Distiller:
    """Joins two networks as the options say: the one place where options become a distiller.

    Args:
        config: Its names of the networks choose the known points; its distillation and device
            options are those of the distiller.
        teacher, student: On the device of `example`. The teacher's BatchNorms are folded, where
            `fold_teacher` says so.
        example: A batch of images, as the networks take them or, with views, uint8.
        teacher_view, student_view, teacher_output: As in `mgd.Distiller`.

    Raises:
        InputError: As `mgd.Distiller`, and for a file of points that cannot be read.
    """
    options, devices = config.distillation, config.devices
    distiller = Distiller(
        teacher,
        student,
        example,
        points=choose_points(config, teacher, student),
        reducer=options.mgd_reducer,
        feature_weight=options.feature_weight,
        kd_weight=options.logit_weight,
        kd_temperature=options.kd_temperature,
        kd=options.kd,
        dkd_beta=options.dkd_beta,
        loss_factor=None if options.loss_factor == "auto" else options.loss_factor,
        solver=options.mgd_solver,
        method=_method(options.distiller),
        teacher_precision=DTYPES[devices.teacher_precision],
        teacher_view=teacher_view,
        student_view=student_view,
        teacher_output=teacher_output,
    )
    if devices.fold_teacher:
        seen = Preprocess(teacher_view).to(example.device)(example) if teacher_view else example
        fold_batch_norms(teacher, seen, [pair.teacher for pair in distiller.points.pairs])
    if devices.sync_bn:
        synchronize(distiller.points)
    if devices.compile:
        compile_networks(distiller)
    return distiller


def _method(distiller: str) -> str | PointMaker:
    if ":" in distiller:
        own: PointMaker = import_own("distiller", distiller)
        return own
    return "mgd" if distiller == "kd" else distiller


def choose_logits(
    config: RunConfig, teacher: Classifier | None, labels_per_class: float
) -> tuple[RunConfig, str]:
    """Decides how much the logits teach beside the features, where no option says so.

    Whether they do is open where some images have no label; elsewhere only the user adds them.
    Where labels are many, the logits say nearly the same as they do, and share their weight: with
    more on the classes altogether the features count too little. Where labels are few, the last
    layer needs both in full (docs/evidence.md).

    Args:
        config: The run.
        teacher: Its teacher, if it has one.
        labels_per_class: Labelled training images for each class, on average.

    Returns:
        The run with what was decided; and a line about it, where something was.
    """
    options, data = config.distillation, config.data
    if options.distiller in ("none", "kd") or options.mgd_with_kd == 0:
        return config, ""
    has_unlabelled = bool(data.unlabelled) or data.label_free
    weight, labels = logit_weight(labels_per_class), f"{labels_per_class:.0f} labels of a class"
    if options.mgd_with_kd == 1:
        if has_unlabelled or (options.kd_weight, options.ce_weight) != ("auto", "auto"):
            return config, ""
        share = 1 if weight else 0.5
        return config.replace(kd_weight=share, ce_weight=share), (
            f"labels and logits weigh {share} each, with {labels} (see --ce-weight)"
        )
    if not data.unlabelled or teacher is None or teacher.no_answers:
        return config, ""
    if options.kd_weight != "auto":
        return config.replace(mgd_with_kd=1), ""
    if not weight:
        return config, f"the features teach without the logits, with {labels} (see --mgd-with-kd)"
    config = config.replace(mgd_with_kd=1, kd_weight=weight)
    return config, f"the logits teach too, at weight {weight:.2g}, with only {labels}"


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
        return points_from_plain(teacher, student, read_points(Path(given)))
    known = known_points(config.teacher_name, config.student_name)
    return known if known and not given else "auto"


def read_points(path: Path) -> list[object]:
    """Reads the file of `--points`.

    Raises:
        InputError: If it is no YAML list.
    """
    entries = read_yaml(path, "--points")
    if not isinstance(entries, list):
        raise InputError(f"--points {path} holds no list; make one with mgd points --format yaml")
    return entries
