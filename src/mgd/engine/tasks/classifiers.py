"""Classifiers: the networks of a run, each with its classes and its view of the images."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mgd.data.transforms import Augment, random_changes
from mgd.engine.options.config import RunConfig
from mgd.engine.runtime.sync_bn import synchronize
from mgd.engine.tasks.classes import check_known, columns_of
from mgd.engine.tasks.trained import file_of, load_trained, metadata_of, read_trained
from mgd.errors import InputError
from mgd.inside import logits_of
from mgd.models import (
    PRETRAINED,
    Metadata,
    arch_of,
    build_for,
    create_model,
    is_code,
    is_exported,
    published_classes,
)
from mgd.models.weights import load_backbone
from mgd.views import View

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network of a run, and what the run knows of it."""

    name: str
    """As in `mgd.create_model`; of an exported network the file."""
    network: nn.Module
    view: View
    weights: str
    """Where its weights come from, for a message."""
    view_from: str
    """Where its view comes from, for a message."""
    columns: Tensor | None = None
    """Which of its outputs are the run's classes, in the run's order; `None`: all, as they are."""
    no_answers: str = ""
    """Why its outputs are not the run's classes, so that only its features can teach."""

    def logits(self, images: Tensor) -> Tensor:
        """Runs the network on images as it takes them; returns (B, K) of the run's classes."""
        return self.answers(self.network(images))

    def answers(self, output: Any) -> Tensor:
        """Returns the scores of the run's classes (B, K) in what the network returned."""
        scores = logits_of(output)
        # DataParallel asks for them on several devices.
        return scores if self.columns is None else scores[:, self.columns.to(scores.device)]


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
        return Metadata(arch=self.student.name, classes=self.classes, view=self.student.view)


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
    return config.replace(**found)


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
    teacher = _teacher(config, order, student.view, augment, device)
    _to(teacher.network, device, config)
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
    view, view_from = _with_given(view, view_from, given, "student")
    if metadata is None and not given.keys() & {"crop", "crop_pct"}:
        view = _as_trained(view, augment)
    return Classifier(name, network, view, weights, view_from), classes


def _to_go_on_with(
    name: str, path: str, classes: tuple[str, ...]
) -> tuple[nn.Module, Metadata | None]:
    """Creates a network for classes, with the weights of a file."""
    _check_trainable(path)
    state, metadata = read_trained(path)
    network = create_model(name, len(classes))
    known = metadata.classes if metadata is not None else ()
    # A head for other classes is no start, even where there are as many of them.
    is_other = len(known) == len(classes) and set(known) != set(classes)
    load_backbone(network, state, path, _head(name, network, len(classes)) if is_other else ())
    return network, metadata


def _teacher(
    config: RunConfig,
    classes: tuple[str, ...],
    student: View,
    augment: Augment,
    device: torch.device,
) -> Classifier:
    name, path = config.teacher_name, config.networks.teacher_resume
    metadata: Metadata | None = None
    columns, no_answers = None, ""
    if path and is_exported(path):
        if not config.output.evaluate:
            _check_trainable(path)
        network, metadata = load_trained(path)
        weights = path
    elif path:
        state, metadata = read_trained(path)
        network = build_for(name, state, path, metadata, len(classes))
        weights = path
    elif config.networks.use_pretrained == 0:
        logger.warning("the teacher has random weights; give --teacher-resume FILE to teach")
        network, weights = create_model(name, len(classes)), "random weights"
    else:
        network, weights = create_model(name, len(classes), PRETRAINED), "published weights"
        if (published := published_classes(name)) != len(classes):
            no_answers = (
                f"its weights were published for {published} classes, the data has {len(classes)}, "
                "so that its last layer is made anew and random"
            )
    if metadata is not None and metadata.classes:
        columns, no_answers = columns_of(metadata.classes, classes, device)
    view, view_from = own_view(name, network, metadata)
    if metadata is None and weights != "published weights":
        # Nothing says how these weights were trained.
        view = _as_trained(view, augment)
        if config.views.size != "auto":
            view = view.replace(size=student.size, crop=student.crop, crop_pct=student.crop_pct)
            view_from = "size and crop as the student's"
    view, view_from = _with_given(view, view_from, config.views.given("teacher"), "teacher")
    return Classifier(name, network, view, weights, view_from, columns, no_answers)


def _check_trainable(path: str) -> None:
    if is_exported(path):
        raise InputError(
            f"'{path}' is an exported network: it can be run, but neither trained nor looked "
            "inside; give the run folder or the file of weights that it was exported from"
        )


def own_view(name: str, network: nn.Module, metadata: Metadata | None = None) -> tuple[View, str]:
    """Returns a network's own view, and where it comes from.

    Args:
        name: As in `create_model`; of an exported network the file.
        network: The network of that name.
        metadata: What the file of its weights says.
    """
    if metadata is not None:
        return metadata.view, "kept with its weights"
    if not is_code(name) and not is_exported(name):
        return View.from_network(name), "as published"
    # Networks of timm, made by the user's own function, have it.
    if isinstance(getattr(network, "pretrained_cfg", None), Mapping):
        return View.from_network(network), "as published"
    return View(), "ImageNet's, since nothing else is known"


def _as_trained(view: View, augment: Augment) -> View:
    """Returns a view of whole images, where the random changes of the training show them whole."""
    if random_changes(augment, view.size) == "imagenet":
        return view
    return view.replace(crop="squash", crop_pct=1.0)


def _with_given(view: View, view_from: str, given: dict[str, Any], whose: str) -> tuple[View, str]:
    if not given:
        return view, view_from
    try:
        return view.replace(**given), f"{view_from}, but for {', '.join(given)}"
    except InputError as error:
        raise InputError(f"the {whose}'s view: {error}") from error


def _head(name: str, network: nn.Module, num_classes: int) -> tuple[str, ...]:
    """Returns the names of the parameters whose shapes depend on the number of classes."""
    with torch.random.fork_rng(devices=()):
        # Not on the meta device, which the user's code may not know.
        more = create_model(name, num_classes + 1).state_dict()
    few = network.state_dict()
    return tuple(key for key in few if few[key].shape != more[key].shape)


def _to(network: nn.Module, device: torch.device, config: RunConfig) -> None:
    """Moves a network, in the memory format that the options ask for."""
    if config.devices.channels_last:
        # torch's stubs know this keyword in tensors' `to` alone.
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    else:
        network.to(device)
