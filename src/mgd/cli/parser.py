"""Parser: the command line of a run, made from the options of its configuration."""

import argparse
import difflib
import logging
import shutil
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from mgd.cli.given import (
    check_place,
    images_of_run,
    is_network,
    options_in,
    warn_of_former_name,
    words,
)
from mgd.cli.recipes import add_recipes, recipe_options
from mgd.cli.texts import defaults_of, help_of
from mgd.engine.options.checks import (
    TEACHER_OPTIONS,
    check_learning_rate,
    check_schedule_is_used,
    check_teacher_is_used,
)
from mgd.engine.options.config import GROUPS, OPTIONS, RunConfig
from mgd.engine.options.option import DETECTOR_COMMANDS, TRAINING, Command, Option, options_of
from mgd.errors import InputError
from mgd.models import NAMES
from mgd.runfolder import names

logger = logging.getLogger(__name__)

_UNKNOWN = "unrecognized arguments: "


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help of at most 80 columns."""

    def __init__(self, prog: str):
        columns = min(80, shutil.get_terminal_size().columns)
        super().__init__(prog, max_help_position=28, width=columns - 1)

    # Private names of argparse, which gives no other way to this: flags are not cut at a hyphen,
    # and a value is named once behind all names of its flag, as Python 3.13 does by itself.
    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        shown = self._get_default_metavar_for_optional(action)  # private, as said above
        value = self._format_args(action, shown)  # and this
        return f"{', '.join(action.option_strings)} {value}"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def __init__(self, prog: str, **options: Any):
        super().__init__(prog, formatter_class=_Formatter, **options)

    def error(self, message: str) -> NoReturn:
        """Ends with exit code 2; a flag that is unknown is told the nearest one that is not."""
        if message.startswith(_UNKNOWN):
            word = message.removeprefix(_UNKNOWN).partition(" ")[0].partition("=")[0]
            # A private name of argparse, which has no public list of its flags.
            near = difflib.get_close_matches(word, self._option_string_actions, n=1)
            message += f" (nearest: {near[0]})" if near else ""
        raise InputError(f"{message}; see {self.prog} --help")


class RunParser(Parser):
    """The command line of a command that makes a run.

    Every option of a run is accepted by every command, as in the original program and because a
    run's `args.yaml` holds them all; the help lists those that the command uses.

    Args:
        command: Whose options to list.
        everything: Whether to list all of them in their groups, not only the common ones.
        text: Description at the top of the help.
        example: Shown at its end.
    """

    def __init__(
        self, command: Command, *, everything: bool = False, text: str = "", example: str = ""
    ):
        end = f"example:\n  {example}\n\n"
        end += _NAMES if everything else f"mgd {command} --help-all lists every option."
        place = "DATA|RUN|FILE" if command == "evaluate" else "DATA"
        usage = f"mgd {command} {place} [options]"
        super().__init__(
            f"mgd {command}", usage=usage, description=text, epilog=end, add_help=False
        )
        self.command = command
        common = self.add_argument_group("options" if everything else "common options")
        text_of_data = help_of(OPTIONS["data"], command, everything)
        common.add_argument(
            "data", metavar=place, nargs="?", default=argparse.SUPPRESS, help=text_of_data
        )
        common.add_argument("-h", "--help", action="help", help="list the common options")
        common.add_argument(
            "--help-all",
            action=_HelpAll,
            make=partial(RunParser, command, everything=True, text=text, example=example),
        )
        common.add_argument(
            "-c",
            "--config",
            metavar="FILE",
            default=argparse.SUPPRESS,
            help=f"YAML file, such as a run's {names.ARGS}; flags win",
        )
        if command in TRAINING:
            add_recipes(common, everything)
        for group in GROUPS:
            title = (group.__doc__ or "").rstrip(".").lower()
            section = self.add_argument_group(title) if everything else common
            for item in options_of(group):
                if item.name != "data":
                    add_option(section, item, help_of(item, command, everything))

    def read(self, arguments: Sequence[str]) -> RunConfig:
        """Parses a command line into a configuration; recipe and `-c` file stand before it.

        Args:
            arguments: The words behind the command.

        Raises:
            InputError: For an option, value or file that cannot be used.
        """
        given = values = self._parse(arguments)
        if given.keys() & {"config", "recipe"}:
            below = self._below(given)
            values = self._parse([*words(below), *arguments])
            values.setdefault("data", str(below.get("data") or ""))
        elif self.command == "evaluate" and is_network(given):
            in_file = images_of_run(Path(given["data"]))
            values = {**self._parse([*words(in_file)]), **given, "student_resume": given["data"]}
            values["data"] = str(in_file["data"])
        if not values.get("data"):
            where = f", or 'data' in {given['config']}" if "config" in given else ""
            self.error(f"the following arguments are required: DATA{where}")
        check_place(values, self.command)
        values = {name: value for name, value in values.items() if name in OPTIONS}
        if self.command == "evaluate":
            values["evaluate"] = True
        if self.command == "distill" and values.get(
            "label_free"
        ):  # nothing else trains the student's last layer
            values.setdefault("mgd_with_kd", 1)
        below = defaults_of(self.command, values.get("opt", ""))
        config = RunConfig().replace(**{**below, **values})
        if not config.output.evaluate:
            self._check_teacher(config, given)
            check_schedule_is_used(config.schedule, given)
        return config

    def _below(self, given: dict[str, Any]) -> dict[str, Any]:
        """Returns the options of a recipe and a `-c` file, the file's where both have one."""
        recipe = recipe_options(given["recipe"], self.command) if "recipe" in given else {}
        in_file = options_in(Path(given["config"]), given) if "config" in given else {}
        check_learning_rate(recipe, in_file, given)
        # What is on the command line wins, also over a list, to which it would be added.
        found = {**recipe, **in_file}.items()
        return {name: value for name, value in found if name not in given or name == "data"}

    def _parse(self, words: Sequence[str]) -> dict[str, Any]:
        """Returns what was given, by name."""
        for word in words:
            warn_of_former_name(word.partition("=")[0])
        # Intermixed: otherwise flags before DATA would make argparse take it for left out.
        values = vars(self.parse_intermixed_args(words))
        for name, value in values.items():
            if isinstance(value, list):  # of several words, each read as a tuple
                values[name] = tuple(part for parts in value for part in parts)
        return values

    def _check_teacher(self, config: RunConfig, given: dict[str, Any]) -> None:
        method = config.distillation.distiller
        alone, taught = "train", "distill"
        if self.command in DETECTOR_COMMANDS:
            alone, taught = DETECTOR_COMMANDS
        if self.command in ("distill", "distill-detector"):
            check_teacher_is_used(config.distillation, given)
            if method == "none" and "distiller" not in given:
                raise InputError(
                    f"-c {given['config']} is of a run without a teacher (distiller: none); use "
                    f"mgd {alone}, or give --distiller on the command line as well"
                )
        elif method != "none":
            raise InputError(
                f"`distiller` (={method}) needs a teacher, and mgd {alone} has none; use mgd "
                f"{taught}, or give `distiller=none`"
            )
        # The original's main_base.py takes the options of main_mgd.py, and leaves them unused.
        elif unused := [OPTIONS[name].flag for name in given if name in TEACHER_OPTIONS]:
            logger.warning(
                "%s: no effect, since mgd %s has no teacher; use mgd %s",
                *(", ".join(unused), alone, taught),
            )


