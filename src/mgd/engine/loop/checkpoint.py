"""Checkpoints: written atomically, checked by a checksum when read, and never code."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mgd.errors import InputError
from mgd.models.metadata import KEY, Metadata
from mgd.models.weights import load_plain
from mgd.runfolder import names, write_whole

logger = logging.getLogger(__name__)

FORMAT = 2
"""2: every owner gives its own state; 1 was that of version 0.1.0."""
State = dict[str, Any]


def save_checkpoint(state: State, path: Path, keep_previous: bool = False) -> None:
    """Replaces a checkpoint atomically: the path has the old one or the new, never a part.

    Args:
        state: Tensors and primitives, in dicts and lists.
        path: The file to write.
        keep_previous: Keep the replaced checkpoint beside it, as the previous one.

    Raises:
        RunError: If it cannot be written; the old file stays.
    """
    state = {"format": FORMAT, **state}
    state["checksum"] = checksum(state)
    previous = path.with_name(names.PREVIOUS_CHECKPOINT) if keep_previous else None
    write_whole(path, lambda file: torch.save(state, file), previous)


def save_last(state: State, folder: Path) -> None:
    """Writes a run's last checkpoint, and keeps the one before.

    Raises:
        RunError: If it cannot be written; the old files stay.
    """
    save_checkpoint(state, folder / names.LAST_CHECKPOINT, keep_previous=True)


def save_best(state: State, metadata: Metadata, folder: Path) -> None:
    """Writes the checkpoint of a run's best epoch, and the student in it by itself.

    Args:
        state: Of the run, with the weights that are its result as "student".
        metadata: What belongs to them.
        folder: Of the run.

    Raises:
        RunError: If they cannot be written; the old files stay.
    """
    save_checkpoint(state, folder / names.BEST_CHECKPOINT)
    _save_plain(state["student"], folder / names.STUDENT, metadata)


def save_weights(network: nn.Module, path: Path, metadata: Metadata) -> None:
    """Writes a plain network, loadable into the stock network with `strict=True`.

    Args:
        network: On any device.
        path: The safetensors file.
        metadata: What belongs to the weights; it is kept in the same file.
    """
    _save_plain(network.state_dict(), path, metadata)


def _save_plain(state: Mapping[str, Tensor], path: Path, metadata: Metadata) -> None:
    # Copies, since safetensors refuses tied weights that share memory.
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}
    content = _with_sorted_metadata(save(weights, {"format": "pt", KEY: metadata.to_json()}))
    write_whole(path, lambda file: file.write(content))


def _with_sorted_metadata(content: bytes) -> bytes:
    """Sorts the metadata of a safetensors file, which come in another order in each process.

    The same run then writes the same bytes. A file begins with the length of its header, 8 bytes,
    and the header, JSON that is filled up with spaces to a multiple of 8 bytes.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


def load_checkpoint(path: Path) -> State:
    """Reads and checks one checkpoint.

    Raises:
        InputError: If it is missing, damaged, or of another program or version.
    """
    if not path.is_file():
        raise InputError(
            f"checkpoint '{path}' does not exist; give a {names.LAST_CHECKPOINT}, or auto"
        )
    state = load_plain(path)
    if not isinstance(state, dict) or "format" not in state:
        raise InputError(
            f"'{path}' is no checkpoint of a run; resume from its {names.LAST_CHECKPOINT}"
        )
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
    """Reads a run folder's newest checkpoint that can be used; an error in the log if not the last.

    Raises:
        InputError: If there are checkpoints and none can be used, with the reason of the last.
    """
    faults: list[str] = []
    for name in (names.LAST_CHECKPOINT, names.PREVIOUS_CHECKPOINT):
        if not (folder / name).exists():
            continue
        try:
            state = load_checkpoint(folder / name)
        except InputError as error:
            logger.error("%s", error)
            faults.append(str(error))
            continue
        if faults:
            logger.warning("going on from %s, the checkpoint before", folder / name)
        return state
    if faults:
        raise InputError(
            f"no checkpoint of '{folder}' can be used: {faults[0]}; or start a new --experiment"
        )
    return None


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
