"""The pool of runs: one thread each, and as quiet as asked for."""

import logging

import pytest
import torch

from mgd.engine.runtime.pool import one_thread_pool


@pytest.mark.parametrize("silenced", [logging.NOTSET, logging.WARNING])
def test_a_process_has_one_thread_and_the_level_asked_for(silenced):
    with one_thread_pool(1, silenced) as pool:
        threads = pool.submit(torch.get_num_threads)
        warns = pool.submit(logging.getLogger("mgd").isEnabledFor, logging.WARNING)
        fails = pool.submit(logging.getLogger("mgd").isEnabledFor, logging.ERROR)
    assert threads.result() == 1
    assert warns.result() == (silenced < logging.WARNING)
    assert fails.result()
