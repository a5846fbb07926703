"""Workers: what a run says when a process that loads its images dies."""

import multiprocessing
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait

from mgd.errors import RunError


@contextmanager
def telling_of_dead_workers() -> Iterator[None]:
    """Turns torch's error about a killed loader process, raised wherever the run is, into one line.

    Raises:
        RunError: In its place.
    """
    try:
        with _waiting_for_the_news():
            yield
    except RuntimeError as error:
        told: BaseException = error
        while isinstance(told, RunError) and told.__cause__:  # raised, say, while a file is written
            told = told.__cause__
        if "DataLoader worker" not in str(told):
            raise
        # The frames hold the loaders, and with them the workers that are left.
        for fault in (error, error.__context__):
            traceback.clear_frames(fault.__traceback__ if fault else None)
        raise RunError(
            f"a process that loads images died ({str(told).splitlines()[0].strip()}); if memory "
            "ran out lower --workers; go on from the last checkpoint with --resume auto"
        ) from error


@contextmanager
def _waiting_for_the_news() -> Iterator[None]:
    """Lets torch tell of a killed worker, whose connection breaks a moment before it is dead."""
    try:
        yield
    except (ConnectionError, EOFError) as error:
        workers = {worker.sentinel: worker for worker in multiprocessing.active_children()}
        gone = wait([*workers], timeout=10) if workers else []
        dead = [worker for sentinel, worker in workers.items() if sentinel in gone]
        for worker in dead:  # its files are closed, but it may not be dead yet
            worker.join()  # torch's own signal handler raises here, as a rule
        if dead:
            raise RuntimeError(f"DataLoader worker (pid {dead[0].pid}) is dead") from error
        raise
