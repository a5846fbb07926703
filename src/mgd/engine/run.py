"""Runs: what the command line calls. What cannot be used is told before a run writes anything."""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from mgd import ranks
from mgd.data.splits import Splits
from mgd.engine.card import write_card
from mgd.engine.logs import check_logs
from mgd.engine.loop.answers import keep_answers
from mgd.engine.loop.checkpoint import load_checkpoint
from mgd.engine.loop.evaluation import Scores
from mgd.engine.loop.gallery import finish_gallery
from mgd.engine.loop.keeping import keep_teacher
from mgd.engine.loop.opening import (
    chance_warning,
    duplicates_warning,
    enlarging_warning,
    opening_lines,
    sharded_line,
)
from mgd.engine.loop.pipeline import (
    Part,
    Pipeline,
    augmentation,
    cut_splits,
    load_data,
)
from mgd.engine.loop.place import find_folder, take_along
from mgd.engine.loop.runlog import Reporter, RunLog
from mgd.engine.loop.sample import open_other_logs
from mgd.engine.loop.trainer import Trainer
from mgd.engine.loop.workers import telling_of_dead_workers
from mgd.engine.options.config import RunConfig
from mgd.engine.runtime.devices import launch
from mgd.engine.runtime.environment import describe_start
from mgd.engine.tasks.building import build_task, choose_logits
from mgd.engine.tasks.classes import teachers_classes
from mgd.engine.tasks.classifiers import (
    Classifiers,
    build_classifiers,
    with_names,
)
from mgd.errors import InputError
from mgd.runfolder import RunResult, Start, names, read_epochs, write_bad_images

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
    is_label_free: bool = False
    """Whether `best` is agreement with the teacher, and no accuracy."""
    student_parameters: int | None = None
    teacher_parameters: int | None = None
    stopped_after: int | None = None
    """Epochs that were trained, where `patience` ended the run before its last."""


def train(
    config: RunConfig, reporter: Reporter | None = None, command: Sequence[str] = ()
) -> Outcome:
    """Trains or distils a student and leaves a run folder.

    Args:
        config: The run.
        reporter: Told what happens, on rank 0.
        command: Words of the command line that asked for the run, to be kept in its folder.

    Raises:
        InputError: For anything in the configuration, data or files that cannot be used; what is
            found before training starts leaves no folder behind.
    """
    check_logs(config.output)
    return launch(config, partial(_train, reporter=reporter or Reporter(), command=command))


@telling_of_dead_workers()
def _train(
    fabric: Fabric, config: RunConfig, reporter: Reporter, command: Sequence[str] = ()
) -> Outcome:
    start = time.perf_counter()
    reporter = reporter if fabric.is_global_zero else Reporter()
    config = with_names(config)
    path, state = find_folder(config)
    fabric.seed_everything(config.schedule.seed, verbose=False)
    splits = load_data(config)
    augment = augmentation(config, splits)
    classes = splits.classes
    if config.data.label_free:
        classes = list(teachers_classes(config, classes))
    classifiers = build_classifiers(config, classes, augment, _first_device(fabric, config))
    fabric.barrier()  # rank 0 makes the folder once every rank has looked for checkpoints
    log = RunLog(path, config) if fabric.is_global_zero else None
    trainer: Trainer | None = None
    has_begun = False
    try:
        splits, bad_images = _cut(config, splits, classifiers, reporter)
        pipeline = Pipeline(config, fabric, splits, classifiers)
        trainer = _trainer(fabric, config, pipeline, classifiers, reporter, path)
        if config.data.label_free:
            assert classifiers.teacher is not None  # the options say so
            watch = reporter.watch("asking the teacher for the classes of held-out images")
            pipeline.label_valid_by(classifiers.teacher, watch)
        if state is not None:
            trainer.state.load_state_dict(state)
            place = trainer.progress
            reporter.message(f"going on with '{path}' at epoch {place.epoch}, step {place.step}")
        begun = describe_start(fabric, command, trainer.progress.epoch, trainer.progress.step)
        teacher = _judge_teacher(pipeline, classifiers, reporter)
        if log is not None:
            start -= _begin(log, trainer, bad_images, begun)
        has_begun = True
        if log is not None:
            open_other_logs(log, trainer)
        trainer.fit(log, teacher)
        outcome = _finish(trainer, path, teacher, start)
        finish_gallery(trainer.task, pipeline, None if log is None else path)
        if log is not None:
            result = _result(outcome)
            log.write_result(result)
            write_card(path, config, pipeline.splits, classifiers, result)
    except InputError:
        if log is not None and not has_begun:
            log.discard()
        raise
    finally:
        reporter.close()
        if trainer is not None:
            trainer.task.close()
        if log is not None:
            log.close()
    return outcome


def _begin(log: RunLog, trainer: Trainer, bad_images: list[str], begun: Start) -> float:
    """Makes the run folder that of this run, as far as it has come.

    Returns:
        The seconds that earlier processes of this run took, which count as well.
    """
    config, path = trainer.config, log.path
    if config.data.skip_bad_images:
        trainer.reporter.message(write_bad_images(path, bad_images))
    log.columns = trainer.columns
    log.keep_epochs_before(trainer.progress.epoch)
    if config.output.resume not in ("", "auto"):
        take_along(trainer.progress, path, Path(config.output.resume).parent)
    log.add_start(begun)
    return sum(record.seconds for record in read_epochs(path))


