"""Runner: runs jobs in parallel, one thread each, and adds a row to the results for each."""

import contextlib
import json
import platform
import re
import shutil
import subprocess
import time
import traceback
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.evidence.plan import HERE, Job, Key
from mgd.cli import main as mgd
from mgd.engine.runtime.pool import one_thread_pool
from mgd.runfolder import read_run

RESULTS = HERE / "results.jsonl"
RENAMED = {" --loss-worth ": " --feature-weight ", ", worth ": ", feature weight "}
"""Flags and methods whose name has changed since rows were made; the rows stay as they are."""
_KD_AT_ONE = re.compile(r" --mgd-with-kd 1(?: --kd-temperature \S+)?(?!.* --kd-weight)")
COLUMNS = ("epoch", "valid_top1", "valid_map")
"""Columns of an epoch's record that a row keeps, as far as it has them."""
OPTIONS = ("arch", "distiller", "size", "train-images")
"""Options of the run that a row keeps beside the command line."""
COSTS = ("teacher", "student", "first_cost", "cost_after")
"""Fields of a point's matching that a row keeps."""


def run_all(
    jobs: list[Job], present: set[Key], folders: dict[str, Path], at_a_time: int
) -> list[str]:
    """Runs the jobs in parallel, one thread each, every job after those that it needs.

    Returns:
        The names of the runs that failed, and of those that needed one of them.
    """
    waiting, running, failed = list(jobs), dict[Future[int], Job](), list[str]()
    done = present - {job.key for job in jobs}
    with one_thread_pool(at_a_time) as pool:
        while waiting or running:
            ready = [job for job in waiting if done.issuperset(job.needs)]
            for job in ready[: at_a_time - len(running)]:
                waiting.remove(job)
                running[pool.submit(run_one, job, folders)] = job
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, code = running.pop(future), future.result()
                name = "/".join(map(str, job.key))
                print(f"{datetime.now():%H:%M} {name}: exit {code}", flush=True)
                if code == 0:
                    done.add(job.key)
                else:
                    failed.append(name)
    return failed + ["/".join(map(str, job.key)) for job in waiting]


def run_one(job: Job, folders: dict[str, Path]) -> int:
    """Runs one command line in this process and adds its row; returns the exit code."""
    words = [_fill(word, folders) for word in job.words]
    folder = folders["RUNS"] / job.folder
    _forget_another(folder, job.command)
    log = folder.parent / f"{folder.name}.log"
    start = time.perf_counter()
    with log.open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            code = mgd(words)
        except Exception:  # a defect of ours ends this run, and not the others
            traceback.print_exc()
            code = 1
    if code == 0:
        run = read_run(folder)
        row = {
            "experiment": job.experiment,
            "method": job.method,
            "seed": job.seed,
            "tier": job.tier,
            "command": job.command,
            **_provenance(),
            "wall_seconds": round(time.perf_counter() - start, 1),
            "options": _only(OPTIONS, run.options),
            "result": asdict(run.result) if run.result else {},
            "points": [_only(COSTS, asdict(point)) for point in run.points],
            "rows": [_only(COLUMNS, record.row()) for record in run.epochs],
        }
        with RESULTS.open("a") as file:  # one write, so that lines of parallel runs do not mix
            file.write(json.dumps(row) + "\n")
    return code


def _only(keys: tuple[str, ...], values: dict[str, Any]) -> dict[str, Any]:
    return {key: values[key] for key in keys if key in values}


def forget(jobs: list[Job], runs: Path) -> None:
    """Removes rows and run folders; with its folder left, a finished run would not run again."""
    keys = {job.key for job in jobs}
    kept = [row for row in read_results() if row_key(row) not in keys]
    RESULTS.write_text("".join(json.dumps(row) + "\n" for row in kept))
    for job in jobs:
        shutil.rmtree(runs / job.folder, ignore_errors=True)


def _forget_another(folder: Path, command: str) -> None:
    """Removes the run folder of another command line, which this one could not continue."""
    note = folder.parent / f"{folder.name}.command"
    note.parent.mkdir(parents=True, exist_ok=True)
    if note.exists() and in_present_names(note.read_text()) != command:
        shutil.rmtree(folder, ignore_errors=True)
    note.write_text(command)


def _fill(word: str, folders: dict[str, Path]) -> str:
    name, slash, rest = word.removeprefix("$").partition("/")
    return f"{folders[name]}{slash}{rest}" if word.startswith("$") else word


def _provenance() -> dict[str, Any]:
    commit = subprocess.check_output(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], text=True)
    changed = subprocess.check_output(
        ["git", "-C", HERE, "status", "--porcelain", "--", "../../src"], text=True
    )
    names = ("matching-guided-distillation", "torch", "torchvision")
    return {
        "commit": commit.strip() + ("+" if changed else ""),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in names},
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    }


def read_results() -> list[dict[str, Any]]:
    """Reads all rows; of several rows with the same key, the last one is used."""
    if not RESULTS.is_file():
        return []
    text = in_present_names(RESULTS.read_text())
    rows = [json.loads(line) for line in text.splitlines()]
    return list({row_key(row): row for row in rows}.values())


def in_present_names(text: str) -> str:
    """Returns rows or command lines with today's names of flags and methods, and today's defaults.

    Until version 0.3.0 the logits counted 1 beside the labels where no weight was given. Since then
    the matrix gives the weight wherever both teach.
    """
    for old, new in RENAMED.items():
        text = text.replace(old, new)
    return _KD_AT_ONE.sub(r"\g<0> --kd-weight 1 --ce-weight 1", text)


def row_key(row: dict[str, Any]) -> Key:
    """Returns the job that a row belongs to."""
    return row["experiment"], row["method"], row["seed"]
