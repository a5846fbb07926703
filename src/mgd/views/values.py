"""Values of a view, each of its kind and in its range: they may come from a file."""

import reprlib
from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any

from mgd.errors import InputError

MOST_PIXELS = 4096
"""Largest side of an image, before and after the crop: a larger one would take gigabytes."""

Reader = Callable[[str, Any], Any]


def choice(*choices: str) -> Reader:
    """Makes the reader of a value that is one of a few words."""
    return partial(_read_choice, choices)


def _read_choice(choices: tuple[str, ...], name: str, value: Any) -> str:
    if not isinstance(value, str) or value not in choices:
        raise InputError(
            f"`{name}` (={reprlib.repr(value)}) is unknown; choose one of {', '.join(choices)}"
        )
    return value


def read_size(name: str, value: Any) -> int:
    """Reads a side in pixels."""
    if not _is_number(value, Integral, 2, MOST_PIXELS):
        raise InputError(
            f"`{name}` (={reprlib.repr(value)}) must be a whole number of pixels from 2 to "
            f"{MOST_PIXELS}"
        )
    return int(value)


def number(low: float, high: float) -> Reader:
    """Makes the reader of a number in a range."""
    return partial(_read_number, low, high)


def _read_number(low: float, high: float, name: str, value: Any) -> float:
    if not _is_number(value, Real, low, high):
        raise InputError(
            f"`{name}` (={reprlib.repr(value)}) must be a number from {low:g} to {high:g}"
        )
    return float(value)


def numbers(low: float, high: float) -> Reader:
    """Makes the reader of numbers in a range, one for each channel."""
    return partial(_read_numbers, low, high)


def _read_numbers(low: float, high: float, name: str, values: Any) -> tuple[float, ...]:
    is_list = isinstance(values, list | tuple) and len(values) in (1, 3)
    if not is_list or not all(_is_number(value, Real, low, high) for value in values):
        raise InputError(
            f"`{name}` (={reprlib.repr(values)}) must be a list of 3 numbers from {low:g} to "
            f"{high:g}, where white is 1; a list of 1 for grey"
        )
    return tuple(float(value) for value in values)


def _is_number(value: Any, kind: type, low: float, high: float) -> bool:
    # True is a number in Python; nan is in no range.
    if isinstance(value, bool) or not isinstance(value, kind):
        return False
    within: Any = value
    return bool(low <= within <= high)
