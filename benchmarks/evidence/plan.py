"""Plan: reads `matrix.yaml` into jobs, each of them one command line of `mgd`."""

import itertools
import re
from collections.abc import Collection, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mgd.runfolder import names

HERE = Path(__file__).parent
TIERS = ("small", "cpu", "gpu")
_NAME = re.compile(r"\{(.+?)\}")

Key = tuple[str, str, int]
"""(experiment, method, seed)"""


@dataclass(frozen=True)
class Job:
    """One run: a method of an experiment with a seed."""

    experiment: str
    method: str
    seed: int
    tier: str
    words: tuple[str, ...]
    """Of the command line after `mgd`, with `$NAME` for folders of this machine."""
    needs: tuple[Key, ...]
    """Keys of the jobs that make a file named in `words`."""

    @property
    def key(self) -> Key:
        """Experiment, method and seed, which no other job has together."""
        return self.experiment, self.method, self.seed

    @property
    def folder(self) -> str:
        """Its run folder, inside the folder of all runs."""
        return f"{self.experiment}/{_folder(self.method, self.seed)}"

    @property
    def command(self) -> str:
        """The command line for a reader to repeat."""
        return " ".join(f"'{word}'" if " " in word else word for word in ("mgd", *self.words))


def read_matrix() -> dict[str, Any]:
    """Reads `matrix.yaml`."""
    content: dict[str, Any] = yaml.safe_load((HERE / "matrix.yaml").read_text())
    return content


def plan(matrix: dict[str, Any], weights: Container[str] = ()) -> list[Job]:
    """Returns every job: all methods with one seed, then all with the next.

    Args:
        matrix: As read.
        weights: Names of the weights files that are given; the others are trained.
    """
    jobs = []
    for name, experiment in matrix["experiments"].items():
        seeds = {method: seeds_of(experiment, method) for method in experiment["methods"]}
        jobs += [
            _job(matrix, name, method, seed, weights)
            for seed in dict.fromkeys(itertools.chain(*seeds.values()))
            for method in seeds
            if seed in seeds[method]
        ]
    return jobs


def seeds_of(experiment: dict[str, Any], method: str) -> list[int]:
    """Returns the seeds of a method: its own, or those of the experiment."""
    seeds: list[int] = experiment["methods"][method].get("seeds", experiment["seeds"])
    return seeds


def _job(matrix: dict[str, Any], name: str, method: str, seed: int, weights: Container[str]) -> Job:
    experiment = matrix["experiments"][name]
    own = {flag: value for flag, value in experiment["methods"][method].items() if flag != "seeds"}
    flags = {"distiller": "none", **experiment["flags"], **own}
    if flags["distiller"] != "none":
        flags = {**flags, **experiment.get("teach", {}), **own}
    data, needs = experiment["data"], list[Key]()

    def resolve(match: re.Match[str]) -> str:
        target = match[1]
        if target == "data":
            return f"${data_name(data)}"
        if target in matrix["weights"]:
            entry = matrix["weights"][target]
            if entry["file"] in weights:
                return f"$WEIGHTS/{entry['file']}"
            target = entry["run"]
        where, _, what = target.partition("/")
        seeds = seeds_of(matrix["experiments"][where], what)
        needed = (where, what, seed if seed in seeds else seeds[0])
        needs.append(needed)
        return f"$RUNS/{where}/{_folder(*needed[1:])}/{names.STUDENT}"

    words = ["train" if flags["distiller"] == "none" else "distill"]
    words = [f"{words[0]}-detector"] if experiment.get("boxes") else words
    words.append("digits" if data == "digits" else f"${data_name(data)}")
    for flag, value in flags.items():
        if value is None:  # takes back a flag of the experiment
            continue
        words += [f"--{flag}"] if value is True else [f"--{flag}", _NAME.sub(resolve, str(value))]
    words += ["--seed", str(seed), "--output", f"$RUNS/{name}"]
    words += ["--experiment", _folder(method, seed), "--tensorboard", "0", "--resume", "auto"]
    return Job(name, method, seed, experiment["tier"], tuple(words), tuple(needs))


def _folder(method: str, seed: int) -> str:
    return f"{method}-seed{seed}"


def data_name(data: str | dict[str, Any]) -> str:
    """Returns the variable that stands for a data folder.

    `CIFAR10`, `CIFAR10_5` for five of its classes, `CIFAR10_500_LABELLED` for 500 labels a class.
    """
    if isinstance(data, str):
        return data.upper()
    if "labelled" in data:
        return f"{data['of'].upper()}_{data['labelled']}_LABELLED"
    return f"{data['of'].upper()}_{len(data['classes'])}"


def chosen(
    jobs: list[Job], tier: str, only: str, done: Collection[Key], present: Collection[Key] = ()
) -> list[Job]:
    """Returns the jobs to run, in an order in which each comes after those that it needs.

    Args:
        jobs: All jobs.
        tier: Jobs of this tier and of the lower ones are taken.
        only: Regular expression that `experiment/method` must match.
        done: Jobs that have a row already and are left out, unless another job needs their files.
        present: Jobs whose files exist, so that others can use them.
    """
    by_key = {job.key: job for job in jobs}
    found: dict[Key, Job] = {}

    def take(job: Job) -> None:
        for key in job.needs:
            if key not in present:
                take(by_key[key])
        found[job.key] = job

    for job in jobs:
        is_in_tier = TIERS.index(job.tier) <= TIERS.index(tier)
        is_asked_for = re.search(only, f"{job.experiment}/{job.method}")
        if is_in_tier and is_asked_for and job.key not in done:
            take(job)
    return list(found.values())
