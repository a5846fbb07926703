"""Processes of a test, forked from a server that has imported torch once.

An interpreter of its own takes seconds to import torch; a fork of the server takes a few
hundredths. The server has none of pytest's checks, and so works as a user's process does.
"""

import multiprocessing
import os
import runpy
import sys

import pytest
from lightning_fabric.strategies.ddp import DDPStrategy

PATIENCE = 600
"""Seconds after which a process counts as hanging: far more than the slowest machine needs."""


def server():
    """Returns the context whose processes are forks of one that has torch imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["mgd.cli.main", "mgd.engine.run", "sklearn.datasets", "torchvision", "pytest"]
    )
    return context


def start(job, folder, *arguments, **environment):
    """Starts `job(*arguments)` in a folder; its output goes to `printed` there.

    Args:
        job: A function of a module.
        folder: The process's working folder.
        environment: Variables set in the process; one that is None is unset.
    """
    environment = {"CUDA_VISIBLE_DEVICES": "", **environment}
    process = server().Process(target=_run, args=(job, str(folder), arguments, environment))
    process.start()
    return process


def end_of(process, folder):
    """Waits for a process and returns its exit code; it is negative after a signal."""
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"hangs after {PATIENCE} s: {printed(folder)}")
    return process.exitcode


def printed(folder):
    """Returns what the processes of a folder have printed."""
    return (folder / "printed").read_text()


def run_script(path, words):
    """Does what `python PATH WORDS` does, in a process that `start` has made."""
    sys.argv = [path, *words]
    with pytest.MonkeyPatch.context() as patch:
        fork_ranks(patch, "fork")
        runpy.run_path(path, run_name="__main__")


def fork_ranks(patch, method):
    """Has Fabric fork its ranks where it would start an interpreter for each.

    Args:
        patch: A `pytest.MonkeyPatch`.
        method: "forkserver", or "fork" in a process that is a fork itself.
    """
    build = DDPStrategy.__init__

    def build_forked(self, *arguments, start_method="popen", **options):
        start_method = method if start_method == "spawn" else start_method
        build(self, *arguments, start_method=start_method, **options)

    server()
    patch.setattr(DDPStrategy, "__init__", build_forked)


def _run(job, folder, arguments, environment):
    for name, value in environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    os.chdir(folder)
    output = os.open("printed", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    multiprocessing.set_start_method("fork", force=True)  # else workers would import torch anew
    job(*arguments)
