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

from mgd.data.splits import Splits
from mgd.engine.card import write_card
from mgd.engine.logs import check_logs
from mgd.engine.loop.answers import keep_answers
from mgd.engine.loop.evaluation import Scores
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
from mgd.engine.loop.runlog import Reporter
from mgd.engine.loop.sample import training_sample
from mgd.engine.loop.trainer import Trainer
from mgd.engine.loop.work import Work, run_work, trained_parameters
from mgd.engine.options.config import RunConfig
from mgd.engine.runtime.devices import launch
from mgd.engine.tasks.building import build_task, choose_logits
from mgd.engine.tasks.classes import teachers_classes
from mgd.engine.tasks.classifiers import build_classifiers, with_names
from mgd.engine.tasks.task import Task
from mgd.runfolder import RunResult

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
    told = reporter or Reporter()
    return launch(config, partial(run_work, make=ClassifierWork, reporter=told, command=command))


class ClassifierWork(Work[Outcome]):
    """A run of networks that name the class of an image."""

    def __init__(self, fabric: Fabric, config: RunConfig, reporter: Reporter):
        super().__init__(fabric, with_names(config), reporter)

    def load(self) -> None:
        """Finds the images and builds the networks."""
        config = self.config
        self.splits = load_data(config)
        augment = augmentation(config, self.splits)
        classes = self.splits.classes
        if config.data.label_free:
            classes = list(teachers_classes(config, classes))
        self.classifiers = build_classifiers(config, classes, augment, self._first_device)

    @property
    def _first_device(self) -> torch.device:
        """Where the networks are made and joined.

        A teacher that is to be sharded may be too large for the device. Its task moves both
        networks.
        """
        shards = self.config.devices.shards_teacher
        return torch.device("cpu") if shards else self.fabric.device

    def begin(self, folder: Path) -> tuple[Pipeline, Task]:
        """Cuts the data, and joins the networks where the run distils."""
        splits = self._cut()
        self.pipeline = Pipeline(self.config, self.fabric, splits, self.classifiers)
        return self.pipeline, self._task(folder)

    def _cut(self) -> Splits:
        """Cuts the data as `cut_splits` does, and says what the run is made of."""
        config, classifiers = self.config, self.classifiers
        watch = self.reporter.watch("reading every image once")
        splits, self.bad_images = cut_splits(config, self.splits, classifiers.classes, watch)
        for line in opening_lines(config.data.data, splits, classifiers):
            self.reporter.message(line)
        for warning in (
            enlarging_warning(splits.trained_on, classifiers.every),
            duplicates_warning(splits),
        ):
            if warning:
                logger.warning("%s", warning)
        return splits

    def _task(self, folder: Path) -> Task:
        config, pipeline, classifiers = self.config, self.pipeline, self.classifiers

        def images() -> Iterable[Tensor]:
            number = len(pipeline.matching_images)
            return self.reporter.watch("matching channels")(pipeline.tracked_images(), number)

        num_steps = config.schedule.steps_of(pipeline.train_batches.num_batches)
        labels_per_class = len(pipeline.splits.train) / len(classifiers.classes)
        chosen, note = choose_logits(config, classifiers.teacher, labels_per_class)
        if note:
            self.reporter.message(note)
        example = pipeline.example().to(self._first_device)
        weights = pipeline.class_weights
        task = build_task(chosen, classifiers, example, num_steps, images, weights)
        try:
            if kept := keep_teacher(chosen, self.fabric, pipeline, task, folder):
                self.reporter.message(kept)
        except Exception:
            task.close()
            raise
        return task

    def measure_teacher(self) -> Scores | None:
        """Measures the teacher before it teaches, and warns of one that has nothing to teach."""
        config, pipeline = self.config, self.pipeline
        every, teacher = self.classifiers.teacher, self.classifiers.answering_teacher
        if every is not None and config.devices.shards_teacher:
            self.reporter.message(sharded_line(every.network))
        if every is not None and config.data.label_free:
            watch = self.reporter.watch("asking the teacher for the classes of held-out images")
            pipeline.label_valid_by(every, watch)
        if teacher is None or pipeline.is_label_free:  # where it would agree with itself
            return None
        watch = self.reporter.watch("measuring the teacher")
        scores = pipeline.score(teacher, "valid", watch=watch, answers=pipeline.splits.test is None)
        told = f"teacher: Acc@1 {scores.top1:.1f} on {scores.images} images of valid"
        self.reporter.message(told)
        if warning := chance_warning(teacher, scores):
            logger.warning("%s", warning)
        return scores

    def sample(self, epoch: int) -> Tensor | None:
        """Returns training images as the student sees them."""
        return training_sample(self.pipeline, self.classifiers.student.view, epoch)

    def finish(
        self, trainer: Trainer, folder: Path, teacher: Scores | None, start: float
    ) -> Outcome:
        """Measures the best epoch's weights, on the test part if there is one."""
        pipeline, networks = self.pipeline, self.classifiers
        part: Part = "valid" if pipeline.splits.test is None else "test"
        student = pipeline.score(networks.student, part, answers=True)
        if part == "test" and networks.answering_teacher is not None:
            watch = self.reporter.watch("measuring the teacher")
            answering = networks.answering_teacher
            teacher = pipeline.score(answering, "test", watch=watch, answers=True)
        if self.fabric.is_global_zero:
            keep_answers(folder, pipeline, part, student, teacher, self.config.data.data)
        test = student if part == "test" else None
        parameters = trained_parameters(trainer)
        seconds = time.perf_counter() - start
        images, best = pipeline.num_valid, trainer.progress.best
        return Outcome(
            *(folder, best, test, teacher, parameters, seconds, images, pipeline.is_label_free),
            student_parameters=networks.student.num_parameters,
            teacher_parameters=networks.teacher.num_parameters if networks.teacher else None,
            stopped_after=trainer.stopped_after,
        )

    def result(self, outcome: Outcome) -> RunResult:
        """Returns what is kept of the outcome."""
        return _result(outcome)

    def describe(self, folder: Path, result: RunResult) -> None:
        """Writes the model card."""
        write_card(folder, self.config, self.pipeline.splits, self.classifiers, result)


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
