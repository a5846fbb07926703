"""Runs of detectors: what the command line calls."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from mgd.data.boxes import BoxSplits
from mgd.data.boxes_by_place import load_boxes
from mgd.engine.card.writing import write_text
from mgd.engine.detection.building import build_detector_task
from mgd.engine.detection.card import detector_card_text, detector_facts_of
from mgd.engine.detection.detectors import (
    Detector,
    Detectors,
    build_detectors,
    with_detector_names,
)
from mgd.engine.detection.pictures import keep_pictures
from mgd.engine.detection.pipeline import BoxPipeline
from mgd.engine.detection.precision import Precisions
from mgd.engine.detection.tasks import DetectorTask
from mgd.engine.logs import check_logs
from mgd.engine.loop.opening import data_lines, held
from mgd.engine.loop.pipeline import Part
from mgd.engine.loop.runlog import Reporter
from mgd.engine.loop.trainer import Trainer
from mgd.engine.loop.work import Work, run_work, trained_parameters
from mgd.engine.options.config import RunConfig
from mgd.engine.options.detectors import check_detector
from mgd.engine.runtime.devices import launch
from mgd.errors import import_extra
from mgd.runfolder import RunResult


@dataclass(frozen=True)
class DetectorOutcome:
    """What a run of detectors came to."""

    folder: Path
    best: dict[str, float]
    """The best epoch: `epoch`, and the `map` and `map_50` on `valid` that chose it, percent."""
    test: Precisions | None
    """Of the best epoch's weights, on images that chose nothing, if there are such."""
    teacher: Precisions | None
    """Of the teacher, on the same images."""
    trained_parameters: int
    student_parameters: int
    teacher_parameters: int | None
    seconds: float
    """With those of the epochs before it was resumed."""
    valid_images: int
    """How many images chose the best epoch."""
    classes: tuple[str, ...]
    stopped_after: int | None = None
    """Epochs that were trained, where `patience` ended the run before its last."""


def train_detector(
    config: RunConfig, reporter: Reporter | None = None, command: Sequence[str] = ()
) -> DetectorOutcome:
    """Trains or distils a detector and leaves a run folder.

    Args:
        config: The run. Options that are for classifiers alone have their defaults.
        reporter: Told what happens, on rank 0.
        command: Words of the command line that asked for the run, to be kept in its folder.

    Raises:
        InputError: For anything in the configuration, data or files that cannot be used; what is
            found before training starts leaves no folder behind.
    """
    check_logs(config.output)
    import_extra("pycocotools", "detection", "mean average precision")
    check_detector(config)
    return launch(
        on_several_gpus(config),
        partial(run_work, make=DetectorWork, reporter=reporter or Reporter(), command=command),
    )


def on_several_gpus(config: RunConfig) -> RunConfig:
    """Returns a run that takes several GPUs by one process each, where nothing says how.

    DataParallel, which classifiers take, would have to cut lists of images.
    """
    devices = config.devices
    takes_all = devices.parallel == "auto" and devices.gpu is None and devices.devices != 1
    if takes_all and torch.cuda.device_count() > 1:
        return config.replace(parallel="ddp")
    return config


