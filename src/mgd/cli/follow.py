"""Follows runs that go on: their page is drawn again whenever their folders have something new."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from mgd.errors import InputError
from mgd.runfolder import Run, names

logger = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two looks at the folders."""
_SOONEST, _LATEST = 5, 60
"""Seconds, as a whole number, after which the page may load itself again."""

Draw = Callable[[int], Sequence[Run]]
"""Reads the runs, writes their page, and returns them. The page loads itself again after so many
seconds; 0: never."""


def follow(folders: Sequence[Path], path: Path, draw: Draw) -> None:
    """Draws a page until its runs have ended, or until Control-C.

    A file that cannot be read is a warning, and the page stays as it is until the next look.

    Args:
        folders: Of the runs.
        path: The page.
        draw: Draws it.
    """
    told, state, runs = "", _state(folders), draw(_SOONEST)
    about = "drawn again with each epoch; open it in a browser; Control-C ends this"
    try:
        print(f"{path}: {about}", flush=True)
        while any(run.result is None for run in runs):
            time.sleep(EVERY)
            now = _state(folders)
            if now == state:
                continue
            try:
                runs, state = draw(_pause(runs)), now
            except InputError as error:
                if str(error) != told:
                    logger.warning("%s", error)
                told = str(error)
    except KeyboardInterrupt:
        draw(0)
        print("no longer followed; what trains goes on")
    else:
        print("all runs have ended")


def _state(folders: Sequence[Path]) -> str:
    """Returns what changes with each file that a run has written.

    Names that begin with a dot are locks, and files that are not yet whole.
    """
    found = []
    for file in sorted(file for folder in folders for file in folder.glob("[!.]*")):
        with suppress(FileNotFoundError):  # replaced at this moment
            status = file.stat()
            if file.name != names.REPORT:
                found.append((str(file), status.st_mtime_ns, status.st_size))
    return repr(found)


def _pause(runs: Sequence[Run]) -> int:
    """Returns half the time of the shortest epoch among the runs' last, in seconds."""
    last = [run.epochs[-1].seconds for run in runs if run.epochs and run.result is None]
    return round(min(_LATEST, max(_SOONEST, min(last, default=0) / 2)))
