"""Loading: a trained network from its file, with what the file says of it."""

import logging
from pathlib import Path

import torch
from torch import nn

from mgd.errors import InputError
from mgd.models.creation import create_model, is_code
from mgd.models.exported import is_exported, read_exported
from mgd.models.metadata import Metadata
from mgd.models.weights import StateDict, load_weights, num_classes_of, read_checkpoint
from mgd.models.widths import fit_widths
from mgd.views import View

logger = logging.getLogger(__name__)


def load_network(path: str | Path, arch: str = "") -> tuple[nn.Module, Metadata | None]:
    """Loads a trained network from a file of this package, or from one of another project.

    Args:
        path: A file of weights as in `read_checkpoint`; or an exported `.pt2` or `.onnx` file.
        arch: The network that weights belong to, as in `create_model`. By default the one that the
            file names; needed where it names none, or one that is your code.

    Returns:
        The network in eval mode; and what the file says of it: its classes, and how it sees an
        image. `None` for a file of another project.

    Raises:
        InputError: If the file cannot be read, or does not fit or tell the network.

    Example:
        >>> import tempfile, torch, mgd
        >>> path = f"{tempfile.mkdtemp()}/weights.pth"
        >>> torch.save(mgd.create_model("cifar_resnet8", num_classes=3).state_dict(), path)
        >>> network, metadata = mgd.load_network(path, arch="cifar_resnet8")
        >>> network(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 3])
    """
    if is_exported(path):
        network, metadata = read_exported(path)
        return network.eval(), metadata
    weights, metadata = read_checkpoint(path)
    arch = arch or arch_of(metadata, path)
    return build_for(arch, weights, str(path), metadata).eval(), metadata


def read_metadata(path: str | Path) -> Metadata | None:
    """Reads what a file says of its network, as `load_network` would; `None` if it says nothing.

    Raises:
        InputError: If the file cannot be read.
    """
    return read_exported(path)[1] if is_exported(path) else read_checkpoint(path)[1]


def arch_of(metadata: Metadata | None, path: str | Path) -> str:
    """Returns the network that a file of weights names.

    Raises:
        InputError: If it names none, or one that is code: a file does not say what to run.
    """
    if metadata is None:
        raise InputError(f"'{path}' does not say which network it is of; name it with `arch`")
    if is_code(metadata.arch):
        raise InputError(
            f"'{path}' is of '{metadata.arch}', which is code; name it with `arch` to run it"
        )
    return metadata.arch


def assume_metadata(arch: str, path: str | Path) -> Metadata:
    """Returns what is most likely of a network whose file says nothing, and says so in the log.

    Args:
        arch: The network; its published view is taken.
        path: The file.
    """
    view = View() if is_code(arch) or is_exported(arch) else View.from_network(arch)
    logger.warning(
        "'%s' does not say its classes, nor how it sees an image; assumed: %s", path, view
    )
    return Metadata(arch=arch, classes=(), view=view)


def build_for(
    arch: str, weights: StateDict, source: str, metadata: Metadata | None, num_classes: int = 1000
) -> nn.Module:
    """Builds a network with given weights and as many classes as they have.

    Args:
        arch: As in `create_model`.
        weights: By name; all of the network's, and no others.
        source: What to call them in an error.
        metadata: Of the weights, where there are any.
        num_classes: The expected number of classes, where the metadata are missing. If it is
            right, the network is built once instead of twice.

    Raises:
        InputError: As `create_model` and `load_weights`; and where the metadata name another
            number of classes than the weights have.
    """
    classes = metadata.classes if metadata else ()
    expected = len(classes) or num_classes
    network = create_for(arch, weights, source, metadata, expected)
    found = num_classes_of(weights, network, expected)
    if classes and found != expected:
        raise InputError(
            f"'{source}' names {expected} classes, but its weights have {found} outputs; use "
            "another copy of the file, or export it again"
        )
    if found != expected:
        network = create_for(arch, weights, source, metadata, found)
    load_weights(network, weights, source)
    return network


def create_for(
    arch: str, weights: StateDict, source: str, metadata: Metadata | None, num_classes: int
) -> nn.Module:
    """Creates a network that weights are to be loaded into, as narrow as they are.

    Args:
        arch, weights, source, metadata: As in `build_for`.
        num_classes: Number of classes of the new network.

    Raises:
        InputError: As `create_model`, and for weights that are no part of the network.
    """
    network = create_model(arch, num_classes)
    if metadata is not None and metadata.pruned:
        fit_widths(network, weights, source, head(arch, num_classes))
    return network


def head(name: str, num_classes: int) -> tuple[str, ...]:
    """Returns the names of the parameters whose shapes depend on the number of classes.

    Args:
        name: Of a network, as in `create_model`.
        num_classes: Its number of classes.
    """
    with torch.random.fork_rng(devices=()):
        # Not on the meta device, which the user's code may not know.
        few, more = (create_model(name, num_classes + extra).state_dict() for extra in (0, 1))
    return tuple(key for key in few if few[key].shape != more[key].shape)
