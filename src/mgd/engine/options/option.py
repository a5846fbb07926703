"""Options: a field of the configuration, and the flag that it is on the command line."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import field
from typing import Any, Literal

from mgd.errors import InputError

Switch = Literal[0, 1]


def option(
    default: Any,
    text: str,
    *,
    flags: tuple[str, ...] = (),
    choices: tuple[Any, ...] = (),
    kind: Callable[[str], Any] | None = None,
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """Declares a field that is also a command-line flag.

    Args:
        default: Value where nothing is given.
        text: What it does, with units.
        flags: Other names of the flag.
        choices: Values allowed.
        kind: Reads the value from text; by default the default's type.
        least, most: Range of a number, both ends included.
    """
    reader = kind or type(choices[0] if choices else default)
    metadata = {"text": text, "flags": flags, "choices": choices, "kind": reader}
    return field(default=default, metadata={**metadata, "least": least, "most": most})


def switch(default: Switch | None, text: str) -> Any:
    """Declares a flag that takes 0 or 1, as the original's do."""
    return option(default, text, choices=(0, 1))


def positive(text: str) -> float:
    """Reads a number above 0."""
    if not float(text) > 0:
        raise ValueError
    return float(text)


def factor(text: str) -> float | Literal["auto"]:
    """Reads a number above 0, or auto."""
    return "auto" if text == "auto" else positive(text)


def epoch_list(text: str) -> tuple[int, ...]:
    """Reads epochs, with commas or spaces between."""
    return tuple(int(part) for part in text.replace(",", " ").split())


class Group:
    """Checks the ranges that its fields declare."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):  # type: ignore[arg-type]
            value, rules = getattr(self, item.name), item.metadata
            least, most = rules["least"], rules["most"]
            if rules["choices"] and value not in rules["choices"] and value != item.default:
                raise InputError(
                    f"--{item.name.replace('_', '-')} {value} is unknown; choose one of "
                    f"{', '.join(map(str, rules['choices']))}"
                )
            if isinstance(value, str) or value is None:
                continue
            # Written so that NaN is out of every range.
            low = least is not None and not least <= value < math.inf
            if low or (most is not None and not value <= most):
                bounds = f"at least {least}" if most is None else f"from {least} to {most}"
                raise InputError(
                    f"--{item.name.replace('_', '-')} {value} is out of range; give {bounds}"
                )
