"""Writes docs/cli.md from the parser: `make docs`."""

import contextlib
import io
import os
import sys
from typing import get_args

from mgd.cli.main import COMMANDS, USAGE
from mgd.engine.options.option import Command

_INTRODUCTION = """# Command line

This page lists every command and every option, for those who train, distil or evaluate networks
from a terminal. `mgd COMMAND --help` shows the common options on one screen, and
`mgd train --help-all`, `mgd distill --help-all` and `mgd evaluate --help-all` what stands here.

- Each option can also stand in a YAML file given with `-c FILE`, as `name: value`, under its name
  without the dashes. A flag on the command line wins over the file. A run's `args.yaml` is such a
  file: `mgd distill -c runs/x/args.yaml --experiment again` makes the run once more, and `DATA` may
  be left out. Code that a file names as a network runs only if the command line names it too.
- `--recipe NAME` sets options that go together, from a file of the package, and `--show-recipe
  NAME` prints it. A `-c` file wins over the recipe, and a flag over both. `args.yaml` keeps the
  values.
- A run that goes on with other options by `--resume` says which. Its folder keeps the earlier ones
  as `args-until-epoch-E-step-S.yaml`, which `-c` takes as well.
- `mgd train` has no teacher. It accepts the options of `mgd distill`, as the original
  `main_base.py` does: those of a teacher are used with `--evaluate` and otherwise have no effect,
  which a warning says. Only a `--distiller` other than none is refused.
- In the place of `DATA`, `mgd evaluate` takes a run folder or a file in it as well, and measures it
  on the images of that run. A file elsewhere needs both: `mgd evaluate DATA --model FILE`.
- `.pt2` and `.onnx` files can be evaluated and predict, but neither train nor teach. Loading a
  `.pt2` can run code in it: use none of a stranger's.
- `mgd train-detector` and `mgd distill-detector` refuse options that have no effect on detectors. A
  detector is exported as weights alone.
- `mgd export` keeps a file only if it answers, on validation images and in its own runtime, as the
  network does.
- `--feature-weight` was called `--loss-worth` in earlier versions; the old name is still accepted.

`make docs` writes this page from the parser.
"""


def help_of(command: str) -> str:
    """Returns the help of a command, with every option."""
    word = "--help-all" if command in get_args(Command) else "--help"
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        COMMANDS[command]([word])
    return text.getvalue().rstrip()


def main() -> None:
    """Prints the page."""
    os.environ["COLUMNS"] = "80"
    sys.argv[0] = "mgd"
    print(_INTRODUCTION)
    print(f"```text\n{USAGE}\n```")
    for command in COMMANDS:
        print(f"\n## mgd {command}\n\n```text\n{help_of(command)}\n```")


if __name__ == "__main__":
    main()
