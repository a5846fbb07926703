"""Files of a run folder: JSON, rows of CSV, and errors that name the file."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from mgd.errors import InputError

Row = TypeVar("Row")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds names with values.

    Raises:
        ValueError: If it does not.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("it holds no names with values")
    return content


def read_rows(
    path: Path, make: Callable[[Mapping[str, str]], Row], errors: str = "strict"
) -> list[Row]:
    """Reads a CSV file, a record for each row; none where there is no file.

    Args:
        path: The file.
        make: Makes a record of a row's values by their columns; raises ValueError if it cannot.
        errors: What becomes of bytes that are not UTF-8, as `open` takes it.

    Raises:
        InputError: If the file cannot be read.
    """
    if not path.exists():
        return []
    with telling_of(path), path.open(newline="", encoding="utf-8", errors=errors) as file:
        return [make(row) for row in csv.DictReader(file)]


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