_NAMES = "built-in networks:\n" + textwrap.fill(
    ", ".join(NAMES), 79, initial_indent="  ", subsequent_indent="  "
)


class _HelpAll(argparse.Action):
    """Prints the help of the parser that lists every option."""

    def __init__(self, option_strings: Sequence[str], dest: str, make: Callable[[], RunParser]):
        super().__init__(
            option_strings, argparse.SUPPRESS, nargs=0, help="list every option, in groups"
        )
        self.make = make

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        self.make().print_help()
        parser.exit()


def add_option(section: Any, item: Option, text: str) -> None:
    """Adds an option of a run to a parser.

    Args:
        section: The parser, or a group of arguments in it.
        item: What to add; its value is missing in the result where it is not given.
        text: Of the help.
    """
    flags = [*(f for f in item.flags if f[1] != "-"), item.flag]
    flags += [f for f in (*item.flags, *item.former) if f[1] == "-"]
    if item.kind is bool:
        section.add_argument(*flags, action="store_true", default=argparse.SUPPRESS, help=text)
        return
    section.add_argument(
        *flags,
        default=argparse.SUPPRESS,  # so that what was not given is not there
        # No function of its own for each option: the tests' type checker would compile each anew.
        type=partial(_read, item),
        # A folder may have any name, so each has a flag of its own.
        nargs="+" if item.kind is tuple and item.part is not str else None,
        action="append" if item.kind is tuple and item.part is str else "store",
        choices=item.choices or None,
        metavar=None if item.choices else item.shown,
        help=text,
    )


def _read(item: Option, text: str) -> Any:
    try:
        return item.read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not usable, give {item.needed}") from error
