"""Classifiers: the networks of a run, each with its classes and its view of the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from mgd.data.transforms import Augment
from mgd.engine.options.config import RunConfig
from mgd.engine.runtime.sync_bn import synchronize
from mgd.engine.tasks.classes import check_known
from mgd.engine.tasks.classifier import (
    Classifier,
    as_trained,
    check_trainable,
    own_view,
    with_given,
)
from mgd.engine.tasks.pruning import ChannelPruner
from mgd.engine.tasks.teacher import build_teacher, without_answers
from mgd.engine.tasks.trained import file_of, load_trained, metadata_of, read_trained
from mgd.errors import InputError
from mgd.models import (
    PRETRAINED,
    Metadata,
    arch_of,
    create_for,
    create_model,
    head,
    is_exported,
)
from mgd.models.qat import round_in_training
from mgd.models.weights import load_backbone
from mgd.views import View


@dataclass(frozen=True)
class Classifiers:
    """The networks of a run, and the classes that they are asked for."""

    student: Classifier
    teacher: Classifier | None
    classes: tuple[str, ...]
    """In the order of the student's outputs."""

    @property
    def answering_teacher(self) -> Classifier | None:
        """The teacher, if its outputs are the run's classes, so that its accuracy can be told."""
        return None if self.teacher is None or self.teacher.no_answers else self.teacher

    @property
    def every(self) -> list[Classifier]:
        """The student, and the teacher if there is one."""
        return [each for each in (self.student, self.teacher) if each is not None]

    @property
    def largest_view(self) -> View:
        """The student's view, at the size of the network that sees the most."""
        return self.student.view.replace(size=max(each.view.size for each in self.every))

    @property
    def metadata(self) -> Metadata:
        """What is kept with the student's weights."""
        student = self.student
        return Metadata(
            arch=student.name, classes=self.classes, view=student.view, pruned=student.pruned
        )


def with_names(config: RunConfig) -> RunConfig:
    """Fills in which networks the files of the run are of, and which files its run folders mean.

    Raises:
        InputError: If a file cannot be read, or does not tell its network where no option does.
    """
    networks, found = config.networks, {}
    for path, name in (("student_resume", "arch"), ("teacher_resume", "teacher")):
        if not (given := getattr(networks, path)):
            continue
        file = found[path] = str(file_of(Path(given)))
        if getattr(networks, name):
            continue
        metadata = metadata_of(file)
        if is_exported(file):
            found[name] = metadata.arch if metadata else file
        elif metadata is not None:
            found[name] = arch_of(metadata, file)
    found.setdefault("arch", config.student_name)
    config = config.replace(**found)
    networks = config.networks
    if networks.is_compressed and not (networks.teacher or networks.teacher_resume):
        # Its teacher is itself, as it is before it is made smaller.
        return config.replace(teacher=networks.arch, teacher_resume=networks.student_resume)
    return config


def build_classifiers(
    config: RunConfig, classes: Sequence[str], augment: Augment, device: torch.device
) -> Classifiers:
    """Creates the student and, if the run has one, the teacher, on the device.

    A training run has a teacher if it distils; an evaluation, if one is named.

    Args:
        config: The run, with the names of its networks.
        classes: Of its data, in their order there.
        augment: The random changes of the training images; see `ViewConfig.crop`.
        device: Where to.

    Raises:
        InputError: For networks or weights that cannot be had, or whose classes are others.
    """
    student, order = _student(config, tuple(classes), augment)
    if config.devices.sync_bn:
        synchronize(student.network)
    _to(student.network, device, config)
    named = bool(config.networks.teacher or config.networks.teacher_resume)
    distils = config.distillation.distiller != "none"
    if not (named if config.output.evaluate else distils):
        return Classifiers(student, None, order)
    teacher = build_teacher(config, order, student.view, augment, device)
    _to(teacher.network, device, config)
    teacher = without_answers(teacher, len(order), device)
    if teacher.no_answers and (config.output.evaluate or config.distillation.asks_for_logits):
        raise InputError(
            f"the teacher {teacher.name} ({teacher.weights}) cannot answer: {teacher.no_answers}; "
            "train it on this data first (mgd train), or let its features alone teach: "
            "`distiller=mgd` without `mgd_with_kd`"
        )
    return Classifiers(student, teacher, order)


def _student(
    config: RunConfig, classes: tuple[str, ...], augment: Augment
) -> tuple[Classifier, tuple[str, ...]]:
    """Returns the student, and the run's classes in the order of its outputs."""
    options, name = config.networks, config.student_name
    path = options.student_resume
    metadata: Metadata | None = None
    if config.output.evaluate and path:
        network, metadata = load_trained(path, name)
        if metadata is not None and metadata.classes:
            check_known(path, metadata.classes, classes)
            classes = metadata.classes
        weights = path
    elif path:
        network, metadata = _to_go_on_with(name, path, classes)
        if metadata is not None and set(metadata.classes) == set(classes):
            classes = metadata.classes
        weights = path
    else:
        pretrained = options.use_pretrained == 1 or options.pretrained
        network = create_model(name, len(classes), PRETRAINED if pretrained else None)
        weights = "published weights" if pretrained else "random weights"
    view, view_from = own_view(name, network, metadata)
    given = config.views.given("student")
    view, view_from = with_given(view, view_from, given, "student")
    if metadata is None and not given.keys() & {"crop", "crop_pct"}:
        view = as_trained(view, augment)
    pruned = metadata is not None and metadata.pruned
    if not config.output.evaluate:
        network, pruned = _compressed(network, pruned, config, view, len(classes))
    return Classifier(name, network, view, weights, view_from, pruned=pruned), classes


def _compressed(
    network: nn.Module, pruned: bool, config: RunConfig, view: View, num_classes: int
) -> tuple[nn.Module, bool]:
    """Makes a student smaller, as the options say; returns it, and whether channels are gone."""
    options = config.networks
    if options.prune_channels:
        share, size, channels = options.prune_channels, view.size, view.num_channels
        pruner = ChannelPruner(config.student_name, num_classes, share, size, channels)
        network, pruned = pruner.prune(network), True
    if options.qat:
        round_in_training(network)
    return network, pruned


def _to_go_on_with(
    name: str, path: str, classes: tuple[str, ...]
) -> tuple[nn.Module, Metadata | None]:
    """Creates a network for classes, with the weights of a file."""
    check_trainable(path)
    state, metadata = read_trained(path)
    network = create_for(name, state, path, metadata, len(classes))
    known = metadata.classes if metadata is not None else ()
    # A head for other classes is no start, even where there are as many of them.
    is_other = len(known) == len(classes) and set(known) != set(classes)
    load_backbone(network, state, path, head(name, len(classes)) if is_other else ())
    return network, metadata


def _to(network: nn.Module, device: torch.device, config: RunConfig) -> None:
    """Moves a network, in the memory format that the options ask for."""
    if config.devices.channels_last:
        # torch's stubs know this keyword in tensors' `to` alone.
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    else:
        network.to(device)
