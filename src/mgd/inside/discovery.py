"""Discovery finds, for any two networks, where the student can follow the teacher.

Each network runs once, on one image. Its stages end where its resolution changes; a stage of the
student follows the teacher's stage of the same resolution. Neither network is changed.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

from torch import nn

from mgd.errors import TapError
from mgd.inside.candidates import find_candidates, find_levels
from mgd.inside.canvas import Images
from mgd.inside.maps import Candidate
from mgd.inside.points import PairLike, PointList, PointPair
from mgd.inside.probe import Reading, Trace, batch_norm_channels, probe
from mgd.inside.tap import Tap, find_module

MAX_POINTS = 4
"""Each published pair of networks has at most this many points. What lies before is the stem."""
_MIN_LEVELS = 3
"""Candidates may be left out only while a network keeps at least this many levels."""

CandidatePairs = list[tuple[Candidate, Candidate]]


def discover_points(
    teacher: nn.Module, student: nn.Module, example: Images, teacher_example: Images | None = None
) -> PointList:
    """Finds the places where a student can follow its teacher; `points="auto"` uses it.

    In each network the last pre-activation of each resolution is a stage end; in transformers
    it is the sum that the last block of a resolution returns. Stage ends of equal resolution
    are paired, the four deepest at most. A network of a single resolution, such as a ViT, gives
    blocks at equal steps of depth. Of detectors and segmenters these are places in the backbone;
    where both have a feature pyramid, its levels of equal resolution follow.
    `docs/discovery.md` has the rules in full.

    Args:
        teacher, student: Any two networks; they are left as they are.
        example: Images as the networks take them, on their device: (B, C, H, W), or a list of
            (C, H, W). One is enough.
        teacher_example: The same as the teacher takes them, where that differs, in size for
            instance; by default `example`.

    Returns:
        Pairs from the input to the output of the networks. The list prints as a table.

    Raises:
        TapError: If a network has no features to distil.
        InputError: If a network cannot run on the example.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> import mgd
        >>> def network(width):
        ...     convs = nn.Conv2d(3, width, 3, 2, 1), nn.Conv2d(width, 2 * width, 3, 2, 1)
        ...     return nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU(), nn.Flatten())
        >>> print(mgd.discover_points(network(8), network(4), torch.zeros(1, 3, 32, 32)))
        teacher  student  channels  size   G  margin from  pooled
        1:input  1:input  8 -> 4    16x16  2  features     -
        3:input  3:input  16 -> 8   8x8    2  features     -
    """
    teacher_trace = Trace(teacher, example if teacher_example is None else teacher_example)
    student_trace = Trace(student, example)
    pairs = _pair(find_candidates(teacher_trace), find_candidates(student_trace))
    pairs += _pair_levels(find_levels(teacher_trace), find_levels(student_trace))
    return PointList(
        _point(teacher_trace.read(in_teacher.tap), student_trace.read(in_student.tap))
        for in_teacher, in_student in pairs
    )


def resolve_points(
    teacher: nn.Module,
    student: nn.Module,
    example: Images,
    pairs: Iterable[PairLike],
    teacher_example: Images | None = None,
) -> PointList:
    """Turns pairs of module paths into checked pairs, with shapes and the teacher's norms.

    Args:
        teacher, student: The two networks; they are left as they are.
        example: Images as the networks take them. One is enough.
        pairs: `(teacher path, student path)`, paths as in `Tap.parse`, or `PointPair`s, whose
            `norm` and `loss` are kept.
        teacher_example: As in `discover_points`.

    Raises:
        TapError: For an unknown path, a tap that does not fire or is overwritten, or a norm
            that cannot give the margins.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mgd.inside import resolve_points
        >>> teacher = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        >>> student = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        >>> [pair] = resolve_points(teacher, student, torch.zeros(1, 3, 8, 8), [("2", "1")])
        >>> pair.norm, pair.teacher_shape, pair.student_shape
        ('1', (8, 6, 6), (4, 6, 6))
    """
    given = list(pairs)
    taps = [(p.teacher, p.student) if isinstance(p, PointPair) else p for p in given]
    teacher_taps = [Tap.parse(teacher, str(tap)) for tap, _ in taps]
    student_taps = [Tap.parse(student, str(tap)) for _, tap in taps]
    seen_by_teacher = example if teacher_example is None else teacher_example
    teacher_readings = probe(teacher, teacher_taps, seen_by_teacher)
    student_readings = probe(student, student_taps, example)
    resolved = PointList()
    for pair, teacher_reading, student_reading in zip(
        given, teacher_readings, student_readings, strict=True
    ):
        point = _point(teacher_reading, student_reading)
        if isinstance(pair, PointPair):
            if pair.norm is not None:
                _check_norm(teacher, pair.norm, teacher_reading)
            point = replace(point, norm=pair.norm or point.norm, loss=pair.loss)
        resolved.append(point)
    return resolved


def _point(teacher: Reading, student: Reading) -> PointPair:
    shapes = teacher.shape, student.shape
    return PointPair(teacher.tap, student.tap, teacher.norm, *shapes, linear=teacher.linear)


def _check_norm(teacher: nn.Module, norm: str, reading: Reading) -> None:
    channels = batch_norm_channels(find_module(teacher, norm))
    if channels != reading.channels:
        what = f"has {channels} channels" if channels else "is no BatchNorm"
        raise TapError(
            f"norm '{norm}' {what}, but the margins of tap '{reading.tap}' need a BatchNorm of "
            f"{reading.channels}; leave the norm out to have it found, or measured from features"
        )


def _pair(teacher: list[Candidate], student: list[Candidate]) -> CandidatePairs:
    """Pairs the stage ends of two networks, from input to output."""
    teacher_ends, student_ends = _stage_ends(teacher), _stage_ends(student)
    teacher_is_isotropic, student_is_isotropic = _is_isotropic(teacher), _is_isotropic(student)
    if teacher_is_isotropic and student_is_isotropic:
        return _pair_from_output(_steps(teacher, MAX_POINTS), _steps(student, MAX_POINTS))
    if teacher_is_isotropic:
        ends = _deepest(student_ends)
        return _pair_from_output(_steps(teacher, len(ends)), ends)
    if student_is_isotropic:
        ends = _deepest(teacher_ends)
        return _pair_from_output(ends, _steps(student, len(ends)))
    shared = sorted(teacher_ends.keys() & student_ends.keys())
    if len(shared) < 2:
        return _pair_from_output(_deepest(teacher_ends), _deepest(student_ends))
    pairs = [(teacher_ends[level], student_ends[level]) for level in shared]
    deepest_levels = max(teacher_ends), max(student_ends)
    # The last stages belong together even if their resolutions differ.
    if not set(deepest_levels) & set(shared):
        pairs.append((teacher_ends[deepest_levels[0]], student_ends[deepest_levels[1]]))
    return pairs[-MAX_POINTS:]


def _pair_levels(teacher: list[Candidate], student: list[Candidate]) -> CandidatePairs:
    """Pairs the pyramid levels of equal resolution, from fine to coarse."""
    of_student = {candidate.level: candidate for candidate in student}
    return [(level, of_student[level.level]) for level in teacher if level.level in of_student]


def _stage_ends(candidates: list[Candidate]) -> dict[int, Candidate]:
    """Returns the last candidate of each level, without the stem where enough levels remain.

    A candidate inside a block that returns another level counts only in a network that has too
    few levels without it.
    """
    clear = [candidate for candidate in candidates if not candidate.level_changes]
    if len({candidate.level for candidate in clear}) < _MIN_LEVELS:
        clear = candidates
    # In a dictionary the last one of a level stays: with the fewest level changes, then deepest.
    ranked = sorted(clear, key=lambda candidate: (-candidate.level_changes, candidate.order))
    ends = {candidate.level: candidate for candidate in ranked}
    first = clear[0]
    if len(ends) > _MIN_LEVELS and first.level < 2 and ends[first.level] is first:
        del ends[first.level]
    return ends


def _is_isotropic(candidates: list[Candidate]) -> bool:
    """Tells whether a network has a single resolution, apart from a stem of convolutions."""
    levels = [candidate.level for candidate in candidates]
    of_sums = {candidate.level for candidate in candidates if candidate.is_residual_sum}
    is_most = len(of_sums) == 1 and 2 * sum(level in of_sums for level in levels) > len(levels)
    return is_most or len(set(levels)) == 1


def _steps(candidates: list[Candidate], count: int) -> list[Candidate]:
    """Chooses up to `count` candidates at equal steps of depth, the last one among them."""
    sums = [candidate for candidate in candidates if candidate.is_residual_sum]
    chosen = sums or candidates
    count = min(count, len(chosen))
    return [chosen[math.ceil(i * len(chosen) / count) - 1] for i in range(1, count + 1)]


def _deepest(ends: dict[int, Candidate]) -> list[Candidate]:
    return [ends[level] for level in sorted(ends)[-MAX_POINTS:]]


def _pair_from_output(teacher: list[Candidate], student: list[Candidate]) -> CandidatePairs:
    """Pairs the last with the last, and so on towards the input, until one list is used up."""
    count = min(len(teacher), len(student))
    return list(zip(teacher[-count:], student[-count:], strict=True))
