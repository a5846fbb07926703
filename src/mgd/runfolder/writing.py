"""Writing: a file is replaced atomically, so that it is never half-written."""

import csv
import io
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from mgd.errors import InputError, RunError
from mgd.runfolder import names

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{16}")
# Windows opens no folder as a file, and its NTFS writes a rename to a journal by itself.
_FOLDERS_CAN_BE_FLUSHED = os.name != "nt"


def write_whole(path: Path, write: Callable[[BinaryIO], Any], previous: Path | None = None) -> None:
    """Replaces a file atomically: the path has the old content or the new, never a part.

    The content goes to a temporary file beside it, is flushed to the disk, and is then renamed.

    Args:
        path: The file to write.
        write: Writes the content.
        previous: Keep the replaced file under this name, in the same folder.

    Raises:
        RunError: If the content cannot be written; the old file stays.
    """
    temporary = _temporary(path)
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            _keep(path, previous)
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError where the disk is full
        raise RunError(
            f"cannot write '{path}' ({error}); free some space, or make the folder writable; a "
            "training run goes on with --resume auto"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _keep(path: Path, previous: Path) -> None:
    """Gives the old file a second name, so that a whole file has the first at every moment."""
    link = _temporary(previous)
    try:
        link.hardlink_to(path)
    except OSError:
        # The file system has no hard links: for a moment the second name alone is there.
        os.replace(path, previous)
        return
    os.replace(link, previous)
    # A killed run may leave both names on one file: POSIX renames nothing then, and `link` stays.
    link.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Writes the new name to the disk: after a power cut the old file could be back otherwise."""
    if not _FOLDERS_CAN_BE_FLUSHED:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def remove_leftovers(folder: Path) -> None:
    """Deletes temporary files that killed processes left; only the lock's holder may call it.

    Raises:
        InputError: If the folder does not let it.
    """
    try:
        for file in folder.iterdir():
            if _LEFTOVER.fullmatch(file.name):
                file.unlink()
    except OSError as error:
        raise InputError(
            f"cannot write to '{folder}' ({error}); choose another --output"
        ) from error


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a CSV file atomically; a missing value is an empty cell.

    Args:
        path: The file.
        columns: Header; values under other names are left out.
        rows: Values by column.

    Raises:
        RunError: As `write_whole`.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    # A class may have the name of a folder that is not UTF-8: it keeps its bytes.
    content = text.getvalue().encode(errors="surrogateescape")
    write_whole(path, lambda file: file.write(content))


def write_bad_images(folder: Path, bad_images: Sequence[str]) -> str:
    """Lists images that were left out, one per line; a name that is not UTF-8 keeps its bytes.

    Args:
        folder: An existing folder.
        bad_images: Image and reason; line breaks in it become spaces.

    Returns:
        A line that says how many they are, and where they are listed.

    Raises:
        RunError: As `write_whole`.
    """
    text = "".join(f"{' '.join(line.splitlines())}\n" for line in bad_images)
    content = text.encode(errors="surrogateescape")
    path = folder / names.BAD_IMAGES
    write_whole(path, lambda file: file.write(content))
    return f"{len(bad_images)} unreadable images left out, listed in {path}"
