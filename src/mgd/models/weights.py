"""Weights from files, our own and others', as a plain state dict; nothing in a file is executed."""

import argparse
import logging
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mgd.errors import InputError

logger = logging.getLogger(__name__)

StateDict = dict[str, Tensor]


def read_weights(path: str | Path) -> StateDict:
    """Reads the weights of a network from a checkpoint of this or another project.

    Known are a bare state dict, `{"state_dict": ...}` (timm's and the reference trainers'
    `.pth.tar`), our own run checkpoints (`{"student": ...}`) and safetensors, each with or
    without the `module.` of DataParallel in front of the names.

    Raises:
        InputError: If the file is missing, holds no weights, or would have to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"weights '{path}' do not exist; give the path of a checkpoint file")
    content = _load_safetensors(path) if path.suffix == ".safetensors" else load_plain(path)
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
    for prefix in ("_orig_mod.", "module.", "_orig_mod."):  # compiled inside or outside
        if all(key.startswith(prefix) for key in weights):
            weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights


def _load_safetensors(path: Path) -> StateDict:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"'{path}' is no whole safetensors file: {error}") from error


def load_plain(path: Path) -> Any:
    """Loads tensors and primitives from a `torch.save` file, and refuses anything else.

    Raises:
        InputError: If the file is damaged or holds objects that need code to load.
    """
    try:
        # timm stores its command line, a plain namespace, beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; the error below says more
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"'{path}' is damaged or holds objects other than tensors and plain values, which "
            "are not loaded for safety; save a state dict instead"
        ) from error
    except Exception as error:  # a damaged pickle can end in nearly anything
        raise InputError(
            f"'{path}' is damaged or no checkpoint ({type(error).__name__}); use another copy"
        ) from error


def num_classes_of(weights: StateDict, network: nn.Module, num_classes: int) -> int:
    """Returns the class count a checkpoint was trained on.

    Args:
        weights: The checkpoint's. Their order says nothing: safetensors sorts by name.
        network: The checkpoint's network, built for any class count.
        num_classes: That class count; also the answer where nothing or more than the head differs.
    """
    own = network.state_dict()
    sizes = {
        weights[key].shape[0]
        for key in own.keys() & weights.keys()
        if weights[key].shape != own[key].shape and weights[key].shape[1:] == own[key].shape[1:]
    }
    return sizes.pop() if len(sizes) == 1 else num_classes


def load_weights(network: nn.Module, weights: StateDict, source: str) -> None:
    """Loads weights that must fit, key by key and shape by shape.

    Raises:
        InputError: Listing the first of the keys that do not fit.
    """
    own = network.state_dict()
    wrong = {
        # torch counts from zero where an old file has no `num_batches_tracked`.
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


def load_backbone(network: nn.Module, weights: StateDict, source: str) -> None:
    """Loads pretrained weights, leaving a head with another number of classes new, and says so."""
    own = network.state_dict()
    head = [key for key in weights if key in own and weights[key].shape != own[key].shape]
    merged = {**weights, **{key: own[key] for key in head}}
    load_weights(network, merged, source)
    if head:
        logger.warning("%s: new head for this class count (%s)", source, ", ".join(head))
