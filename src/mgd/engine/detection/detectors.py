"""Detectors: the networks of a run, with their classes and the size at which they see images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from mgd.engine.options.config import RunConfig
from mgd.engine.tasks.classes import listed
from mgd.engine.tasks.trained import file_of
from mgd.errors import InputError
from mgd.models import Metadata, create_detector, is_detector, read_metadata
from mgd.models.detector_names import parse_detector
from mgd.models.detectors import LOSSES
from mgd.models.weights import load_weights, read_checkpoint
from mgd.views import View

DEFAULT = "retinanet/resnet18"
"""The student where nothing names one."""
SIZE = 640
"""Pixels of the longer side of an image, where neither an option nor a file says another."""


@dataclass(frozen=True, eq=False)
class Detector:
    """A network of a run, and what the run knows of it."""

    name: str
    """As in `mgd.models.create_detector`."""
    network: nn.Module
    size: int
    """Pixels to which it resizes the longer side of an image."""
    weights: str
    """Where its weights come from, for a message."""
    classes: tuple[str, ...]
    """The first has the label 1."""

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of what it returns in training mode, in their order."""
        return LOSSES[parse_detector(self.name).head]

    @property
    def num_parameters(self) -> int:
        """Of the network."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def metadata(self) -> Metadata:
        """What is kept with its weights."""
        is_fixed = parse_detector(self.name).head == "ssdlite"
        view = View(size=self.size, crop="squash" if is_fixed else "border", crop_pct=1.0)
        return Metadata(arch=self.name, classes=self.classes, view=view)


@dataclass(frozen=True)
class Detectors:
    """The networks of a run."""

    student: Detector
    teacher: Detector | None

    @property
    def answering_teacher(self) -> Detector | None:
        """The teacher, if its classes are the run's, so that its precision can be told."""
        teacher = self.teacher
        return teacher if teacher and teacher.classes == self.student.classes else None


def detector_metadata(path: str | Path) -> Metadata | None:
    """Returns what a run folder or a file says of its network, if that is a detector.

    Raises:
        InputError: If the file cannot be read.
    """
    file = file_of(Path(path))
    if file.suffix not in (".safetensors", ".ckpt", ".pth", ".pt", ".tar"):
        return None
    metadata = read_metadata(file) if file.is_file() else None
    return metadata if metadata is not None and is_detector(metadata.arch) else None


def is_of_detectors(config: RunConfig) -> bool:
    """Tells whether the student of a run is a detector."""
    networks = config.networks
    if networks.arch or not networks.student_resume:
        return is_detector(networks.arch)
    return detector_metadata(networks.student_resume) is not None


def with_detector_names(config: RunConfig) -> RunConfig:
    """Fills in which detectors the files of the run are of, and at which size they see images.

    Raises:
        InputError: If a file does not tell its network, a name is no detector's, or two sizes
            contradict each other.
    """
    networks = config.networks
    found: dict[str, object] = {}
    sizes: dict[str, int] = {}
    if config.views.size != "auto":
        sizes["`size`"] = int(config.views.size)
    for path, name in (("teacher_resume", "teacher"), ("student_resume", "arch")):
        if given := getattr(networks, path):
            file = file_of(Path(given))
            metadata = detector_metadata(file)
            if metadata is None and not getattr(networks, name):
                raise InputError(
                    f"'{given}' is no detector of a run; give a run folder of mgd train-detector, "
                    f"or name the network with `{name}`"
                )
            found[path] = str(file)
            if metadata is not None:
                found[name] = getattr(networks, name) or metadata.arch
                sizes.setdefault("a file", metadata.view.size)
    found.setdefault("arch", networks.arch or DEFAULT)
    found["size"] = next(iter(sizes.values()), SIZE)
    config = config.replace(**found)
    parse_detector(config.networks.arch)
    if config.networks.teacher:
        parse_detector(config.networks.teacher)
    return config


def build_detectors(config: RunConfig, classes: Sequence[str], device: torch.device) -> Detectors:
    """Creates the student and, if the run has one, the teacher, on the device.

    Args:
        config: The run, with the names of its networks.
        classes: Of its data, in their order.
        device: Where to.

    Raises:
        InputError: For networks or weights that cannot be had, or whose classes are others.
    """
    networks, student_of = config.networks, tuple(classes)
    student = _build(config, networks.arch, networks.student_resume, student_of)
    if student.classes != student_of:
        raise InputError(
            f"'{networks.student_resume}' finds {listed(student.classes)}; the data has "
            f"{listed(student_of)}: give data of the same classes, in the same order"
        )
    student.network.to(device)
    distils = config.distillation.distiller != "none"
    if not (networks.teacher_resume if config.output.evaluate else distils):
        return Detectors(student, None)
    if not networks.teacher_resume:
        raise InputError(
            "`teacher_resume` is missing: a detector has no published weights for your classes; "
            "train a teacher with mgd train-detector, and give its run folder"
        )
    teacher = _build(config, networks.teacher, networks.teacher_resume, student_of)
    teacher.network.to(device)
    return Detectors(student, teacher)


def _build(config: RunConfig, name: str, path: str, classes: tuple[str, ...]) -> Detector:
    assert config.views.size != "auto"  # the names are filled in
    size = int(config.views.size)
    if not path:
        pretrained = config.networks.use_pretrained == 1
        weights = "published weights of the backbone" if pretrained else "random weights"
        network = create_detector(name, len(classes), size, pretrained)
        return Detector(name, network, size, weights, classes)
    return load_detector(path, name, size, classes)


def load_detector(
    path: str | Path, name: str = "", size: int | None = None, classes: Sequence[str] = ()
) -> Detector:
    """Loads a trained detector from its file.

    Args:
        path: The file.
        name: The network, where the file does not tell it.
        size: Of the images; by default as in its training.
        classes: Where the file does not tell them.

    Raises:
        InputError: If the file cannot be read, or does not fit or tell the network.
    """
    state, metadata = read_checkpoint(path)
    name = name or (metadata.arch if metadata else "")
    parse_detector(name)
    if metadata is not None:
        classes, size = metadata.classes, size or metadata.view.size
    network = create_detector(name, len(classes), size or SIZE)
    load_weights(network, state, str(path))
    return Detector(name, network, size or SIZE, str(path), tuple(classes))
