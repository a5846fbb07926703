"""The commands that run the engine."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from mgd import ranks
from mgd.cli.detection import evaluate_detector
from mgd.cli.lines import accuracies, agreement
from mgd.cli.parser import RunParser
from mgd.cli.progress import RichReporter
from mgd.engine.detection.detectors import is_of_detectors
from mgd.engine.loop.evaluation import Scores
from mgd.engine.measure import evaluate_networks
from mgd.engine.options.config import DataConfig
from mgd.engine.options.option import Command
from mgd.engine.run import Outcome
from mgd.engine.run import train as run_training

_DISTILL = """Train a student under a teacher with Matching Guided Distillation (Yue, Deng,
Zhou, ECCV 2020, https://arxiv.org/abs/2008.09958). Not Masked Generative
Distillation (ECCV 2022)."""

_TEXTS: dict[Command, tuple[str, str]] = {
    "train": (
        "Train a network on its own.",
        "mgd train photos --arch resnet18 --epochs 90 -b 128 --experiment first",
    ),
    "distill": (
        _DISTILL,
        "mgd distill photos --teacher resnet50 --teacher-resume teacher.pth \\\n"
        "      --arch mobilenet_v2 --mgd-with-kd 1 --experiment first",
    ),
    "evaluate": (
        "Measure a student, and a teacher if one is named, on the `valid` images.",
        "mgd evaluate runs/first\n  mgd evaluate photos --model runs/first/student.onnx",
    ),
}
"""Of each command's help: what the command does, and an example."""


def train(arguments: Sequence[str]) -> None:
    """Trains without a teacher."""
    _run("train", arguments)


def distill(arguments: Sequence[str]) -> None:
    """Trains under a teacher."""
    _run("distill", arguments)


def evaluate(arguments: Sequence[str]) -> None:
    """Measures networks."""
    _run("evaluate", arguments)


def _run(command: Command, arguments: Sequence[str]) -> None:
    text, example = _TEXTS[command]
    parser = RunParser(command, text=text, example=example)
    config = parser.read(arguments)
    if config.output.evaluate and is_of_detectors(config):
        evaluate_detector(config)
        return
    if config.output.evaluate:
        with closing(RichReporter()) as reporter:
            scores, path = evaluate_networks(config, reporter)
        if ranks.is_first():
            if config.data.holdout:
                print(f"on training images, held out by --holdout {config.data.holdout}:")
            for name, found in scores.items():
                print(f"{_score_line(name, found)}, {found.images_per_second:.0f} images/s")
            print(f"kept, with the confusions of each class, in {path}")
        return
    outcome = run_training(config, RichReporter(), ["mgd", command, *arguments])
    if ranks.is_first():
        print("\n".join(_outcome_lines(outcome, config.data)))


def _score_line(name: str, scores: Scores) -> str:
    found = accuracies(scores.top1, scores.top5, scores.images)
    return f"{name}: {found} loss {scores.loss:.4f} on {scores.images} images"


def _outcome_lines(outcome: Outcome, data: DataConfig) -> Iterator[str]:
    best = outcome.best
    chosen_on = "held-out training images" if data.holdout else "valid"
    found = accuracies(best["top1"], best["top5"], outcome.valid_images)
    if outcome.is_label_free:
        chosen_on = "held-out images"
        found = agreement(best["top1"], outcome.valid_images)
    yield f"best epoch {best['epoch'] + 1:.0f}, chosen on {chosen_on}: {found}"
    if outcome.stopped_after is not None:
        yield f"ended early, after epoch {outcome.stopped_after} (--patience)"
    folders = [name for name in ("valid", "val") if (Path(data.data) / name).is_dir()]
    if (data.holdout or data.label_free) and folders:  # the digits have a test part of their own
        yield f"test: the images of the folder {folders[0]}, which chose nothing"
    part = "test" if outcome.test is not None else "valid"
    for name, scores in (("student", outcome.test), ("teacher", outcome.teacher)):
        if scores is not None:
            yield _score_line(f"{name} on {part}", scores)
    yield f"run folder: {outcome.folder}"
