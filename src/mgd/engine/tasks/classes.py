"""Classes: those that a network knows against those of the data, matched by name."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mgd.engine.options.config import RunConfig
from mgd.errors import InputError
from mgd.models import published_classes, read_metadata


def teachers_classes(config: RunConfig, asked: Sequence[str]) -> tuple[str, ...]:
    """Returns the classes of a run's teacher, where no label to train with tells any.

    Args:
        config: The run.
        asked: Classes of the images to test on; none where there are no such images.

    Raises:
        InputError: If the teacher's are not known, or `asked` are not among them.
    """
    known = _classes_of_teacher(config)
    if unknown := sorted(set(asked) - set(known)):
        raise InputError(
            f"the teacher does not know the class '{unknown[0]}' of `valid` (the teacher has "
            f"{listed(known)}; `valid` has {listed(asked)}); rename or remove its folder"
        )
    return known


def _classes_of_teacher(config: RunConfig) -> tuple[str, ...]:
    name, path = config.teacher_name, config.networks.teacher_resume
    metadata = read_metadata(path) if path else None
    if metadata is not None and metadata.classes:
        return metadata.classes
    number = None if path or config.networks.use_pretrained == 0 else published_classes(name)
    if not number:
        raise InputError(
            f"nothing says which classes the teacher {name} knows, and without labels the "
            "student's are the same; give a teacher of a run (`teacher_resume=RUN`), or one whose "
            "published weights have classes"
        )
    return tuple(str(label) for label in range(number))


def columns_of(
    known: Sequence[str], asked: Sequence[str], device: torch.device
) -> tuple[Tensor | None, str]:
    """Finds the asked classes, by name, among those that a network knows.

    Args:
        known: The network's, in the order of its outputs.
        asked: The run's, in their order.
        device: Where to.

    Returns:
        Their columns in its outputs, `None` where these are the same; and what is wrong, if
        a class is missing.
    """
    if missing := sorted(set(asked) - set(known)):
        return None, (
            f"it does not know {len(missing)} of the classes (the network has {listed(known)}; the "
            f"data has {listed(asked)})"
        )
    if tuple(known) == tuple(asked):
        return None, ""
    places = {name: column for column, name in enumerate(known)}
    return torch.tensor([places[name] for name in asked], device=device), ""


def check_known(path: str, known: Sequence[str], asked: Sequence[str]) -> None:
    """Checks that a network that is measured knows every class of the data.

    Args:
        path: The network's file.
        known: Its classes.
        asked: Those of the data.

    Raises:
        InputError: If it does not, with both lists.
    """
    if unknown := sorted(set(asked) - set(known)):
        raise InputError(
            f"the network of '{path}' does not know the class '{unknown[0]}' of the data "
            f"(the network has {listed(known)}; the data has {listed(asked)}); evaluate it on its "
            "own classes"
        )


def listed(classes: Sequence[str], most: int = 12) -> str:
    """Returns how many classes there are, and their names in order: of many the first."""
    shown = ", ".join(classes[:most])
    return f"{len(classes)}: {shown}" + (", …" if len(classes) > most else "")
