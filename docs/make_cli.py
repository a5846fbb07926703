"""Writes docs/cli.md from the parser: `make docs`."""

import contextlib
import io
import os
import sys

from mgd.cli.main import COMMANDS, USAGE


def help_of(command: str) -> str:
    """Returns what `mgd COMMAND --help` prints."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        COMMANDS[command](["--help"])
    return text.getvalue().rstrip()


def main() -> None:
    """Prints the page."""
    os.environ["COLUMNS"] = "100"
    sys.argv[0] = "mgd"
    print("# Command line\n\nMade by `make docs` from the parser.\n")
    print(f"```text\n{USAGE}\n```")
    for command in COMMANDS:
        print(f"\n## mgd {command}\n\n```text\n{help_of(command)}\n```")


if __name__ == "__main__":
    main()
