"""Parser: the command line of a run, made from the fields of its configuration."""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mgd.engine.options.config import RunConfig, read_yaml
from mgd.errors import InputError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Ends with exit code 2."""
        raise InputError(f"{message}; see {self.prog} --help")


def add_run_options(parser: Parser, defaults: RunConfig) -> None:
    """Adds every field of the configuration as a flag, group by group.

    Args:
        parser: Gets the flags, and the data folder as its positional argument.
        defaults: A command's own.
    """
    parser.add_argument(
        "data", metavar="DATA", help=_fields(defaults.data)["data"].metadata["text"]
    )
    parser.add_argument(
        "-c", "--config", metavar="FILE", help="YAML of options; the flags given win"
    )
    for section in dataclasses.fields(defaults):
        group = getattr(defaults, section.name)
        options = parser.add_argument_group((type(group).__doc__ or "").rstrip(".").lower())
        for name, item in _fields(group).items():
            if name != "data":
                _add(options, item, getattr(group, name))


def _add(options: Any, item: dataclasses.Field[Any], default: Any) -> None:
    flag = "--" + item.name.replace("_", "-")
    names = [*(f for f in item.metadata["flags"] if f[1] != "-"), flag]
    names += [f for f in item.metadata["flags"] if f[1] == "-"]
    text = item.metadata["text"].replace("%", "%%")
    if isinstance(item.default, bool):
        options.add_argument(*names, action="store_true", default=default, help=text)
        return
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    options.add_argument(
        *names,
        default=default,
        type=_reader(item.metadata["kind"]),
        nargs="+" if isinstance(default, tuple) else None,
        choices=item.metadata["choices"] or None,
        metavar=None if item.metadata["choices"] else item.name.upper().replace("_", "-"),
        help=text if shown in ("", None) else f"{text} (default: {shown})",
    )


def _reader(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    needed = {int: "a whole number", float: "a number"}.get(
        kind,  # type: ignore[call-overload]
        (kind.__doc__ or "").partition("\n")[0].removeprefix("Reads ").rstrip("."),
    )

    def read(text: str) -> Any:
        try:
            return kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"'{text}' is not usable, give {needed}") from error

    return read


def read_run_options(parser: Parser, arguments: Sequence[str], defaults: RunConfig) -> RunConfig:
    """Parses a command line into a configuration; a `-c` file's options stand before it.

    Raises:
        InputError: For an option, value or file that cannot be used.
    """
    given = parser.parse_args(arguments)
    if given.config:
        given = parser.parse_args([*_options_in(Path(given.config), defaults), *arguments])
    values = {name: value for name, value in vars(given).items() if name in _all_names(defaults)}
    for name, value in values.items():
        if isinstance(value, list):  # of nargs="+", each read as a tuple
            values[name] = tuple(part for parts in value for part in parts)
    return defaults.replace(**values)


def _options_in(path: Path, defaults: RunConfig) -> list[str]:
    """Reads a YAML file, such as a run's `args.yaml`, as command-line words."""
    content = read_yaml(path, "-c")
    if not isinstance(content, dict):
        raise InputError(f"-c {path} holds no options; write one `name: value` a line")
    words = []
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in _all_names(defaults):
            raise InputError(f"-c {path}: unknown option '{key}'")
        if name in ("arch", "teacher") and is_code(str(value)):
            raise InputError(
                f"-c {path}: {key} '{value}' would run code named in a file; "
                f"give --{key} on the command line"
            )
        if name == "data" or value is None or value == "" or value is False:
            continue
        # One word, so that neither a dash in a value nor a list takes in what stands beside it.
        word = "--" + name.replace("_", "-")
        text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
        words.append(word if value is True else f"{word}={text}")
    return words


def is_code(name: str) -> bool:
    """Tells whether a network's name would import a module of the user's."""
    source, colon, _ = name.partition(":")
    return bool(colon) and source not in ("torchvision", "timm")


def _fields(group: Any) -> dict[str, dataclasses.Field[Any]]:
    return {item.name: item for item in dataclasses.fields(group)}


def _all_names(config: RunConfig) -> set[str]:
    return {name.replace("-", "_") for name in config.flat()}
