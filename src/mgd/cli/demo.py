"""The demo: what a teacher gives a student that has few labels, on real images and offline."""

import itertools
import logging
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mgd.cli.parser import Parser
from mgd.data import write_few_labels
from mgd.engine.options.config import RunConfig
from mgd.engine.run import train
from mgd.engine.runtime.pool import one_thread_pool
from mgd.report import HEADINGS, draw_accuracies, figures, summarize, write_report
from mgd.runfolder import Run, names, read_run

TEACHER = "cifar_resnet8"
STUDENT = "cifar_resnet8_x0_25"
SHORT = 0.3
"""Length of the short training, as a share of the full one."""

# `docs/demo.md` tells how it was chosen.
RECIPE: dict[str, Any] = {
    "size": 8,
    "augment": "shift",
    "workers": 0,
    "learning_rate": 0.05,
    "lr_schedule": "cosine",
    "keep_epoch": "last",
    "wd": 5e-4,
    "mgd_update_freq": 5,
    "kd_temperature": 4.0,
    "tensorboard": 0,
}

METHODS: dict[str, dict[str, Any]] = {
    "student alone": {},
    "KD": {"distiller": "kd"},
    "MGD": {"distiller": "mgd", "mgd_with_kd": 0},
    "MGD + KD": {"distiller": "mgd", "mgd_with_kd": 1, "ce_weight": 1.0},
    "random + KD": {
        "distiller": "mgd",
        "mgd_with_kd": 1,
        "ce_weight": 1.0,
        "mgd_solver": "random",
        "mgd_update_freq": 0,
    },
}
MORE = ", more images"
"""Ends the name of a method that also learns from the images without labels."""

NOTES = (
    "The data are 1 797 scanned digits. The teacher learned from 500 of them, which the student "
    "never sees. The student has 200 others with labels: 100 train it, and on the other 100 one "
    "can watch the training. '100 + 497' are 497 more images, without labels. The accuracy is that "
    "of the last epoch, on the last 600 images: one image is 0.17 %.",
    "Teacher and student are CIFAR ResNets of depth 8; the student has a quarter of the teacher's "
    "width and a fifteenth of its parameters. All methods have the same seeds, epochs and "
    "augmentation. The seed also draws which 100 of the 200 train.",
    "gap = gap recovered = (method - student alone) / (teacher - student alone). random: the "
    "matching gives each student channel teacher channels drawn without looking.",
)


def demo(arguments: Sequence[str]) -> None:
    """Runs every method over the seeds, prints one table and writes a page."""
    parser = Parser(prog="mgd demo", description="Distil on real digits and compare methods.")
    parser.add_argument("--seeds", type=int, default=5, help="runs per method (default: 5)")
    parser.add_argument("--epochs", type=int, default=40, help="of every student (default: 40)")
    parser.add_argument("--output", default="demo", help="folder, numbered if it is there already")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="runs at a time (default: CPU cores)"
    )
    given = parser.parse_args(arguments)
    for name in ("seeds", "epochs", "jobs"):
        if getattr(given, name) < 1:
            parser.error(f"--{name} {getattr(given, name)} must be at least 1")
    start, console = time.perf_counter(), Console()
    root = _free(Path(given.output))
    write_few_labels(root / "images")
    lengths = sorted({max(1, round(SHORT * given.epochs)), given.epochs})
    teacher, *students = run_all(plan(root, given.seeds, lengths), given.jobs, console)
    by_length = {
        length: [run for run in students if run.options["epochs"] == length] for length in lengths
    }
    _write_pages(root, by_length[given.epochs], teacher)
    _print(console, by_length, teacher)
    console.print(f"{time.perf_counter() - start:.0f} s; page: {root / names.REPORT}")


