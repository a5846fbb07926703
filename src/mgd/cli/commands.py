"""The commands that run the engine."""

from collections.abc import Sequence

from mgd import ranks
from mgd.cli.parser import RunParser
from mgd.cli.progress import RichReporter
from mgd.engine.loop.evaluation import Scores
from mgd.engine.measure import evaluate_networks
from mgd.engine.options.option import Command
from mgd.engine.run import Outcome
from mgd.engine.run import train as run_training
from mgd.runfolder import names

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
        "mgd evaluate photos --arch mobilenet_v2 \\\n"
        f"      --student-resume runs/first/{names.STUDENT}",
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
    if config.output.evaluate:
        scores, path = evaluate_networks(config)
        if ranks.is_first():
            for name, found in scores.items():
                print(_score_line(name, found))
            print(f"accuracy of each class: {path}")
        return
    outcome = run_training(config, RichReporter())
    if ranks.is_first():
        print(_outcome_lines(outcome))


def _score_line(name: str, scores: Scores) -> str:
    return (
        f"{name}: Acc@1 {scores.top1:.3f} Acc@5 {scores.top5:.3f} "
        f"Err@1 {100 - scores.top1:.3f} Err@5 {100 - scores.top5:.3f} loss {scores.loss:.4f} "
        f"on {scores.images} images, {scores.images_per_second:.0f} images/s"
    )


def _outcome_lines(outcome: Outcome) -> str:
    best = outcome.best
    lines = [
        f"best epoch {best['epoch'] + 1:.0f}: Acc@1 {best['top1']:.3f} Acc@5 {best['top5']:.3f} on "
        "valid, which chose the epoch",
    ]
    if outcome.test is not None:
        lines.append(_score_line("student on test", outcome.test))
    if outcome.teacher is not None:
        part = "test" if outcome.test is not None else "valid"
        lines.append(_score_line(f"teacher on {part}", outcome.teacher))
    lines.append(f"run folder: {outcome.folder}")
    return "\n".join(lines)
