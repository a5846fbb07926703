"""Fuzzing: the command line in this process, on a few digits, with no way out to the world."""

import os
import socket
from dataclasses import replace

import pytest
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn

from mgd.cli import main
from mgd.engine import measure, run
from mgd.engine.loop import pipeline
from mgd.engine.loop.trainer import Trainer
from mgd.engine.runtime.devices import build_fabric
from mgd.errors import RunError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder to work in; processes, compilers and networks that a case asks for are refused."""
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(pipeline, "load_splits", _few(pipeline.load_splits))
        for module in (run, measure):
            patch.setattr(module, "launch", _launch_here)
        patch.setattr(os, "fsync", lambda descriptor: None)  # most of a case's time
        patch.setattr(nn.Module, "compile", lambda self: None)
        patch.setattr(socket.socket, "connect", _no_network)
        patch.setattr(socket, "getaddrinfo", _no_network)
        yield folder


@pytest.fixture(scope="module")
def untrained(world):
    """The same, where a run is built and its folder made, but no epoch is trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "fit", lambda self, folder, teacher: None)
        patch.setattr(run.ClassifierWork, "finish", _nothing_found)
        yield world


def _nothing_found(work, trainer, path, *rest):
    return run.Outcome(path, {"epoch": 0, "top1": 0.0, "top5": 0.0}, None, None, 0, 0.0, 20)


def _no_network(*arguments, **options):
    raise OSError("no network in the fuzz tests")


def _launch_here(config, run):
    fabric = build_fabric(config.devices)
    if isinstance(fabric.strategy, DDPStrategy):
        raise RunError("several processes are left out of the fuzz tests")
    fabric.launch()
    return run(fabric, config)


def _few(load):
    from mgd.data.splits import Subset

    whole = load("digits")
    few = replace(
        whole,
        train=Subset(whole.train, range(60)),
        valid=Subset(whole.valid, range(20)),
        test=Subset(whole.test, range(20)),
    )
    return lambda source, *rest: few if source == "digits" else load(source, *rest)


@pytest.fixture
def outcome(capsys):
    """Runs a command line and returns its exit code, once all that must hold is seen to."""

    def run(words):
        try:
            code = main(list(words))
        except SystemExit as end:  # --help
            code = end.code
        said = capsys.readouterr()
        assert code in (0, 1, 2), (code, words)
        assert "Traceback" not in said.err
        if code:
            last = said.err.splitlines()[-1] if said.err else said.out
            assert last.startswith(("mgd: ", "usage: ")), (said, words)
        return code

    return run
