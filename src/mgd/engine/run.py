"""Runs: what the command line calls. All is built and checked before anything is written."""

import itertools
import logging
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from lightning_fabric import Fabric

from mgd import ranks
from mgd.engine.loop.checkpoint import State, load_checkpoint, newest_checkpoint
from mgd.engine.loop.evaluation import Scores
from mgd.engine.loop.pipeline import build_pipeline, telling_of_dead_workers
from mgd.engine.loop.progress import Progress
from mgd.engine.loop.runlog import Reporter, RunLog
from mgd.engine.loop.trainer import Trainer
from mgd.engine.options.config import RunConfig
from mgd.engine.runtime.devices import launch
from mgd.engine.tasks.networks import build_networks, build_task
from mgd.errors import InputError
from mgd.runfolder import (
    RunResult,
    is_run,
    names,
    read_epochs,
    write_bad_images,
    write_per_class,
    write_whole,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a training run came to."""

    folder: Path
    best: dict[str, float]
    """The best epoch: `epoch`, and the `top1` and `top5` on `valid` that chose it, percent."""
    test: Scores | None
    """Of the best epoch's weights, on images that chose nothing, if there are such."""
    teacher: Scores | None
    """Of the teacher, on the same images."""
    trained_parameters: int
    seconds: float
    """With those of the epochs before it was resumed."""
    valid_images: int
    """How many images chose the best epoch."""


def train(config: RunConfig, reporter: Reporter | None = None) -> Outcome:
    """Trains or distils a student and leaves a run folder.

    Raises:
        InputError: For anything in the configuration, data or files that cannot be used; before
            training starts nothing is written.
    """
    return launch(config, partial(_train, reporter=reporter or Reporter()))


@telling_of_dead_workers()
def _train(fabric: Fabric, config: RunConfig, reporter: Reporter) -> Outcome:
    start = time.perf_counter()
    reporter = reporter if fabric.is_global_zero else Reporter()
    path, state = find_folder(config)
    fabric.seed_everything(config.schedule.seed, verbose=False)
    pipeline = build_pipeline(config, fabric)
    student, teacher = build_networks(config, pipeline.num_classes, fabric.device)
    task = build_task(
        config,
        student,
        teacher,
        pipeline.example(),
        pipeline.train_batches.num_batches,
        pipeline.tracked_images,
    )
    trainer = Trainer(fabric, config, pipeline, task, reporter, path)
    progress = trainer.progress
    if state is not None:
        trainer.state.load_state_dict(state)
        reporter.message(f"going on with '{path}' at epoch {progress.epoch}, step {progress.step}")
    valid_scores = pipeline.score(teacher, pipeline.valid) if teacher is not None else None
    fabric.barrier()  # rank 0 makes the folder once every rank has looked for checkpoints
    log = RunLog(path, config, trainer.columns) if fabric.is_global_zero else None
    try:
        if log is not None:
            log.keep_epochs_before(progress.epoch)
            # What earlier processes of this run took counts as well.
            start -= sum(record.seconds for record in read_epochs(path))
            if config.output.resume not in ("", "auto"):
                _adopt_best(progress, path, Path(config.output.resume).parent)
            if config.data.skip_bad_images:
                write_bad_images(path, pipeline.bad_images)
                reporter.message(_count_line(pipeline.bad_images, path))
        trainer.fit(log, valid_scores)
        outcome = _finish(trainer, path, valid_scores, start)
        if log is not None:
            log.write_result(_result(outcome))
    finally:
        reporter.close()
        task.close()
        if log is not None:
            log.close()
    return outcome


def _adopt_best(progress: Progress, folder: Path, source: Path) -> None:
    """Takes the best epoch along where a run goes on in another folder than it began in."""
    if source.resolve() == folder.resolve():
        return
    for name in (names.BEST_CHECKPOINT, names.STUDENT):
        if not (source / name).is_file():
            progress.forget_best()
            return
        content = (source / name).read_bytes()
        write_whole(folder / name, partial(_put, content))


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def _finish(trainer: Trainer, path: Path, valid: Scores | None, start: float) -> Outcome:
    """Measures the best epoch's weights on the test part, if there is one."""
    pipeline, student, teacher = trainer.pipeline, trainer.task.student, trainer.task.teacher
    test = None
    if pipeline.test is not None:
        if trainer.fabric.is_global_zero and (path / names.BEST_CHECKPOINT).exists():
            student.load_state_dict(load_checkpoint(path / names.BEST_CHECKPOINT)["student"])
        ranks.share(student.state_dict().values())
        test = pipeline.score(student, pipeline.test)
        valid = pipeline.score(teacher, pipeline.test) if teacher is not None else None
    parameters = sum(p.numel() for group in trainer.optimizer.param_groups for p in group["params"])
    seconds = time.perf_counter() - start
    images = len(pipeline.splits.valid)
    return Outcome(path, trainer.progress.best, test, valid, parameters, seconds, images)


def _result(outcome: Outcome) -> RunResult:
    return RunResult(
        best_epoch=int(outcome.best["epoch"]),
        valid_top1=outcome.best["top1"],
        valid_top5=outcome.best["top5"],
        test_top1=outcome.test.top1 if outcome.test else None,
        test_top5=outcome.test.top5 if outcome.test else None,
        teacher_top1=outcome.teacher.top1 if outcome.teacher else None,
        teacher_top5=outcome.teacher.top5 if outcome.teacher else None,
        trained_parameters=outcome.trained_parameters,
        seconds=round(outcome.seconds, 2),
    )


def evaluate_networks(config: RunConfig) -> tuple[dict[str, Scores], Path]:
    """Measures the student, and the teacher if one is named, on `valid`.

    Returns:
        Scores by "teacher" and "student", and the CSV with each class's accuracy.

    Raises:
        InputError: For networks, weights or data that cannot be used.
    """
    return launch(config, _evaluate)


@telling_of_dead_workers()
def _evaluate(fabric: Fabric, config: RunConfig) -> tuple[dict[str, Scores], Path]:
    fabric.seed_everything(config.schedule.seed, verbose=False)
    pipeline = build_pipeline(config, fabric)
    student, teacher = build_networks(config, pipeline.num_classes, fabric.device)
    networks = {"teacher": teacher, "student": student}
    scores = {
        name: pipeline.score(network, pipeline.valid)
        for name, network in networks.items()
        if network is not None
    }
    name = config.output.experiment or f"evaluate-{config.run_name}"
    folder = Path(config.output.output) / name
    if fabric.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        counts = {network: found.per_class for network, found in scores.items()}
        write_per_class(folder, pipeline.splits.classes, counts)
        if config.data.skip_bad_images:
            write_bad_images(folder, pipeline.bad_images)
            logger.warning("%s", _count_line(pipeline.bad_images, folder))
    return scores, folder / names.PER_CLASS


def _count_line(bad_images: list[str], folder: Path) -> str:
    return f"{len(bad_images)} unreadable images left out, listed in {folder / names.BAD_IMAGES}"


def find_folder(config: RunConfig) -> tuple[Path, State | None]:
    """Returns the run folder and the state to go on from, if `--resume` asks for one.

    A run without a name of its own gets the next free one, or goes on with the newest. A named
    run that is there already is never overwritten.

    Raises:
        InputError: If the named run exists, or the checkpoint cannot be used.
    """
    resume, output = config.output.resume, Path(config.output.output)
    path = output / config.run_name
    if resume not in ("", "auto"):
        state = load_checkpoint(Path(resume))
        return (path if config.output.experiment else Path(resume).parent), state
    candidates = itertools.chain([path], (output / f"{path.name}-{n}" for n in itertools.count(2)))
    taken = list(itertools.takewhile(is_run, candidates))
    if resume == "auto":
        newest = path if config.output.experiment or not taken else taken[-1]
        return newest, newest_checkpoint(newest)
    if config.output.experiment and taken:
        raise InputError(
            f"run folder '{path}' holds a run already; go on with --resume auto, or name another "
            "--experiment"
        )
    return (output / f"{path.name}-{len(taken) + 1}" if taken else path), None