class DetectorWork(Work[DetectorOutcome]):
    """A run of networks that find boxes."""

    def __init__(self, fabric: Fabric, config: RunConfig, reporter: Reporter):
        super().__init__(fabric, with_detector_names(config), reporter)

    def load(self) -> None:
        """Reads the annotations and builds the networks."""
        data = self.config.data
        self.splits = load_boxes(data.data, data.bit_depth)
        self.detectors = build_detectors(self.config, self.splits.classes, self.fabric.device)

    def begin(self, folder: Path) -> tuple[BoxPipeline, DetectorTask]:
        """Says what the run is made of, and joins the networks where it distils."""
        for line in opening_lines(self.config.data.data, self.splits, self.detectors):
            self.reporter.message(line)
        self.pipeline = BoxPipeline(self.config, self.fabric, self.splits)
        pipeline = self.pipeline

        def images() -> Iterable[Any]:
            number = len(pipeline.matching_images)
            return self.reporter.watch("matching channels")(pipeline.tracked_images(), number)

        num_steps = self.config.schedule.steps_of(pipeline.train_batches.num_batches)
        example = pipeline.example()
        task = build_detector_task(self.config, self.detectors, example, num_steps, images)
        return pipeline, task

    def measure_teacher(self) -> Precisions | None:
        """Measures the teacher before it teaches, if it has the classes of the run."""
        teacher = self.detectors.answering_teacher
        if teacher is None:
            return None
        watch = self.reporter.watch("measuring the teacher")
        keep = self.splits.test is None
        found = self.pipeline.score(teacher, "valid", watch=watch, keep=keep)
        told = f"teacher: mAP {found.map:.1f} mAP@50 {found.map_50:.1f} on {found.images} images"
        self.reporter.message(f"{told} of valid")
        return found

    def finish(
        self, trainer: Trainer, folder: Path, teacher: Precisions | None, start: float
    ) -> DetectorOutcome:
        """Measures the best epoch's weights, on the test part if there is one."""
        part: Part = "valid" if self.splits.test is None else "test"
        detectors = self.detectors
        student = self.pipeline.score(detectors.student, part, keep=True)
        if part == "test" and detectors.answering_teacher is not None:
            watch = self.reporter.watch("measuring the teacher")
            answering = detectors.answering_teacher
            teacher = self.pipeline.score(answering, part, watch=watch, keep=True)
        self.found = {"student": student, **({"teacher": teacher} if teacher else {})}
        if self.fabric.is_global_zero:
            keep_pictures(
                folder, self.pipeline.part(part), detectors.student.classes, student, teacher
            )
        return DetectorOutcome(
            folder=folder,
            best=trainer.progress.best,
            test=student if part == "test" else None,
            teacher=teacher,
            trained_parameters=trained_parameters(trainer),
            student_parameters=detectors.student.num_parameters,
            teacher_parameters=detectors.teacher.num_parameters if detectors.teacher else None,
            seconds=time.perf_counter() - start,
            valid_images=self.pipeline.num_valid,
            classes=detectors.student.classes,
            stopped_after=trainer.stopped_after,
        )

    def result(self, outcome: DetectorOutcome) -> RunResult:
        """Returns what is kept of the outcome."""
        test, teacher = outcome.test, outcome.teacher
        return RunResult(
            best_epoch=int(outcome.best["epoch"]),
            valid_map=outcome.best["map"],
            valid_map_50=outcome.best["map_50"],
            test_map=test.map if test else None,
            test_map_50=test.map_50 if test else None,
            teacher_map=teacher.map if teacher else None,
            teacher_map_50=teacher.map_50 if teacher else None,
            trained_parameters=outcome.trained_parameters,
            student_parameters=outcome.student_parameters,
            teacher_parameters=outcome.teacher_parameters,
            stopped_after=outcome.stopped_after,
            seconds=round(outcome.seconds, 2),
        )

    def describe(self, folder: Path, result: RunResult) -> None:
        """Writes the model card."""
        facts = detector_facts_of(
            folder, self.config, self.splits, self.detectors, self.found, result
        )
        write_text(folder, detector_card_text(facts))


def opening_lines(data: str, splits: BoxSplits, detectors: Detectors) -> Iterator[str]:
    """Yields the data, their classes, and the networks, in lines of at most 80 columns."""
    parts = [f"{len(splits.train)} images with {splits.train.num_boxes} boxes to train"]
    parts.append(f"{len(splits.valid)} to validate")
    if splits.test is not None:
        parts.append(f"{len(splits.test)} to test")
    yield from data_lines(data, parts, splits.classes)
    yield from detector_lines("student", detectors.student)
    if detectors.teacher is not None:
        yield from detector_lines("teacher", detectors.teacher)


def detector_lines(title: str, detector: Detector) -> Iterator[str]:
    """Yields what a network is, where its weights come from, and its size."""
    yield f"{title:9}{detector.name}, {detector.weights}"
    yield f"{'':9}sees images at {detector.size} px (longer side); {held(detector.network)}"