def _cut(
    config: RunConfig,
    splits: Splits,
    classifiers: Classifiers,
    reporter: Reporter,
) -> tuple[Splits, list[str]]:
    """Cuts the data as `cut_splits` does, and says what the run is made of."""
    watch = reporter.watch("reading every image once")
    splits, bad_images = cut_splits(config, splits, classifiers.classes, watch)
    for line in opening_lines(config.data.data, splits, classifiers):
        reporter.message(line)
    for warning in (
        enlarging_warning(splits.trained_on, classifiers.every),
        duplicates_warning(splits),
    ):
        if warning:
            logger.warning("%s", warning)
    return splits, bad_images


def _first_device(fabric: Fabric, config: RunConfig) -> torch.device:
    """Returns where the networks are made and joined.

    A teacher that is to be sharded may be too large for the device. Its task moves both networks.
    """
    return torch.device("cpu") if config.devices.shards_teacher else fabric.device


def _trainer(
    fabric: Fabric,
    config: RunConfig,
    pipeline: Pipeline,
    classifiers: Classifiers,
    reporter: Reporter,
    path: Path,
) -> Trainer:
    def images() -> Iterable[Tensor]:
        number = len(pipeline.matching_images)
        return reporter.watch("matching channels")(pipeline.tracked_images(), number)

    num_steps = config.schedule.steps_of(pipeline.train_batches.num_batches)
    labels_per_class = len(pipeline.splits.train) / len(classifiers.classes)
    chosen, note = choose_logits(config, classifiers.teacher, labels_per_class)
    if note:
        reporter.message(note)
    example, class_weights = pipeline.example(), pipeline.class_weights
    example = example.to(_first_device(fabric, config))
    task = build_task(chosen, classifiers, example, num_steps, images, class_weights)
    try:
        if kept := keep_teacher(chosen, fabric, pipeline, task, path):
            reporter.message(kept)
        trainer = Trainer(fabric, config, pipeline, task, reporter, path)
    except Exception:
        task.close()
        raise
    if config.devices.shards_teacher and classifiers.teacher is not None:
        reporter.message(sharded_line(classifiers.teacher.network))
    return trainer


def _judge_teacher(
    pipeline: Pipeline, classifiers: Classifiers, reporter: Reporter
) -> Scores | None:
    """Measures the teacher before it teaches, and warns of one that has nothing to teach."""
    teacher = classifiers.answering_teacher
    if teacher is None or pipeline.is_label_free:  # where it would agree with itself
        return None
    watch = reporter.watch("measuring the teacher")
    scores = pipeline.score(teacher, "valid", watch=watch, answers=pipeline.splits.test is None)
    reporter.message(f"teacher: Acc@1 {scores.top1:.1f} on {scores.images} images of valid")
    if warning := chance_warning(teacher, scores):
        logger.warning("%s", warning)
    return scores


def _finish(trainer: Trainer, path: Path, teacher: Scores | None, start: float) -> Outcome:
    """Measures the best epoch's weights, on the test part if there is one."""
    pipeline, task, reporter = trainer.pipeline, trainer.task, trainer.reporter
    part: Part = "valid" if pipeline.splits.test is None else "test"
    if trainer.fabric.is_global_zero and (path / names.BEST_CHECKPOINT).exists():
        task.student.load_state_dict(load_checkpoint(path / names.BEST_CHECKPOINT)["student"])
    ranks.share(task.student.state_dict().values())
    student = pipeline.score(task.classifiers.student, part, answers=True)
    if part == "test" and task.classifiers.answering_teacher is not None:
        watch = reporter.watch("measuring the teacher")
        answering = task.classifiers.answering_teacher
        teacher = pipeline.score(answering, "test", watch=watch, answers=True)
    if trainer.fabric.is_global_zero:
        keep_answers(path, pipeline, part, student, teacher, trainer.config.data.data)
    test = student if part == "test" else None
    groups = trainer.updates.optimizer.param_groups
    parameters = sum(p.numel() for group in groups for p in group["params"])
    seconds = time.perf_counter() - start
    images, best = len(pipeline.splits.valid), trainer.progress.best
    networks = task.classifiers
    return Outcome(
        *(path, best, test, teacher, parameters, seconds, images, pipeline.is_label_free),
        student_parameters=networks.student.num_parameters,
        teacher_parameters=networks.teacher.num_parameters if networks.teacher else None,
        stopped_after=trainer.stopped_after,
    )


def _result(outcome: Outcome) -> RunResult:
    return RunResult(
        best_epoch=int(outcome.best["epoch"]),
        valid_top1=outcome.best["top1"],
        valid_top5=outcome.best["top5"],
        test_top1=outcome.test.top1 if outcome.test else None,
        test_top5=outcome.test.top5 if outcome.test else None,
        teacher_top1=outcome.teacher.top1 if outcome.teacher else None,
        teacher_top5=outcome.teacher.top5 if outcome.teacher else None,
        valid_is_agreement=1 if outcome.is_label_free else None,
        trained_parameters=outcome.trained_parameters,
        student_parameters=outcome.student_parameters,
        teacher_parameters=outcome.teacher_parameters,
        stopped_after=outcome.stopped_after,
        seconds=round(outcome.seconds, 2),
    )
