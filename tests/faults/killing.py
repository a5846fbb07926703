"""Real runs of the command line to kill, at a place that is named: no time is waited for."""

import csv
import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.data import DataLoader, get_worker_info

import forking
from mgd.cli import main
from mgd.engine.loop.checkpoint import checksum, load_checkpoint

TIMES = ("images_per_s", "data_wait", "seconds")


class Place(NamedTuple):
    """A place in a run: just before the `number`-th event of a kind after `steps` steps.

    Kinds: "batch" (a loader has given a batch), "step" (of the optimizer), "file" (a file in the
    run folder changes), "write" (a checkpoint is written; the place is inside, at its half).
    """

    kind: str
    number: int = 1
    steps: int = 0


class Watch:
    """Counts the places that this process, of this rank, comes by, and acts at one of them."""

    def __init__(self, place, act, rank):
        self.place, self.act, self.rank = place, act, rank
        self.steps, self.events, self.seen = 0, [], 0

    def is_here(self, kind):
        rank = dist.get_rank() if dist.is_initialized() else 0
        if get_worker_info() is not None or rank != self.rank:
            return False
        self.events.append((kind, self.steps))
        if self.place is None or kind != self.place.kind or self.steps < self.place.steps:
            return False
        self.seen += 1
        return self.seen == self.place.number

    def note(self, kind):
        if self.is_here(kind):
            self.act(self.place)

    def step_taken(self):
        self.steps += 1

    def install(self):
        """Hooks in where torch and Python are called, whatever the package's modules are."""
        register_optimizer_step_pre_hook(lambda *_: self.note("step"))
        register_optimizer_step_post_hook(lambda *_: self.step_taken())
        iterate, save, run = DataLoader.__iter__, torch.save, os.path.abspath("runs/run") + os.sep

        def batches(loader):
            for batch in iterate(loader):
                self.note("batch")
                yield batch

        def save_half(state, file):
            if not self.is_here("write"):
                return save(state, file)
            memory = io.BytesIO()
            save(state, memory)
            file.write(memory.getvalue()[: memory.tell() // 2])
            file.flush()
            return self.act(self.place)

        def audit(event, arguments):
            changes = event in ("os.rename", "os.link", "os.remove") or (
                event == "open" and arguments[2] is not None and arguments[2] & os.O_WRONLY
            )
            if changes and os.path.abspath(os.fsdecode(arguments[0])).startswith(run):
                self.note("file")

        DataLoader.__iter__ = batches
        torch.save = save_half
        sys.addaudithook(audit)


def die(place):
    """Ends this process as `kill -9` does, and leaves word that it was here."""
    Path("died").write_text(repr(place))
    os.kill(os.getpid(), signal.SIGKILL)


def start(words, folder, place=None, act=die, rank=0):
    """Starts `mgd WORDS` in a folder; the run calls `act(place)` where it comes by the place."""
    return forking.start(_run, folder, words, place, act, rank)


def finish(words, folder):
    """Runs to the end, which must be a good one, and returns the places come by, in order."""
    process = start(words, folder)
    assert forking.end_of(process, folder) == 0, forking.printed(folder)
    events = [(kind, steps) for kind, steps in json.loads((folder / "events.json").read_text())]
    return [
        Place(kind, events[: index + 1].count((kind, steps)), steps)
        for index, (kind, steps) in enumerate(events)
    ]


def kill(words, folder, place):
    """Starts `mgd WORDS`, which must die at the place and nowhere else."""
    (folder / "died").unlink(missing_ok=True)
    code = forking.end_of(start(words, folder, place), folder)
    assert code == -signal.SIGKILL, (code, forking.printed(folder))
    assert (folder / "died").read_text() == repr(place)


def _run(words, place, act, rank):
    watch = Watch(place, act, rank)
    watch.install()
    with pytest.MonkeyPatch.context() as patch:
        forking.fork_ranks(patch, "fork")
        code = main(words)
    Path("events.json").write_text(json.dumps(watch.events))
    sys.exit(code)


def rows_of(run):
    """Returns the rows of a run's `summary.csv`, as text."""
    with (run / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def left_by(folder):
    """Returns all that a run leaves, times aside, in a form that is equal if all bits are."""
    run = folder / "runs" / "run"
    rows = rows_of(run)
    for row in rows:
        for name in TIMES:
            del row[name]
    found = {"rows": rows, "student": (run / "student.safetensors").read_bytes()}
    for name in ("last.ckpt", "best.ckpt"):
        state = load_checkpoint(run / name)
        found |= {f"{name}: {key}": checksum(state[key]) for key in state if key != "config"}
    for name in ("answers.csv", "thumbnails.json"):
        if (run / name).exists():
            found[name] = (run / name).read_text()
    if (run / "matching.csv").exists():
        lines = (run / "matching.csv").read_text().splitlines()
        found["matching.csv"] = [line.rpartition(",")[0] for line in lines]  # without the seconds
    for name in ("matching.json", "result.json"):
        if (run / name).exists():
            found[name] = _without_seconds(json.loads((run / name).read_text()))
    if (run / "gallery.npz").exists():
        found["gallery"] = (run / "gallery.npz").read_bytes()
    found["files"] = sorted(file.name for file in run.iterdir())
    return found


def _without_seconds(value):
    if isinstance(value, dict):
        return {name: _without_seconds(v) for name, v in value.items() if name != "seconds"}
    return [_without_seconds(v) for v in value] if isinstance(value, list) else value
