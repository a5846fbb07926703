"""`mgd train-detector` and `mgd distill-detector`, and what a measurement of detectors says."""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing

from mgd import ranks
from mgd.cli.lines import precisions
from mgd.cli.parser import RunParser
from mgd.cli.progress import RichReporter
from mgd.engine.detection.measuring import evaluate_detectors
from mgd.engine.detection.precision import Precisions
from mgd.engine.detection.work import DetectorOutcome
from mgd.engine.detection.work import train_detector as run_training
from mgd.engine.options.config import RunConfig
from mgd.engine.options.option import Command

_TEXTS: dict[Command, tuple[str, str]] = {
    "train-detector": (
        "Train a detector of boxes on its own.",
        "mgd train-detector cells --arch retinanet/resnet34 --size 256 --epochs 30",
    ),
    "distill-detector": (
        "Train a detector of boxes under a teacher, with Matching Guided Distillation.",
        "mgd distill-detector cells --teacher-resume runs/teacher \\\n"
        "      --arch retinanet/resnet18 --size 256 --epochs 30",
    ),
}
"""Of each command's help: what the command does, and an example."""


def train_detector(arguments: Sequence[str]) -> None:
    """Trains a detector without a teacher."""
    _run("train-detector", arguments)


def distill_detector(arguments: Sequence[str]) -> None:
    """Trains a detector under a teacher."""
    _run("distill-detector", arguments)


def _run(command: Command, arguments: Sequence[str]) -> None:
    text, example = _TEXTS[command]
    config = RunParser(command, text=text, example=example).read(arguments)
    outcome = run_training(config, RichReporter(), ["mgd", command, *arguments])
    if ranks.is_first():
        print("\n".join(_outcome_lines(outcome)))


def evaluate_detector(config: RunConfig) -> None:
    """Measures detectors, for `mgd evaluate`."""
    with closing(RichReporter()) as reporter:
        found, classes, path = evaluate_detectors(config, reporter)
    if ranks.is_first():
        for name, measured in found.items():
            print("\n".join(precision_lines(name, measured, classes)))
        print(f"kept in {path}")


def _outcome_lines(outcome: DetectorOutcome) -> Iterator[str]:
    best = outcome.best
    found = precisions(best["map"], best["map_50"], outcome.valid_images)
    yield f"best epoch {best['epoch'] + 1:.0f}, chosen on valid: {found}"
    if outcome.stopped_after is not None:
        yield f"ended early, after epoch {outcome.stopped_after} (--patience)"
    part = "test" if outcome.test is not None else "valid"
    for name, measured in (("student", outcome.test), ("teacher", outcome.teacher)):
        if measured is not None:
            yield from precision_lines(f"{name} on {part}", measured, outcome.classes)
    yield f"run folder: {outcome.folder}"


def precision_lines(name: str, found: Precisions, classes: Sequence[str]) -> Iterator[str]:
    """Yields what a detector came to, and its precision for each class."""
    yield f"{name}: {precisions(found.map, found.map_50, found.images)} on {found.images} images"
    each = zip(classes, found.per_class, strict=True)
    yield "  " + ", ".join(
        f"{label} {'not there' if math.isnan(value) else f'{value:.1f}'}" for label, value in each
    )
