"""The lock of a run folder: one process at a time writes into it, on every system."""

from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from mgd.errors import InputError
from mgd.runfolder import names


def lock_folder(
    folder: Path, what: str = "run folder", instead: str = "name another --experiment"
) -> BaseFileLock:
    """Locks a folder until `release()` or the end of this process, however it ends.

    Forked children, such as data-loader workers, do not inherit the lock: `filelock` closes its
    file in them, from version 3.30 on. Workers can outlive a killed run for seconds, and would
    keep its folder locked otherwise.

    Args:
        folder: An existing folder.
        what: What it is, for an error.
        instead: What the user can do instead of waiting, for an error.

    Raises:
        InputError: If another run holds the lock.
        OSError: If the lock file cannot be made.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> lock = lock_folder(folder)
        >>> lock_folder(folder)
        Traceback (most recent call last):
        ...
        mgd.errors.InputError: run folder ... is in use by another run; ...
        >>> lock.release()
    """
    # Any thread of the process may release it.
    lock = FileLock(folder / names.LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"{what} '{folder}' is in use by another run; wait, or {instead}"
        ) from error
    return lock
