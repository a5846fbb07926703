"""Real processes to kill: forked from a server that has imported torch once, so that each is quick.

What is killed runs the command line as a user's process does, without pytest or its checks.
"""

import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

from mgd.engine.loop.checkpoint import checksum, load_checkpoint
from mgd.runfolder import read_epochs

TIMES = ("images_per_s", "data_wait", "seconds")


def server():
    """Returns the context whose processes are forks of one that has torch imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mgd.cli.main", "sklearn.datasets", "torchvision"])
    return context


def start(words, folder, hook=None, at=0):
    """Starts `mgd WORDS` in a folder; output goes to `printed` there."""
    process = server().Process(target=_run, args=(words, str(folder), hook, at))
    process.start()
    return process


def finish(words, folder, seconds=120):
    """Runs to the end, which must be a good one."""
    process = start(words, folder)
    process.join(seconds)
    assert process.exitcode == 0, (process.exitcode, (folder / "printed").read_text())


def _run(words, folder, hook, at):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.chdir(folder)
    printed = os.open("printed", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    import torch

    from mgd.cli import main

    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # else workers would import torch anew
    if hook is not None:
        HOOKS[hook](at)
    sys.exit(main(words))


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def at_file_operation(number):
    """Has this process killed just before its n-th change of a file in the run folder."""
    left, me = number, os.getpid()

    def watch(event, arguments):
        nonlocal left
        changes = event in ("os.rename", "os.link", "os.remove") or (
            event == "open" and arguments[2] is not None and arguments[2] & os.O_WRONLY
        )
        if changes and "/run/" in os.path.abspath(os.fsdecode(arguments[0])) and os.getpid() == me:
            left -= 1
            if not left:
                _die()

    sys.addaudithook(watch)


def inside_write(number):
    """Has this process killed with half of its n-th checkpoint written."""
    import io

    from mgd.engine.loop import checkpoint

    left, whole = number, checkpoint.torch.save

    def save(state, file):
        nonlocal left
        left -= 1
        if left:
            return whole(state, file)
        memory = io.BytesIO()
        whole(state, memory)
        file.write(memory.getvalue()[: memory.tell() // 2])
        file.flush()
        return _die()

    checkpoint.torch.save = save


HOOKS = {"at_file_operation": at_file_operation, "inside_write": inside_write}


def left_by(folder):
    """Returns all that a run leaves, times aside, in a form that is equal if all bits are."""
    run = folder / "runs" / "run"
    # As text: equal bits are equal text, also of what is not a number.
    rows = [
        {name: repr(value) for name, value in record.row().items() if name not in TIMES}
        for record in read_epochs(run)
    ]
    found = {"rows": rows, "student": (run / "student.safetensors").read_bytes()}
    for name in ("last.ckpt", "best.ckpt"):
        state = load_checkpoint(run / name)
        found |= {f"{name}: {key}": checksum(state[key]) for key in state if key != "config"}
    for name in ("matching.json", "result.json"):
        if (run / name).exists():
            found[name] = _without_seconds(json.loads((run / name).read_text()))
    found["files"] = sorted(file.name for file in run.iterdir())
    return found


def _without_seconds(value):
    if isinstance(value, dict):
        return {name: _without_seconds(v) for name, v in value.items() if name != "seconds"}
    return [_without_seconds(v) for v in value] if isinstance(value, list) else value


def wait_for_progress(process, checkpoint: Path, seconds=60):
    """Waits until a process has written a checkpoint, or has ended."""
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    deadline = time.monotonic() + seconds
    while process.is_alive() and time.monotonic() < deadline:
        if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
            return
        time.sleep(0.002)
    assert not process.is_alive(), "no checkpoint in a minute"
