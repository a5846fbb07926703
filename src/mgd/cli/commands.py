"""The commands that run the engine."""

import os
from collections.abc import Sequence

from mgd.cli.parser import Parser, add_run_options, read_run_options
from mgd.cli.progress import RichReporter
from mgd.engine.loop.evaluation import Scores
from mgd.engine.options.config import RunConfig
from mgd.engine.run import Outcome, evaluate_networks
from mgd.engine.run import train as run_training

PAPER = (
    'Matching Guided Distillation: Yue, Deng, Zhou, "Matching Guided Distillation", ECCV 2020, '
    "https://arxiv.org/abs/2008.09958. Not Masked Generative Distillation (ECCV 2022)."
)


def train(arguments: Sequence[str]) -> None:
    """Trains without a teacher."""
    _run("train", "Train a network without a teacher.", RunConfig(), arguments)


def distill(arguments: Sequence[str]) -> None:
    """Trains under a teacher."""
    _run("distill", f"Train a student under a teacher. {PAPER}", _distilling(), arguments)


def evaluate(arguments: Sequence[str]) -> None:
    """Measures networks."""
    defaults = RunConfig().replace(evaluate=True)
    _run("evaluate", "Measure a student, and a teacher if one is named.", defaults, arguments)


def _distilling() -> RunConfig:
    return RunConfig().replace(distiller="mgd")


def _run(command: str, text: str, defaults: RunConfig, arguments: Sequence[str]) -> None:
    parser = Parser(prog=f"mgd {command}", description=text)
    add_run_options(parser, defaults)
    config = read_run_options(parser, arguments, defaults)
    if config.output.evaluate:
        scores, path = evaluate_networks(config)
        if _is_first():
            for name, found in scores.items():
                print(_score_line(name, found))
            print(f"accuracy of each class: {path}")
        return
    outcome = run_training(config, RichReporter())
    if _is_first():
        print(_outcome_lines(outcome))


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


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
