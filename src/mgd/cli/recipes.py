"""Recipes on the command line: named, listed and printed."""

import argparse
from typing import Any

from mgd.cli.given import options_in
from mgd.engine.options.config import OPTIONS
from mgd.engine.options.option import Command
from mgd.engine.options.recipes import RECIPES


class _ShowRecipe(argparse.Action):
    """Prints a recipe, in the form that `-c` takes."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, *rest: Any
    ) -> None:
        print(RECIPES[values].read_text(), end="")
        parser.exit()


def add_recipes(section: Any, everything: bool) -> None:
    """Adds the options that name a recipe to a parser or a group of arguments in it."""
    known = ", ".join(RECIPES)
    text = f"options that go together: {known}"
    if everything:
        text += "; a -c file and flags win over it"
    section.add_argument(
        "--recipe", metavar="NAME", choices=RECIPES, default=argparse.SUPPRESS, help=text
    )
    section.add_argument(
        "--show-recipe",
        metavar="NAME",
        choices=RECIPES,
        action=_ShowRecipe,
        default=argparse.SUPPRESS,
        help="print a recipe, in the form that -c takes" if everything else argparse.SUPPRESS,
    )


def recipe_options(name: str, command: Command) -> dict[str, Any]:
    """Returns the options of a recipe that a command uses, by the option's field.

    Args:
        name: In `RECIPES`.
        command: `train` gets none of a teacher.
    """
    values = options_in(RECIPES[name], given=())
    return {key: value for key, value in values.items() if command in OPTIONS[key].commands}
