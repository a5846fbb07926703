"""YAML files that a user gives: options and points."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from mgd.errors import InputError


class _DuplicateError(yaml.YAMLError):
    """A mapping has a key twice, of which YAML would drop the first without a word."""


class _Loader(yaml.SafeLoader):
    """Builds plain values only, and refuses a mapping that has a key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)
            if name in seen:
                line = key.start_mark.line + 1
                raise _DuplicateError(f"'{key.value}' is given twice, again in line {line}")
            seen.add(name)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, flag: str) -> Any:
    """Reads a YAML file that a flag named; nothing in it is executed.

    Raises:
        InputError: If it cannot be read or gives a key twice, naming the flag and the file.
    """
    try:
        # Only the safe constructors are inherited: plain values, no Python objects.
        return yaml.load(path.read_text(), _Loader)
    except _DuplicateError as error:
        raise InputError(f"{flag} {path}: {error}; keep one of the two") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{flag} {path} cannot be read as YAML ({reason})") from error
