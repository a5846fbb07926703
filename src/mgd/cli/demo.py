"""The demo: what distillation gains on real images, in minutes and offline."""

import itertools
import logging
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mgd.cli.parser import Parser
from mgd.data import DIGITS
from mgd.engine.options.config import RunConfig
from mgd.engine.run import train
from mgd.engine.runtime.pool import one_thread_pool
from mgd.report import HEADINGS, figures, summarize, write_report
from mgd.runfolder import Run, names, read_run

LABELS = 100
TEACHER = "cifar_resnet8"
STUDENT = "cifar_resnet8_x0_25"

# Chosen on the validation part: `docs/demo.md` has the scan.
RECIPE = RunConfig().replace(
    data=DIGITS,
    size=8,
    batch_size=20,
    workers=0,
    learning_rate=0.1,
    lr_schedule="cosine",
    wd=5e-4,
    mgd_update_freq=5,
    feature_weight=1.0,
    tensorboard=0,
)

METHODS: dict[str, dict[str, Any]] = {
    "student alone": {},
    "KD": {"distiller": "kd"},
    "MGD sm": {"distiller": "mgd", "mgd_reducer": "sm"},
    "MGD rd": {"distiller": "mgd", "mgd_reducer": "rd"},
    "MGD amp": {"distiller": "mgd", "mgd_reducer": "amp"},
    "MGD sp": {"distiller": "mgd", "mgd_reducer": "sp"},
    "MGD amp + KD": {"distiller": "mgd", "mgd_reducer": "amp", "mgd_with_kd": 1},
    "random matching, fixed": {"distiller": "mgd", "mgd_solver": "random", "mgd_update_freq": 0},
    "random matching, redrawn": {"distiller": "mgd", "mgd_solver": "random"},
}

NOTES = (
    "Teacher and student are CIFAR ResNets of depth 8; the student has a quarter of the teacher's "
    f"width. The teacher learned from 897 labelled digits, the students from {LABELS} of them, "
    "the same for all methods of a seed: few labels are where a teacher can help.",
    "Every method has the same budget, seeds and augmentation. The epoch is chosen on 300 "
    "validation images; the accuracy is that on 600 test images, which chose nothing: one image is "
    "0.17 %. Gap = gap recovered = (method - student alone) / (teacher - student alone).",
    "The random matchings give each student channel teacher channels drawn without looking: "
    "what remains of the gain is not due to the matching. Distance: mean channel distance (0 to 4) "
    "of the matched pairs, before the first and after the last update.",
)


def demo(arguments: Sequence[str]) -> None:
    """Runs every method over the seeds, prints one table and writes a page."""
    parser = Parser(prog="mgd demo", description="Distil on real digits and compare methods.")
    parser.add_argument("--seeds", type=int, default=3, help="runs per method (default: 3)")
    parser.add_argument("--epochs", type=int, default=50, help="of every student (default: 50)")
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
    folders = run_all(plan(root, given.seeds, given.epochs), given.jobs, console)
    runs = [read_run(folder) for folder in folders]
    teacher, students = runs[0], runs[1:]
    accuracy = f"teacher on test: {teacher.accuracy:.1f} %"
    notes = [*NOTES, accuracy]
    page = root / names.REPORT
    write_report(students, page, "Matching Guided Distillation on digits", notes)
    (root / "curves.png").write_bytes(figures.draw_curves(students))
    (root / "matching.png").write_bytes(figures.draw_matching(_first(students, "MGD amp")))
    _print(console, students, accuracy)
    console.print(f"{time.perf_counter() - start:.0f} s; page: {page}")


def plan(
    root: Path, seeds: int, epochs: int, methods: Mapping[str, dict[str, Any]] = METHODS
) -> list[RunConfig]:
    """Returns the teacher's run and then every student's, seed by seed."""
    recipe = RECIPE.replace(output=str(root))
    teacher = recipe.replace(
        experiment="teacher", arch=TEACHER, epochs=max(1, epochs // 3), batch_size=64
    )
    student = recipe.replace(
        arch=STUDENT,
        teacher=TEACHER,
        teacher_resume=str(root / "teacher" / names.STUDENT),
        epochs=epochs,
        train_images=LABELS,
    )
    return [teacher] + [
        student.replace(experiment=f"{name}-seed{seed}", seed=seed, **options)
        for seed in range(seeds)
        for name, options in methods.items()
    ]


def run_all(plan: list[RunConfig], jobs: int, console: Console) -> list[Path]:
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
    return [folders[index] for index in range(len(plan))]


def _train(config: RunConfig) -> Path:
    return train(config).folder


def _free(path: Path) -> Path:
    """Returns the path, or the next numbered one that is not there: nothing is overwritten."""
    candidates = itertools.chain(
        [path], (path.with_name(f"{path.name}-{n}") for n in itertools.count(2))
    )
    return next(name for name in candidates if not name.exists())


def _first(runs: Sequence[Run], group: str) -> Run:
    return next(run for run in runs if run.group == group)


def _print(console: Console, runs: Sequence[Run], accuracy: str) -> None:
    table = Table(*HEADINGS)
    for column in table.columns[1:]:
        column.justify = "right"
    for summary in summarize(runs):
        table.add_row(*summary.cells())
    for note in NOTES:
        console.print(note, highlight=False)
    console.print(accuracy, highlight=False)
    console.print(table)
