"""Discovery looks at two networks from outside and says where to distil.

One probe forward of each network finds where its stages end; a stage of the student follows the
teacher's stage of the same resolution. Neither network is edited.
"""

import math
from collections.abc import Iterable

from torch import Tensor, nn

from mgd.errors import TapError
from mgd.inside.candidates import Candidate, find_candidates
from mgd.inside.points import PairLike, PointList, PointPair
from mgd.inside.probe import Reading, Trace, num_features, probe
from mgd.inside.taps import Tap, find_module

MAX_POINTS = 4
"""The published pairs have as many; what lies before is the stem."""
_FEW = 3
"""With fewer resolutions than these, a network has none to leave out."""


def discover_points(teacher: nn.Module, student: nn.Module, example: Tensor) -> PointList:
    """Finds where a student can follow its teacher; what `points="auto"` uses.

    In each network the last pre-activation of each resolution is a stage end; in transformers
    it is the sum that the last block of a resolution returns. Stage ends of equal resolution
    are paired, the four deepest at most. A network of a single resolution, such as a ViT, gives
    blocks at equal steps of depth. `docs/discovery.md` has the rules in full.

    Args:
        teacher, student: Any two networks; they are left as they are.
        example: A batch of images as the networks take it, on their device; one is enough.

    Returns:
        Pairs from the input to the output of the networks. The list prints as a table.

    Raises:
        TapError: If a network has no features to distil.

    Example:
        >>> print(mgd.discover_points(resnet50, mobilenet_v2, torch.zeros(1, 3, 224, 224)))
    """
    teacher_trace, student_trace = Trace(teacher, example), Trace(student, example)
    pairs = _pair(find_candidates(teacher_trace), find_candidates(student_trace))
    return PointList(
        _resolved(teacher_trace.read(ours.tap), student_trace.read(theirs.tap))
        for ours, theirs in pairs
    )


def resolve_points(
    teacher: nn.Module, student: nn.Module, example: Tensor, pairs: Iterable[PairLike]
) -> PointList:
    """Turns pairs of module paths into checked pairs, with shapes and the teacher's norms.

    Args:
        teacher, student: The two networks.
        example: A batch of images as the networks take it; one is enough.
        pairs: `(teacher path, student path)`, paths as in `Tap.parse`, or `PointPair`s, whose
            `norm` is kept.

    Raises:
        TapError: For an unknown path, a tap that does not fire or is overwritten, or a norm
            that cannot give the margins.

    Example:
        >>> resolve_points(resnet50, mobilenet, images, [("layer4.2.relu", "features.18")])
    """
    given = list(pairs)
    sides = [(p.teacher, p.student) if isinstance(p, PointPair) else p for p in given]
    teachers = probe(teacher, [Tap.parse(teacher, str(pair[0])) for pair in sides], example)
    students = probe(student, [Tap.parse(student, str(pair[1])) for pair in sides], example)
    resolved = PointList()
    for pair, ours, theirs in zip(given, teachers, students, strict=True):
        norm = pair.norm if isinstance(pair, PointPair) else None
        if norm is not None:
            _check_norm(teacher, norm, ours)
        resolved.append(_resolved(ours, theirs, norm))
    return resolved


def _resolved(teacher: Reading, student: Reading, norm: str | None = None) -> PointPair:
    return PointPair(teacher.tap, student.tap, norm or teacher.norm, teacher.shape, student.shape)


def _check_norm(teacher: nn.Module, norm: str, reading: Reading) -> None:
    features = num_features(find_module(teacher, norm))
    if features != reading.channels:
        what = f"has {features} channels" if features else "is no BatchNorm"
        raise TapError(
            f"norm '{norm}' {what}, but the margins of tap '{reading.tap}' need a BatchNorm of "
            f"{reading.channels}; leave the norm out to have it found, or measured from features"
        )


Pairs = list[tuple[Candidate, Candidate]]


def _pair(teacher: list[Candidate], student: list[Candidate]) -> Pairs:
    teacher_ends, student_ends = _stage_ends(teacher), _stage_ends(student)
    teacher_is_flat, student_is_flat = (
        _is_isotropic(candidates) for candidates in (teacher, student)
    )
    if teacher_is_flat and student_is_flat:
        return _deepest(_steps(teacher, MAX_POINTS), _steps(student, MAX_POINTS))
    if teacher_is_flat:
        ends = _last(student_ends)
        return _deepest(_steps(teacher, len(ends)), ends)
    if student_is_flat:
        ends = _last(teacher_ends)
        return _deepest(ends, _steps(student, len(ends)))
    shared = sorted(teacher_ends.keys() & student_ends.keys())
    if len(shared) < 2:
        return _deepest(_last(teacher_ends), _last(student_ends))
    pairs = [(teacher_ends[level], student_ends[level]) for level in shared]
    deepest = max(teacher_ends), max(student_ends)
    if not set(deepest) & set(shared):
        pairs.append((teacher_ends[deepest[0]], student_ends[deepest[1]]))
    return pairs[-MAX_POINTS:]


def _stage_ends(candidates: list[Candidate]) -> dict[int, Candidate]:
    """Returns the last candidate of each level, without the stem where there are enough.

    A candidate inside a block that returns another level counts only where there is little else.
    """
    clean = [candidate for candidate in candidates if not candidate.strays]
    if len({candidate.level for candidate in clean}) < _FEW:
        clean = candidates
    # A later candidate of equal rank replaces an earlier one.
    ranked = sorted(clean, key=lambda candidate: (-candidate.strays, candidate.tick))
    ends = {candidate.level: candidate for candidate in ranked}
    first = clean[0]
    if len(ends) > _FEW and first.level < 2 and ends[first.level] is first:
        del ends[first.level]
    return ends


def _is_isotropic(candidates: list[Candidate]) -> bool:
    """Tells whether a network works at one resolution, a stem of convolutions aside."""
    levels = [candidate.level for candidate in candidates]
    streams = {candidate.level for candidate in candidates if candidate.is_stream}
    is_most = len(streams) == 1 and 2 * sum(level in streams for level in levels) > len(levels)
    return is_most or len(set(levels)) == 1


def _steps(candidates: list[Candidate], count: int) -> list[Candidate]:
    """Chooses `count` candidates at equal steps, the last one among them."""
    streams = [candidate for candidate in candidates if candidate.is_stream]
    chosen = streams or candidates
    count = min(count, len(chosen))
    return [chosen[math.ceil(i * len(chosen) / count) - 1] for i in range(1, count + 1)]


def _last(ends: dict[int, Candidate]) -> list[Candidate]:
    return [ends[level] for level in sorted(ends)[-MAX_POINTS:]]


def _deepest(teacher: list[Candidate], student: list[Candidate]) -> Pairs:
    """Pairs two lists from their deep ends."""
    count = min(len(teacher), len(student))
    return list(zip(teacher[-count:], student[-count:], strict=True))
