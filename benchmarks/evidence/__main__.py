"""Runs the matrix, run by run, and keeps what came out in `results.jsonl`.

`make evidence TIER=small` needs nothing; `TIER=cpu` adds CIFAR-10, `TIER=gpu` what needs a GPU.
What is in `results.jsonl` already, made by the same command line, is not run again; an unfinished
run goes on from its checkpoint. Afterwards `docs/evidence.md` is written from the file.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.evidence.page import write_page
from benchmarks.evidence.plan import HERE, TIERS, Job, chosen, plan, read_matrix

from benchmarks.evidence.data import prepare
from mgd.report import read_run

RESULTS = HERE / "results.jsonl"
KEPT = ("epoch", "loss", "valid_top1", "train_top1", "images_per_s", "data_wait")
"""Columns of `summary.csv` that a row keeps."""


def main() -> None:
    """Runs what is missing, then writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", choices=TIERS, default="small")
    parser.add_argument("--only", default="", help="regular expression on experiment/method")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time")
    parser.add_argument("--runs", type=Path, default=Path("evidence-runs"), help="run folders")
    parser.add_argument("--cifar10", type=Path, help="folder with train and valid; else fetched")
    parser.add_argument("--grocery", type=Path, help="folder with train and valid")
    parser.add_argument("--weights", type=Path, help="folder with given weights files")
    parser.add_argument("--list", action="store_true", help="print the commands and end")
    given = parser.parse_args()
    matrix = read_matrix()
    done = {row_key(row): row for row in read_results()}
    files = {path.name for path in given.weights.iterdir()} if given.weights else set()
    jobs = [
        job
        for job in chosen(plan(matrix, files), given.tier, given.only)
        if done.get(job.key, {}).get("command") != job.command
    ]
    if given.list:
        print("\n".join(job.command for job in jobs))
        return
    folders = {"RUNS": given.runs.resolve(), "WEIGHTS": given.weights}
    names = {job.words[1] for job in jobs}
    folders |= prepare(matrix, names, vars(given), given.runs.resolve() / "data")
    failed = run_all(jobs, set(done), folders, given.jobs)
    write_page(read_results(), matrix)
    sys.exit(f"{len(failed)} runs failed: {', '.join(failed)}" if failed else 0)


def run_all(
    jobs: list[Job], done: set[tuple[str, str, int]], folders: dict[str, Path], at_a_time: int
) -> list[str]:
    """Runs the jobs side by side, one thread each, every one after those that it needs.

    Returns:
        The names of the runs that failed, and of those that needed one of them.
    """
    waiting, running, failed = list(jobs), dict[Future[int], Job](), list[str]()
    done = done - {job.key for job in jobs}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(at_a_time, mp_context=spawn, initializer=_one_thread) as pool:
        while waiting or running:
            ready = [job for job in waiting if done.issuperset(job.needs)]
            for job in ready[: at_a_time - len(running)]:
                waiting.remove(job)
                running[pool.submit(run_one, job, folders)] = job
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, code = running.pop(future), future.result()
                print(f"{datetime.now():%H:%M} {'/'.join(map(str, job.key))}: exit {code}")
                if code == 0:
                    done.add(job.key)
                else:
                    failed.append("/".join(map(str, job.key)))
    return failed + ["/".join(map(str, job.key)) for job in waiting]


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
    sys.stdout.reconfigure(line_buffering=True)


def run_one(job: Job, folders: dict[str, Path]) -> int:
    """Runs one command line in this process and adds its row; returns the exit code."""
    from mgd.cli import main as mgd

    words = [_fill(word, folders) for word in job.words]
    log = folders["RUNS"] / job.experiment / f"{job.method}-seed{job.seed}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with log.open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        code = mgd(words)
    if code == 0:
        run = read_run(Path(words[words.index("--output") + 1]) / f"{job.method}-seed{job.seed}")
        row = {
            "experiment": job.experiment,
            "method": job.method,
            "seed": job.seed,
            "tier": job.tier,
            "command": job.command,
            **_provenance(),
            "wall_seconds": round(time.perf_counter() - start, 1),
            "options": {name: run.options[name] for name in sorted(run.options)},
            "result": run.result,
            "points": [{k: v for k, v in point.items() if k != "matching"} for point in run.points],
            "rows": [{name: row[name] for name in KEPT} for row in run.rows],
        }
        row["options"] = {k: v for k, v in row["options"].items() if k not in _PLACES}
        with RESULTS.open("a") as file:  # one write, so that runs side by side do not mix
            file.write(json.dumps(row) + "\n")
    return code


_PLACES = ("data", "output", "teacher-resume", "student-resume")


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
    """Reads all rows; of rows with one key the last counts."""
    if not RESULTS.is_file():
        return []
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    return list({row_key(row): row for row in rows}.values())


def row_key(row: dict[str, Any]) -> tuple[str, str, int]:
    """Returns the job that a row belongs to."""
    return row["experiment"], row["method"], row["seed"]


if __name__ == "__main__":
    main()
