"""Runs side by side: a pool of processes that use one CPU thread each."""

import logging
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor

import torch


def one_thread_pool(processes: int, silenced: int = logging.NOTSET) -> ProcessPoolExecutor:
    """Returns a pool whose processes run torch on one CPU thread each.

    Runs side by side would wait for each other's threads otherwise. Processes are spawned: a fork
    can hang once torch has used its threads. If this process is killed, they end too.

    Args:
        processes: Number of processes, at least 1.
        silenced: Logging level up to which their messages are dropped; default: none are.

    Example:
        >>> with one_thread_pool(2) as pool:
        ...     pool.submit(torch.get_num_threads).result()
        1
    """
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(
        processes, mp_context=spawn, initializer=_start, initargs=(silenced,)
    )


def _start(silenced: int) -> None:
    torch.set_num_threads(1)
    logging.disable(silenced)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process once its parent is dead; a pool's process would work on for hours."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is the process of a pool
    parent.join()
    os._exit(1)  # sys.exit would end this thread alone
