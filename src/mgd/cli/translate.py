"""Translation: the library's errors name Python arguments; the command line names flags."""

import re

from mgd.engine.options.config import OPTIONS
from mgd.engine.options.export import ExportConfig
from mgd.engine.options.option import options_of

_FLAGS = {
    "data": "DATA",
    "max_images": "--mgd-images",
    "method": "--distiller",
    "num_images": "--train-images",
    "ranks": "--devices",
    "reducer": "--mgd-reducer",
    "share": "--holdout",
    "solver": "--mgd-solver",
    **{item.name: item.flag for item in options_of(ExportConfig) if item.name != "data"},
}
"""Arguments whose flag has another name than they have."""

_PHRASES = {
    "weights=None": "--use-pretrained 0",
    "weights=FILE": "--teacher-resume FILE or --student-resume FILE",
}
"""Arguments with a value, for which the flag depends on the value."""

_KEYS = ("teacher",)
"""What a message writes in backticks as a key of the points file, though a flag has its name."""

_SPAN = re.compile(r"`(\w+)(?:=([^`]*))?`(?: \(=([^()]*)\))?")
"""`name`, `name=value`, or `name` (=value)."""


def with_flags(message: str) -> str:
    """Replaces each argument in backticks that has a flag by the flag, with its value.

    Example:
        >>> with_flags("`batch_size` (=0) is out of range; or use `weights=None`")
        '--batch-size 0 is out of range; or use --use-pretrained 0'
    """
    return _SPAN.sub(_flag_for, message)


def _flag_for(span: re.Match[str]) -> str:
    name, set_to, was = span.groups()
    if f"{name}={set_to}" in _PHRASES:
        return _PHRASES[f"{name}={set_to}"]
    if name in _FLAGS:
        flag = _FLAGS[name]
    elif name in OPTIONS and name not in _KEYS:
        flag = OPTIONS[name].flag
    else:
        return span[0]
    if name in OPTIONS and OPTIONS[name].kind is bool:
        return flag
    value = set_to or was
    return f"{flag} {value}" if value else flag
