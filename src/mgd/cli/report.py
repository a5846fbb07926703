"""`mgd report`: the page of runs."""

import logging
from collections.abc import Sequence
from pathlib import Path

from mgd.cli.follow import follow
from mgd.cli.parser import Parser
from mgd.errors import InputError
from mgd.report import write_report
from mgd.runfolder import (
    Run,
    is_detection,
    is_evaluation,
    is_run,
    names,
    read_evaluation,
    read_run,
)

logger = logging.getLogger(__name__)


def report(arguments: Sequence[str]) -> None:
    """Draws the table, curves and matchings of run folders into one HTML page."""
    parser = Parser(prog="mgd report", description=(report.__doc__ or "").strip())
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="run folders, and folders of evaluations"
    )
    parser.add_argument(
        "-o", "--output", help=f"the page; default: {names.REPORT} in the run, or beside several"
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="draw the page again with each epoch until the runs have ended; it reloads by itself",
    )
    given = parser.parse_args(arguments)
    # The page of an earlier time, which `runs/*` names as well, is no run.
    folders = [Path(folder) for folder in given.runs if Path(folder).name != names.REPORT]
    begun = [each for each in folders if is_run(each) and not (each / names.SUMMARY).exists()]
    for folder in [each for each in folders if is_detection(each)]:
        folders.remove(folder)
        logger.warning(
            "'%s' holds an evaluation of detectors, which no page shows; left out, and its figures "
            "are in its %s",
            *(folder, names.DETECTION),
        )
    if given.follow:  # which waits for the first epoch
        begun = []
    folders = [each for each in folders if each not in begun]
    if not folders:
        raise InputError(f"{', '.join(given.runs)}: no run with a finished epoch; give run folders")
    for folder in begun:
        logger.warning("'%s' has no finished epoch; left out", folder)
    home = folders[0] if len(folders) == 1 else folders[0].parent
    path = Path(given.output) if given.output else home / names.REPORT
    named = [folder.name for folder in folders]
    title = ", ".join(named) if len(named) < 4 else f"{named[0]} and {len(named) - 1} more"

    def draw(reloads: int) -> list[Run]:
        evaluations = [read_evaluation(folder) for folder in folders if is_evaluation(folder)]
        runs = [read_run(folder) for folder in folders if not is_evaluation(folder)]
        check_output(path)
        write_report(runs, path, f"Runs: {title}", evaluations=evaluations, reloads=reloads)
        return runs

    if given.follow:
        follow(folders, path, draw)
    else:
        draw(0)
        print(path)


def check_output(path: Path) -> None:
    """Checks that a file can be written there.

    Raises:
        InputError: If its folder is missing, or if it is a folder itself.
    """
    if not path.parent.is_dir():
        raise InputError(f"--output {path}: the folder '{path.parent}' does not exist; make it")
    if path.is_dir():
        raise InputError(f"--output {path} is a folder; name a file")
