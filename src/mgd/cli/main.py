"""Entry: picks the command; whatever the user gave wrongly ends in one line and exit code 2."""

import difflib
import io
import logging
import os
import platform
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

import torch

from mgd import ranks
from mgd.cli import commands
from mgd.cli.compare import compare
from mgd.cli.demo import demo
from mgd.cli.detection import distill_detector, train_detector
from mgd.cli.export import export
from mgd.cli.lines import printable, printable_lines
from mgd.cli.points import points
from mgd.cli.predict import predict
from mgd.cli.report import report
from mgd.cli.translate import with_flags
from mgd.errors import InputError, RunError

COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "train": commands.train,
    "distill": commands.distill,
    "train-detector": train_detector,
    "distill-detector": distill_detector,
    "evaluate": commands.evaluate,
    "predict": predict,
    "points": points,
    "report": report,
    "compare": compare,
    "export": export,
    "demo": demo,
}


class _ToStderr(logging.Handler):
    """Writes to what `sys.stderr` is at that time: a live line of progress takes it over."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one line."""
        print(printable_lines(self.format(record)), file=sys.stderr)


USAGE = """usage: mgd COMMAND ...

Matching Guided Distillation: a large teacher network teaches a small student by
its intermediate features (Yue, Deng, Zhou, ECCV 2020; this is
not Masked Generative Distillation).

  mgd demo              see it work on real images, in minutes
  mgd train             train a network without a teacher
  mgd distill           train a student under a teacher
  mgd train-detector    the same for networks that find boxes
  mgd distill-detector  the same under a teacher
  mgd evaluate          measure teacher and student
  mgd predict           name the classes of images, or find boxes on them
  mgd points            show where two networks would be distilled
  mgd report            draw the curves and matchings of runs into a page
  mgd compare           show what networks cost and how accurate they are
  mgd export            write a run's student for deployment

`mgd COMMAND --help` lists the options of each command.
`mgd --version` prints the versions of mgd, torch and Python."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        0; 1 for a run that broke down, 130 or 143 if a signal stopped it; 2 for an unusable input.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that is no UTF-8 must not stop a run
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if arguments is None else arguments)
    level = logging.WARNING if ranks.is_first() else logging.ERROR
    logging.basicConfig(format="%(message)s", level=level, handlers=[_ToStderr()])
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if words else 2
    if words[0] == "--version":
        mgd = version("matching-guided-distillation")
        print(f"mgd {mgd} (torch {torch.__version__}, Python {platform.python_version()})")
        return 0
    try:
        if words[0] not in COMMANDS:
            near = difflib.get_close_matches(words[0], COMMANDS, n=1)
            nearest = f"nearest: {near[0]}; " if near else ""
            raise InputError(
                f"unknown command '{words[0]}'; {nearest}choose one of {', '.join(COMMANDS)}"
            )
        COMMANDS[words[0]](words[1:])
    except (InputError, RunError) as error:
        # A name given, or a message of torch's, may have line breaks.
        said = " ".join(with_flags(str(error)).splitlines())
        print(f"mgd: {printable(said)}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Who reads the output has gone, as `head` does; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        print(f"mgd: '{error.filename}': {error.strerror}; give another path", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mgd: interrupted", file=sys.stderr)
        return 130
    return 0
