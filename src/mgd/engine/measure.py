"""Measuring: networks on the validation images of a data set, without training."""

import hashlib
from contextlib import suppress
from functools import partial
from pathlib import Path

from lightning_fabric import Fabric

from mgd.engine.loop.evaluation import Scores
from mgd.engine.loop.opening import data_lines, network_lines
from mgd.engine.loop.pipeline import (
    Pipeline,
    augmentation,
    cut_splits,
    load_data,
)
from mgd.engine.loop.runlog import Reporter
from mgd.engine.loop.workers import telling_of_dead_workers
from mgd.engine.options.config import RunConfig
from mgd.engine.runtime.devices import launch
from mgd.engine.tasks.classifier import Classifier
from mgd.engine.tasks.classifiers import build_classifiers, with_names
from mgd.runfolder import (
    Evaluation,
    MeasuredNetwork,
    free_folder,
    is_run,
    write_bad_images,
    write_evaluation,
)


def evaluate_networks(
    config: RunConfig, reporter: Reporter | None = None
) -> tuple[dict[str, Scores], Path]:
    """Measures the student, and the teacher if one is named, on `valid`.

    Returns:
        Scores by "teacher" and "student", and the folder of the evaluation's files.

    Raises:
        InputError: For networks, weights or data that cannot be used.
    """
    return launch(config, partial(_evaluate, reporter=reporter or Reporter()))


@telling_of_dead_workers()
def _evaluate(
    fabric: Fabric, config: RunConfig, reporter: Reporter
) -> tuple[dict[str, Scores], Path]:
    reporter = reporter if fabric.is_global_zero else Reporter()
    config = with_names(config)
    fabric.seed_everything(config.schedule.seed, verbose=False)
    splits = load_data(config)
    augment = augmentation(config, splits)
    classifiers = build_classifiers(config, splits.classes, augment, fabric.device)
    in_data = splits.classes
    splits, bad_images = cut_splits(config, splits, classifiers.classes)
    for line in data_lines(config.data.data, [f"{len(splits.valid)} images"], in_data):
        reporter.message(line)
    pipeline = Pipeline(config, fabric, splits, classifiers)
    networks = {"teacher": classifiers.teacher, "student": classifiers.student}
    folder = Path(config.output.output)
    made = [] if folder.exists() else [folder]
    if fabric.is_global_zero:  # before the work, which would be lost where nothing can be written
        folder = free_folder(folder, config.output.experiment or f"evaluate-{_name(config)}")
    try:
        found = {
            title: (network, _measure(pipeline, title, network, reporter))
            for title, network in networks.items()
            if network is not None
        }
    except BaseException:
        if fabric.is_global_zero:
            with suppress(OSError):  # another evaluation has begun in there
                for empty in (folder, *made):
                    empty.rmdir()
        raise
    if fabric.is_global_zero:
        measured = [_measured(title, *result) for title, result in found.items()]
        every = [scores for _, scores in found.values()]
        write_evaluation(
            Evaluation(folder=folder, data=config.data.data, networks=measured),
            classifiers.classes,
            [scores.per_class for scores in every],
            [scores.confusion for scores in every],
        )
        if config.data.skip_bad_images:
            reporter.message(write_bad_images(folder, bad_images))
    return {title: scores for title, (_, scores) in found.items()}, folder


def _name(config: RunConfig) -> str:
    """Returns the name of the run that is measured, or else one made of its network's."""
    run = Path(config.networks.student_resume).parent
    return run.name if config.networks.student_resume and is_run(run) else config.run_name


def _measure(pipeline: Pipeline, title: str, network: Classifier, reporter: Reporter) -> Scores:
    for line in network_lines(title, network):
        reporter.message(line)
    watch = reporter.watch(f"measuring the {title}")
    return pipeline.score(network, "valid", watch=watch, confusion=True)


def _measured(role: str, network: Classifier, scores: Scores) -> MeasuredNetwork:
    file = Path(network.weights)
    return MeasuredNetwork(
        role=role,
        arch=network.name,
        weights=network.weights,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "",
        view=str(network.view),
        top1=scores.top1,
        top5=scores.top5,
        loss=scores.loss,
        images=scores.images,
    )
