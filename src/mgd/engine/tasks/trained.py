"""Trained networks from files; what a file does not say is taken from the run that wrote it."""

import logging
from dataclasses import replace
from pathlib import Path

from torch import nn

from mgd.data import DIGITS
from mgd.data.transforms import random_changes
from mgd.errors import InputError
from mgd.models import Metadata, arch_of, build_for, is_exported, load_network, read_metadata
from mgd.models.weights import StateDict, read_checkpoint
from mgd.runfolder import is_run, names, read_options
from mgd.views import View

logger = logging.getLogger(__name__)

_OF_A_RUN = (
    names.STUDENT,
    names.LAST_CHECKPOINT,
    names.PREVIOUS_CHECKPOINT,
    names.BEST_CHECKPOINT,
)


def file_of(path: Path) -> Path:
    """Returns the file of weights that a path means: a run's student, where it is a run folder."""
    return path / names.STUDENT if is_run(path) else path


def metadata_of(path: str | Path) -> Metadata | None:
    """Returns what a file says of its network, or else the run that wrote it.

    Raises:
        InputError: If the file cannot be read.
    """
    return read_metadata(path) or _of_earlier_version(Path(path))


def read_trained(path: str | Path) -> tuple[StateDict, Metadata | None]:
    """Reads weights as `read_checkpoint`, with what the run that wrote them says of them."""
    weights, metadata = read_checkpoint(path)
    return weights, metadata or _told(_of_earlier_version(Path(path)), path)


def load_trained(path: str | Path, arch: str = "") -> tuple[nn.Module, Metadata | None]:
    """Loads a network as `load_network`, with what the run that wrote it says of it."""
    if is_exported(path):
        return load_network(path)
    weights, metadata = read_trained(path)
    arch = arch or arch_of(metadata, path)
    network = build_for(arch, weights, str(path), metadata).eval()
    return network, replace(metadata, arch=arch) if metadata else None


def _of_earlier_version(file: Path) -> Metadata | None:
    """Returns what a run of version 0.2.0 or before was given, which kept it in `args.yaml` alone.

    Its view was ImageNet's: the centre with the augmentation of ImageNet, else all of the image.
    """
    if file.name not in _OF_A_RUN or not is_run(file.parent):
        return None
    options = read_options(file.parent / names.ARGS)
    size, augment = options["size"], options.get("augment", "auto")
    if not isinstance(size, int):  # of this version
        return None
    if augment == "auto" and options["data"] == DIGITS:
        augment = "shift"
    try:
        view = View(size=size)
    except InputError as error:
        raise InputError(f"'{file.parent / names.ARGS}': {error}") from error
    if random_changes(augment, size) != "imagenet":
        view = view.replace(crop="squash", crop_pct=1.0)
    return Metadata(arch=str(options["arch"]), classes=(), view=view)


def _told(metadata: Metadata | None, path: str | Path) -> Metadata | None:
    if metadata is not None:
        logger.warning(
            "'%s' is of an earlier version and does not tell its network; taken from %s: %s, %s; "
            "its classes are those of its data, sorted by name",
            path,
            Path(path).parent / names.ARGS,
            metadata.arch,
            metadata.view,
        )
    return metadata
