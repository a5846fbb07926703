"""Files of a run folder: JSON that holds names with values, and errors that name the file."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from mgd.errors import InputError


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds names with values.

    Raises:
        ValueError: If it does not.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("it holds no names with values")
    return content


@contextmanager
def telling_of(path: Path) -> Iterator[None]:
    """Turns what reading a file raises into one line that names it."""
    try:
        yield
    except (OSError, ValueError, csv.Error, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"run folder '{path.parent}' cannot be read: {path.name}: {reason}; use another copy "
            "of the file, or leave this run out"
        ) from error
