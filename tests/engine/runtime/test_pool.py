"""The pool of runs: one thread each, and as quiet as asked for."""

import logging
import subprocess
import sys

import pytest
import torch

from forking import PATIENCE
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


PARENT = """
import os, time
from mgd.engine.runtime.pool import one_thread_pool

if __name__ == "__main__":
    with one_thread_pool(1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 36000).result()
"""


def test_its_processes_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE) as parent:
        assert int(parent.stdout.readline()) != parent.pid
        parent.kill()
        # The output ends when the last process that has it is gone.
        assert parent.communicate(timeout=PATIENCE) == (b"", None)
