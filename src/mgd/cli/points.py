"""`mgd points`: where two networks would be distilled, before any training."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import yaml
from rich import box
from rich.console import Console
from rich.table import Table

from mgd.cli.parser import Parser, add_option
from mgd.engine.options.config import OPTIONS, RunConfig, ViewConfig
from mgd.engine.tasks.building import build_distiller
from mgd.engine.tasks.classifier import own_view
from mgd.inside import PointList, points_to_plain
from mgd.method.distiller import Distiller
from mgd.method.point import DistillationPoint
from mgd.method.rematch import update_matching
from mgd.models import create_model

_REPEATS = 3
_EXAMPLE = """example:
  mgd points --teacher resnet50 --student mobilenet_v2 --format yaml"""


@contextmanager
def _errors_alone() -> Iterator[None]:
    """Dead channels and the like mean nothing for random weights on random images."""
    logger = logging.getLogger("mgd")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@_errors_alone()
def points(arguments: Sequence[str]) -> None:
    """Prints the places where two networks would be compared, as a table or as YAML."""
    parser = Parser(
        prog="mgd points",
        usage="mgd points --student NAME [options]",
        description=(points.__doc__ or "").strip(),
        epilog=_EXAMPLE,
    )
    parser.add_argument(
        "--teacher", metavar="NAME", default="resnet50", help="teacher network (default: resnet50)"
    )
    parser.add_argument(
        "--student", "--arch", metavar="NAME", required=True, help="student network"
    )
    for name, text in (
        ("size", "side of the student's images, in pixels (default: the network's own)"),
        ("teacher_size", "the same of the teacher"),
    ):
        add_option(parser, OPTIONS[name], text)
    parser.add_argument(
        "--points",
        choices=("known", "auto"),
        default="known",
        help="known: the published points where the pair is built in, else as auto; auto: found "
        "from the shapes of the features (default: known)",
    )
    parser.add_argument(
        "--format",
        choices=("table", "yaml"),
        default="table",
        help="yaml: a file for mgd distill --points FILE (default: table)",
    )
    given = parser.parse_args(arguments)
    sizes = {name: value for name, value in vars(given).items() if name.endswith("size")}
    options = ViewConfig(**sizes)
    torch.manual_seed(0)
    teacher, student = create_model(given.teacher), create_model(given.student)
    views = {
        "teacher_view": own_view(given.teacher, teacher)[0].replace(**options.given("teacher")),
        "student_view": own_view(given.student, student)[0].replace(**options.given("student")),
    }
    size = max(view.size for view in views.values())
    example = torch.randint(256, (2, 3, size, size), dtype=torch.uint8)
    config = RunConfig().replace(
        distiller="mgd",
        teacher=given.teacher,
        arch=given.student,
        points="auto" if given.points == "auto" else "",
    )
    with build_distiller(config, teacher, student, example, **views) as distiller:
        if given.format == "yaml":
            print(yaml.safe_dump(points_to_plain(distiller.points.pairs), sort_keys=False), end="")
            return
        update_matching(distiller, [example])
        for name, view in zip((given.teacher, given.student), views.values(), strict=True):
            print(f"{name} at {view.size} px")
        _print(distiller.points.pairs, _memory_shares(distiller), _time_shares(distiller, example))


def _print(found: PointList, memory: list[float], times: list[float]) -> None:
    table = Table(*PointList.HEADER, "matching memory", "step time", box=box.SIMPLE_HEAD)
    for row, share, part in zip(found.rows(), memory, times, strict=True):
        table.add_row(*row, f"{100 * share:.0f} %", f"{100 * part:.1f} %")
    # Wide enough for any path: a pipe or a narrow window must not cut what the user will paste.
    Console(width=max(160, Console().width)).print(table)


def _memory_shares(distiller: Distiller) -> list[float]:
    sizes = [
        sum(buffer.numel() * buffer.element_size() for buffer in point.matcher.buffers())
        for point in distiller.points.matched()
    ]
    return [size / sum(sizes) for size in sizes]


def _time_shares(distiller: Distiller, example: torch.Tensor) -> list[float]:
    """Times each point's loss and its gradient against the whole step, best of a few."""
    with torch.no_grad():
        teacher_features, _ = distiller.frozen_teacher(example)
        student_features, _ = distiller.learner.run_student(example)
    whole = _best(lambda: distiller(example).point_losses.sum().backward())
    parts = []
    for point, student, teacher in zip(
        distiller.points, student_features, teacher_features, strict=True
    ):
        parts.append(_best(_loss_of(point, student, teacher)))
    return [part / whole for part in parts]


def _loss_of(
    point: DistillationPoint, student: torch.Tensor, teacher: torch.Tensor
) -> Callable[[], None]:
    return lambda: point(student.detach().requires_grad_(), teacher).sum().backward()


def _best(step: Callable[[], None]) -> float:
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)
