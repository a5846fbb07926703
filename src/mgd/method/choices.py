"""Choices: from what a user names, a method, a reducer and points, to the points themselves."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from torch import nn

from mgd.errors import InputError
from mgd.inside import Images, PairLike, PointPair, discover_points, resolve_points
from mgd.method.adapter import AdapterPoint
from mgd.method.baselines import BASELINES
from mgd.method.comparison import AUTO, Comparison
from mgd.method.folded import FoldedPoint
from mgd.method.point import DistillationPoint, DistillationPoints
from mgd.tensors.losses import point_weights
from mgd.tensors.reducers import REDUCERS

METHODS = ("mgd", "mgd-adapter", *BASELINES)
"""What a distiller can do at its points."""


def make_points(
    pairs: Iterable[PointPair],
    method: str,
    reducer: str,
    solver: str,
    comparison: Comparison = AUTO,
) -> DistillationPoints:
    """Makes a point of each pair.

    Args:
        pairs: Resolved, from the input to the output of the networks.
        method: A name in `METHODS`.
        reducer: A name in `mgd.REDUCERS`, for method "mgd" alone.
        solver: A name in `mgd.SOLVERS`, for the methods with a matching.
        comparison: The norm and the loss of every point that has none of its own.

    Raises:
        InputError: For an unknown name.
    """
    check_name("method", method, METHODS)
    check_name("reducer", reducer, REDUCERS)
    make: dict[str, Callable[[PointPair, Comparison], DistillationPoint]] = {
        "mgd": lambda pair, at: FoldedPoint(pair, REDUCERS[reducer], solver, at),
        "mgd-adapter": lambda pair, at: AdapterPoint(pair, solver, at),
        **BASELINES,
    }
    fallback = "l2" if method == "fitnet" else "partial_l2"
    return DistillationPoints(make[method](pair, comparison.at(pair, fallback)) for pair in pairs)


def point_shares(pairs: Sequence[PointPair]) -> list[float]:
    """Returns how much each point weighs beside the others, per element.

    Those with a ReLU behind them, as stages of a backbone, have the published shares of
    `mgd.point_weights`, and so do those without, as the levels of a pyramid, among themselves.
    """
    shares = dict[int, float]()
    for linear in (False, True):
        numbers = [number for number, pair in enumerate(pairs) if pair.linear == linear]
        shares |= zip(numbers, point_weights(len(numbers)).tolist(), strict=True)
    return [shares[number] for number in range(len(pairs))]


def choose_pairs(
    teacher: nn.Module,
    student: nn.Module,
    seen: tuple[Images, Images],
    points: Literal["auto"] | Sequence[PairLike],
) -> list[PointPair]:
    """Finds the pairs of taps, or checks those that are given.

    Args:
        teacher, student: The two networks.
        seen: A batch of images, as the teacher takes them and as the student does.
        points: As in `mgd.Distiller`.

    Raises:
        InputError: For points that are not to be had in these networks.
    """
    by_teacher, by_student = seen
    if not isinstance(points, str):
        return resolve_points(teacher, student, by_student, points, by_teacher)
    if points != "auto":
        raise InputError(
            f"`points` '{points}' are unknown; give 'auto' or pairs (teacher path, student path)"
        )
    return discover_points(teacher, student, by_student, by_teacher)


def check_name(argument: str, name: str, known: Iterable[str]) -> None:
    """Checks a name against those that are known.

    Raises:
        InputError: If it is none of them.
    """
    if name not in known:
        raise InputError(f"unknown `{argument}` '{name}'; choose one of {', '.join(known)}")
