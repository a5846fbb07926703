"""Reads weights from checkpoint files of this and other projects; no code in a file is executed."""

import argparse
import logging
import pickle
import textwrap
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from mgd.errors import InputError
from mgd.models.metadata import KEY, Metadata, beside, is_metadata

logger = logging.getLogger(__name__)

StateDict = dict[str, Tensor]


def read_weights(path: str | Path) -> StateDict:
    """Reads the weights of a network from a checkpoint; see `read_checkpoint`."""
    return read_checkpoint(path)[0]


def read_checkpoint(path: str | Path) -> tuple[StateDict, Metadata | None]:
    """Reads the weights of a network, and what the file says of it.

    These formats are understood: a bare state dict; `{"state_dict": ...}` or `{"model": ...}`, as
    in the `.pth.tar` files of timm and of PyTorch's examples; checkpoints of this package
    (`{"student": ...}`); and safetensors. The prefix `module.` of DataParallel and the prefix
    `_orig_mod.` of torch.compile are removed from the names.

    Args:
        path: The file. The suffix `.safetensors` selects that format.

    Returns:
        The weights by name, on the CPU; and the metadata, from the file or from a JSON file beside
        it, `None` where neither has any, as in files of other projects.

    Raises:
        InputError: If the file is missing, has no weights, or cannot be read without running code.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(
            f"'{path}' is a folder, and no run folder with a finished epoch; give a file of "
            "weights, or a run folder"
        )
    if not path.is_file():
        raise InputError(f"weights '{path}' do not exist; give the path of a checkpoint file")
    content: Any
    if path.suffix == ".safetensors":
        content, text = _load_safetensors(path)
        metadata = Metadata.from_json(text, str(path)) if text else None
    else:
        content = load_plain(path)
        metadata = _metadata_of(content, path)
    for key in ("student", "state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not any(
        isinstance(value, Tensor) for value in content.values()
    ):
        raise InputError(
            f"'{path}' holds no weights; needed is a state dict, "
            "{'state_dict': ...} or a safetensors file"
        )
    weights = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    for prefix in ("_orig_mod.", "module.", "_orig_mod."):  # compiled before or after
        if all(key.startswith(prefix) for key in weights):
            weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights, metadata


def _metadata_of(content: Any, path: Path) -> Metadata | None:
    if isinstance(content, Mapping) and KEY in content:
        return Metadata.from_plain(content[KEY], str(path))
    if not beside(path).is_file() or not is_metadata(beside(path)):
        return None
    text = beside(path).read_text(encoding="utf-8", errors="replace")
    return Metadata.from_json(text, str(beside(path)))


def _load_safetensors(path: Path) -> tuple[StateDict, str]:
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY, "")
        return load_file(path), text
    except SafetensorError as error:
        raise InputError(
            f"'{path}' is damaged or not a complete safetensors file ({error}); use another copy"
        ) from error


def load_plain(path: Path) -> Any:
    """Loads tensors and plain values from a `torch.save` file, and refuses anything else.

    Raises:
        InputError: If the file is damaged or holds objects that need code to load.
    """
    try:
        # timm stores its command line beside the weights, as an argparse.Namespace.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; the error below says more
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can end in nearly anything
        if not _is_of_torch(path):
            raise InputError(
                f"'{path}' is damaged or no file of weights: it does not begin as torch.save's "
                "do; give a .pth, .ckpt or .safetensors file, or a run folder"
            ) from error
        if isinstance(error, pickle.UnpicklingError):
            raise InputError(
                f"'{path}' is damaged or holds objects other than tensors and plain values, which "
                "are not loaded for safety; save a state dict instead"
            ) from error
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" …")
        raise InputError(
            f"'{path}' is damaged or no checkpoint ({reason}); use another copy"
        ) from error


def _is_of_torch(path: Path) -> bool:
    """Tells whether a file begins as `torch.save` begins one: as a zip archive or a pickle."""
    with path.open("rb") as file:
        return file.read(2).startswith((b"PK", b"\x80"))


def num_classes_of(weights: StateDict, network: nn.Module, num_classes: int) -> int:
    """Returns the number of classes that a checkpoint was trained on.

    It is the first dimension of the parameters in which the checkpoint and the network differ.

    Args:
        weights: The weights of the checkpoint. Their order is not used, because safetensors sorts
            by name.
        network: The network of the checkpoint, built for `num_classes`.
        num_classes: Returned if no parameter differs, or if they differ in several sizes.
    """
    own = network.state_dict()
    sizes = {
        weights[key].shape[0]
        for key in own.keys() & weights.keys()
        if weights[key].shape != own[key].shape and weights[key].shape[1:] == own[key].shape[1:]
    }
    return sizes.pop() if len(sizes) == 1 else num_classes


def load_weights(network: nn.Module, weights: StateDict, source: str) -> None:
    """Loads weights whose names and shapes must all be those of the network.

    Args:
        network: Takes the weights.
        weights: Weights by name.
        source: What to call the weights in an error, such as the path of their file.

    Raises:
        InputError: If names or shapes differ; the message lists the first of them.
    """
    own = network.state_dict()
    wrong = {
        # Old files have no `num_batches_tracked`; torch sets it to zero.
        "missing in the file": [
            key for key in own if key not in weights and not key.endswith(".num_batches_tracked")
        ],
        "unknown to the network": [key for key in weights if key not in own],
        "of another shape": [
            f"{key} {tuple(weights[key].shape)} for {tuple(own[key].shape)}"
            for key in own
            if key in weights and weights[key].shape != own[key].shape
        ],
    }
    faults = [
        f"{len(keys)} {fault}: {', '.join(keys[:4])}{', …' if len(keys) > 4 else ''}"
        for fault, keys in wrong.items()
        if keys
    ]
    if faults:
        raise InputError(
            f"'{source}' does not fit {type(network).__name__}: {'; '.join(faults)}; "
            "name the network that the file belongs to"
        )
    network.load_state_dict(weights)


def load_backbone(
    network: nn.Module, weights: StateDict, source: str, head: Collection[str] = ()
) -> None:
    """Loads pretrained weights, except those of another shape, such as the last layer's.

    The parameters left out keep their values, and the log names them.

    Args:
        network: Takes the weights.
        weights: Weights by name.
        source: What to call the weights in messages.
        head: Names to leave out whatever their shape: the last layer, where it is one for other
            classes.

    Raises:
        InputError: If names differ; the message lists the first of them.
    """
    own = network.state_dict()
    new = [
        key
        for key in weights
        if key in own and (key in head or weights[key].shape != own[key].shape)
    ]
    merged = {**weights, **{key: own[key] for key in new}}
    load_weights(network, merged, source)
    if new:
        why = "its classes are others" if head else "its class count is another"
        logger.warning("%s: %s, so its head is made anew (%s)", source, why, ", ".join(new))
