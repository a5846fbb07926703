"""Measuring: detectors on the validation images of a data set, without training."""

import hashlib
from functools import partial
from pathlib import Path

from lightning_fabric import Fabric

from mgd.data.boxes_by_place import load_boxes
from mgd.engine.detection.detectors import Detector, build_detectors, with_detector_names
from mgd.engine.detection.pipeline import BoxPipeline
from mgd.engine.detection.precision import Precisions
from mgd.engine.detection.work import detector_lines, on_several_gpus
from mgd.engine.loop.opening import data_lines
from mgd.engine.loop.runlog import Reporter
from mgd.engine.loop.workers import telling_of_dead_workers
from mgd.engine.options.config import RunConfig
from mgd.engine.runtime.devices import launch
from mgd.errors import import_extra
from mgd.runfolder import MeasuredDetector, free_folder, is_run, write_detection


def evaluate_detectors(
    config: RunConfig, reporter: Reporter | None = None
) -> tuple[dict[str, Precisions], tuple[str, ...], Path]:
    """Measures the student, and the teacher if one is named, on `valid`.

    Returns:
        Precisions by "teacher" and "student", the classes, and the folder of the results.

    Raises:
        InputError: For networks, weights or data that cannot be used.
    """
    import_extra("pycocotools", "detection", "mean average precision")
    return launch(on_several_gpus(config), partial(_evaluate, reporter=reporter or Reporter()))


@telling_of_dead_workers()
def _evaluate(
    fabric: Fabric, config: RunConfig, reporter: Reporter
) -> tuple[dict[str, Precisions], tuple[str, ...], Path]:
    reporter = reporter if fabric.is_global_zero else Reporter()
    config = with_detector_names(config)
    splits = load_boxes(config.data.data, config.data.bit_depth)
    detectors = build_detectors(config, splits.classes, fabric.device)
    parts = [f"{len(splits.valid)} images with {splits.valid.num_boxes} boxes"]
    for line in data_lines(config.data.data, parts, splits.classes):
        reporter.message(line)
    pipeline = BoxPipeline(config, fabric, splits)
    found: dict[str, Precisions] = {}
    measured: list[MeasuredDetector] = []
    networks = {"teacher": detectors.answering_teacher, "student": detectors.student}
    for title, detector in networks.items():
        if detector is None:
            continue
        for line in detector_lines(title, detector):
            reporter.message(line)
        watch = reporter.watch(f"measuring the {title}")
        found[title] = pipeline.score(detector, "valid", watch=watch)
        measured.append(_measured(title, detector, found[title]))
    folder = Path(config.output.output)
    if fabric.is_global_zero:
        folder = free_folder(folder, config.output.experiment or f"evaluate-{_name(config)}")
        write_detection(folder, config.data.data, measured)
    return found, detectors.student.classes, folder


def _name(config: RunConfig) -> str:
    """Returns the name of the run that is measured, or else one made of its network's."""
    run = Path(config.networks.student_resume).parent
    return run.name if config.networks.student_resume and is_run(run) else config.run_name


def _measured(role: str, detector: Detector, found: Precisions) -> MeasuredDetector:
    file = Path(detector.weights)
    return MeasuredDetector(
        role=role,
        arch=detector.name,
        weights=detector.weights,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "",
        size=detector.size,
        map=found.map,
        map_50=found.map_50,
        map_75=found.map_75,
        per_class=dict(zip(detector.classes, found.per_class, strict=True)),
        images=found.images,
    )
