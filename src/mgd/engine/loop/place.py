"""Place: the folder that a run writes into, and what it takes along from another folder."""

import itertools
from pathlib import Path

from mgd.engine.loop.checkpoint import State, load_checkpoint, newest_checkpoint
from mgd.engine.loop.progress import Progress
from mgd.engine.options.config import RunConfig
from mgd.errors import InputError
from mgd.runfolder import is_run, names, write_whole


def find_folder(config: RunConfig) -> tuple[Path, State | None]:
    """Returns the run folder and the state to go on from, if `--resume` asks for one.

    A run without a name of its own gets the next free one, or goes on with the newest. A named
    run that is there already is never overwritten.

    Raises:
        InputError: If the named run exists, or the checkpoint cannot be used.
    """
    resume, output = config.output.resume, Path(config.output.output)
    path = output / config.run_name
    if resume not in ("", "auto"):
        state = load_checkpoint(Path(resume))
        return (path if config.output.experiment else Path(resume).parent), state
    candidates = itertools.chain([path], (output / f"{path.name}-{n}" for n in itertools.count(2)))
    taken = list(itertools.takewhile(is_run, candidates))
    if resume == "auto":
        newest = path if config.output.experiment or not taken else taken[-1]
        return newest, newest_checkpoint(newest)
    if config.output.experiment and taken:
        raise InputError(
            f"run folder '{path}' holds a run already; go on with --resume auto, or name another "
            "--experiment"
        )
    return (output / f"{path.name}-{len(taken) + 1}" if taken else path), None


def take_along(progress: Progress, folder: Path, source: Path) -> None:
    """Takes the best epoch and the gallery along where a run goes on in another folder.

    Args:
        progress: Of the run; it forgets a best epoch whose files are not there.
        folder: Where the run goes on.
        source: Where it began.
    """
    if source.resolve() == folder.resolve():
        return
    if (source / names.GALLERY).is_file():
        _copy(source / names.GALLERY, folder)
    for name in (names.BEST_CHECKPOINT, names.STUDENT):
        if not (source / name).is_file():
            progress.forget_best()
            return
        _copy(source / name, folder)


def _copy(path: Path, folder: Path) -> None:
    content = path.read_bytes()
    write_whole(folder / path.name, lambda file: file.write(content))
