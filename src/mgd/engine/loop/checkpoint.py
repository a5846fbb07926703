"""Checkpoints: whole or not there at all, checked when read, and never code."""

import hashlib
import logging
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mgd.errors import InputError, RunError
from mgd.models.weights import load_plain

logger = logging.getLogger(__name__)

FORMAT = 2
"""2: every owner gives its own state; 1 was that of version 0.1.0."""
_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{16}")
State = dict[str, Any]


def save_checkpoint(state: State, path: Path, keep_previous: bool = False) -> None:
    """Writes a checkpoint so that the path holds the old or the new one, never a part.

    Args:
        state: Tensors and primitives, in dicts and lists.
        path: Where to; replaced atomically.
        keep_previous: Keep the file replaced, as `previous.ckpt` beside it.

    Raises:
        RunError: If the disk does not take it; the old file stays.
    """
    state = {"format": FORMAT, **state}
    state["checksum"] = checksum(state)
    write_whole(path, lambda file: torch.save(state, file), keep_previous)


def save_student(student: nn.Module, path: Path) -> None:
    """Writes the plain student, loadable into the stock network with `strict=True`."""
    # Copies, since safetensors refuses tied weights that share memory.
    weights = {
        name: value.detach().cpu().clone().contiguous()
        for name, value in student.state_dict().items()
    }
    write_whole(path, lambda file: file.write(save(weights, metadata={"format": "pt"})))


def write_whole(path: Path, write: Callable[[BinaryIO], Any], keep_previous: bool = False) -> None:
    """Writes a file so that the path holds the old or the new one, never a part.

    Args:
        path: Where to; replaced atomically.
        write: Writes the content.
        keep_previous: Keep the file replaced, as `previous.ckpt` beside it.

    Raises:
        RunError: If the disk does not take it; the old file stays.
    """
    temporary = _temporary(path)
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if keep_previous and path.exists():
            _keep(path, path.with_name("previous.ckpt"))
        temporary.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        raise RunError(
            f"cannot write '{path}' ({error}); free some space and go on with --resume auto"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _keep(path: Path, previous: Path) -> None:
    """Gives a file a second name, so that `last.ckpt` is there at every moment."""
    link = _temporary(previous)
    try:
        link.hardlink_to(path)
    except OSError:
        # Some file systems know no links; for a moment `previous.ckpt` alone is there then.
        path.replace(previous)
        return
    link.replace(previous)
    # Renaming onto another name of the same file, as a kill may leave them, does nothing.
    link.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Puts the new name on the disk: a power cut would otherwise bring the old file back."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def remove_leftovers(folder: Path) -> None:
    """Deletes the temporary files of writes that were killed; only for the folder's one writer."""
    for file in folder.iterdir():
        if _LEFTOVER.fullmatch(file.name):
            file.unlink()


def load_checkpoint(path: Path) -> State:
    """Reads and checks one checkpoint.

    Raises:
        InputError: If it is missing, damaged, or of another program or version.
    """
    if not path.is_file():
        raise InputError(f"checkpoint '{path}' does not exist; give a last.ckpt, or auto")
    state = load_plain(path)
    if not isinstance(state, dict) or "format" not in state:
        raise InputError(f"'{path}' is no checkpoint of a run; resume from its last.ckpt")
    # A forged format may be anything; not every value can be compared with a number.
    if type(state["format"]) is not int or state["format"] != FORMAT:
        raise InputError(
            f"'{path}' has checkpoint format {state['format']}, this version reads {FORMAT}; use "
            "the version that wrote it"
        )
    if state.pop("checksum", None) != checksum(state):
        raise InputError(f"'{path}' is damaged: its checksum does not fit; use another copy")
    return state


def newest_checkpoint(folder: Path) -> State | None:
    """Reads a run folder's newest whole checkpoint, and says so loudly if it is not the last.

    Raises:
        InputError: If there are checkpoints and all are damaged.
    """
    faults = []
    for name in ("last.ckpt", "previous.ckpt"):
        if not (folder / name).exists():
            continue
        try:
            state = load_checkpoint(folder / name)
        except InputError as error:
            logger.error("%s", error)
            faults.append(name)
            continue
        if faults:
            logger.warning("going on from %s, the checkpoint before", folder / name)
        return state
    if faults:
        raise InputError(f"every checkpoint in '{folder}' is damaged; start a new --experiment")
    return None


def whole_number(state: Mapping[str, Any], name: str) -> int:
    """Returns a count from a checkpoint; a checksum says nothing about sense.

    Raises:
        InputError: If it is no whole number, or too large to be a count.
    """
    value = state[name]
    if type(value) is not int or not 0 <= value < 2**53:
        raise InputError(
            f"the checkpoint's {name} is {value!r}, not a whole number; use another copy"
        )
    return value


def number(state: Mapping[str, Any], name: str) -> float:
    """Returns a figure from a checkpoint.

    Raises:
        InputError: If it is no number.
    """
    value = state[name]
    if not isinstance(value, (int, float)):
        raise InputError(f"the checkpoint's {name} is {value!r}, no number; use another copy")
    return value


def checksum(state: Any) -> str:
    """Hashes tensors, containers and primitives, with their names and order."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
        elif isinstance(value, Mapping):
            for key in value:
                digest.update(f"{key!r}:".encode())
                add(value[key])
        elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            digest.update(f"[{len(value)}".encode())
            for part in value:
                add(part)
        else:
            digest.update(f"{value!r};".encode())

    add(state)
    return digest.hexdigest()
