"""Runs what `matrix.yaml` declares, adds the results to `results.jsonl`, and writes the pages.

`make evidence TIER=small` needs no files; `TIER=cpu` adds CIFAR-10, `TIER=gpu` what needs a GPU.

A run that has a row in `results.jsonl`, with the same command line, is not repeated. There are two
exceptions: `--again` removes the row first, and a run is repeated if another one needs its files
and they are missing. An unfinished run continues from its checkpoint.
"""

import argparse
import os
import sys
from pathlib import Path

from benchmarks.evidence.data import out_of_reach, prepare
from benchmarks.evidence.page import write_page
from benchmarks.evidence.plan import TIERS, chosen, data_name, plan, read_matrix
from benchmarks.evidence.runner import forget, read_results, row_key, run_all
from mgd.runfolder import names


def main() -> None:
    """Runs what is missing, then writes the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", choices=TIERS, default="small")
    parser.add_argument("--only", default="", help="regular expression on experiment/method")
    parser.add_argument("--seeds", type=int, nargs="+", help="only runs with these; default: all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time")
    parser.add_argument("--runs", type=Path, default=Path("evidence-runs"), help="run folders")
    parser.add_argument("--cifar10", type=Path, help="folder with train and valid; else fetched")
    parser.add_argument("--grocery", type=Path, help="folder with train and valid; else left out")
    parser.add_argument("--bccd", type=Path, help="folder of blood cells with boxes; else left out")
    parser.add_argument("--weights", type=Path, help="folder with given weights files")
    parser.add_argument(
        "--again",
        action="store_true",
        help="remove rows and run folders, and run all of it again",
    )
    parser.add_argument("--list", action="store_true", help="print the commands, and run nothing")
    given = parser.parse_args()
    matrix = read_matrix()
    files = {path.name for path in given.weights.iterdir()} if given.weights else set()
    planned = plan(matrix, files)
    for name in out_of_reach(matrix, vars(given)):
        planned = [job for job in planned if job.words[1] != f"${data_name(name)}"]
        print(f"runs on {name} are left out without --{name} FOLDER", file=sys.stderr)
    commands = {row_key(row): row["command"] for row in read_results()}
    done = {job.key for job in planned if commands.get(job.key) == job.command}
    present = {
        job.key for job in planned if (given.runs / job.folder / names.STUDENT).is_file()
    } & done
    jobs = chosen(planned, given.tier, given.only, () if given.again else done, present)
    if given.seeds:
        jobs = [job for job in jobs if job.seed in given.seeds]
    if given.list:
        print("\n".join(job.command for job in jobs))
        return
    if given.again:
        forget(jobs, given.runs)
    folders = {"RUNS": given.runs.resolve(), "WEIGHTS": given.weights}
    data = {job.words[1] for job in jobs}
    folders |= prepare(matrix, data, vars(given), given.runs.resolve() / "data")
    failed = run_all(jobs, present, folders, given.jobs)
    write_page(read_results(), matrix)
    sys.exit(f"{len(failed)} runs failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
