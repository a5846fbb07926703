"""Figures that come from a checkpoint: its checksum says nothing about their sense."""

from collections.abc import Mapping
from typing import Any

from mgd.errors import InputError


def whole_number(state: Mapping[str, Any], name: str) -> int:
    """Returns a count from a state.

    Raises:
        InputError: If it is no whole number, or too large to be a count.
        KeyError: If it is not there.
    """
    value = state[name]
    if type(value) is not int or not 0 <= value < 2**53:
        raise InputError(
            f"the checkpoint's {name} is {value!r}, not a whole number; use another copy"
        )
    return value


def number(state: Mapping[str, Any], name: str) -> float:
    """Returns a figure from a state.

    Raises:
        InputError: If it is no number.
        KeyError: If it is not there.
    """
    value = state[name]
    if not isinstance(value, (int, float)):
        raise InputError(f"the checkpoint's {name} is {value!r}, no number; use another copy")
    return value