def plan(root: Path, seeds: int, lengths: Sequence[int]) -> list[RunConfig]:
    """Returns the teacher's run and then every student's, seed by seed."""
    images, recipe = root / "images", RunConfig().replace(**RECIPE)
    teacher = recipe.replace(
        data=str(images / "teacher"),
        arch=TEACHER,
        epochs=max(1, round(0.6 * max(lengths))),
        batch_size=50,
        holdout=0.1,
        output=str(root),
        experiment="teacher",
    )
    student = recipe.replace(
        data=str(images / "student"),
        arch=STUDENT,
        teacher=TEACHER,
        teacher_resume=str(root / "teacher" / names.STUDENT),
        batch_size=20,
        holdout=0.5,
    )
    # Both kinds of images together make larger batches of the same share of labels a step.
    more = {"unlabelled": (str(images / "unlabelled"),), "batch_size": 50}
    taught = {f"{name}{MORE}": {**own, **more} for name, own in METHODS.items() if own}
    return [teacher] + [
        student.replace(
            output=str(root / f"{epochs}-epochs"),
            experiment=f"{name}-seed{seed}",
            epochs=epochs,
            seed=seed,
            **options,
        )
        for seed in range(seeds)
        for epochs in lengths
        for name, options in {**METHODS, **taught}.items()
    ]


def run_all(plan: list[RunConfig], jobs: int, console: Console) -> list[Run]:
    """Trains the teacher, then the students side by side, one thread each."""
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console, transient=True) as progress,
        one_thread_pool(jobs, silenced=logging.WARNING) as pool,
    ):
        task = progress.add_task("teacher", total=len(plan))
        folders = {0: pool.submit(_train, plan[0]).result()}
        futures = {pool.submit(_train, config): i for i, config in enumerate(plan[1:], start=1)}
        for future in as_completed(futures):
            folders[futures[future]] = future.result()
            progress.update(task, completed=len(folders), description=folders[futures[future]].name)
    return [read_run(folders[index]) for index in range(len(plan))]


def _train(config: RunConfig) -> Path:
    return train(config).folder


def _free(path: Path) -> Path:
    """Returns the path, or the next numbered one that is not there: nothing is overwritten."""
    candidates = itertools.chain(
        [path], (path.with_name(f"{path.name}-{n}") for n in itertools.count(2))
    )
    return next(name for name in candidates if not name.exists())


def _write_pages(root: Path, students: Sequence[Run], teacher: Run) -> None:
    """Writes the report and the pictures of the full training."""
    notes = [*NOTES, _told(teacher)]
    write_report(students, root / names.REPORT, "Few labels and a teacher, on digits", notes)
    (root / "result.png").write_bytes(_picture(students, teacher))
    matched = next(run for run in students if run.group == f"MGD + KD{MORE}")
    (root / "matching.png").write_bytes(figures.draw_matching(matched))


def _picture(students: Sequence[Run], teacher: Run) -> bytes:
    few, more = "100 images with labels", "and 497 images without"
    series: dict[str, dict[str, list[float]]] = {few: {}, more: {}}
    for run in students:
        method = series[more if run.group.endswith(MORE) else few]
        method.setdefault(run.group.removesuffix(MORE), []).append(_accuracy(run))
    return draw_accuracies(series, {"teacher": _accuracy(teacher)})


def _accuracy(run: Run) -> float:
    assert run.accuracy is not None  # it has ended
    return run.accuracy


def _told(teacher: Run) -> str:
    return f"teacher on test: {_accuracy(teacher):.1f} %"


def _print(console: Console, by_length: Mapping[int, Sequence[Run]], teacher: Run) -> None:
    """Prints a row for each method, with its accuracy and gap after each length of training."""
    table = Table("method", "images", box=SIMPLE, pad_edge=False)
    rows: dict[str, list[str]] = {}
    for epochs, runs in by_length.items():
        for heading in (f"{epochs} epochs, %", "gap"):
            table.add_column(heading, justify="right")
        for summary in summarize(runs):
            cells = dict(zip(HEADINGS, summary.cells(), strict=True))
            row = rows.setdefault(summary.group, [])
            row += [cells["Acc@1, %"], cells["gap"]]
    for group, row in rows.items():
        images = "100 + 497" if group.endswith(MORE) else "100"
        table.add_row(group.removesuffix(MORE), images, *row)
    table.add_row(
        "teacher", "500 others", *["", ""] * (len(by_length) - 1), f"{_accuracy(teacher):.1f}"
    )
    for note in NOTES:
        console.print(note, highlight=False)
    console.print(table)
