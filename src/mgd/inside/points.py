"""Pairs of taps: what is distilled where, as a table to read and as plain values to save."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from mgd.errors import TapError
from mgd.inside.taps import Tap


@dataclass(frozen=True)
class PointPair:
    """A place in the teacher and the place in the student that should follow it."""

    teacher: Tap
    student: Tap
    norm: str | None = None
    """Teacher BatchNorm that gives the margins; `None` measures them from features."""
    teacher_shape: tuple[int, int, int] = (0, 0, 0)
    """(C, H, W) of one image."""
    student_shape: tuple[int, int, int] = (0, 0, 0)

    @property
    def name(self) -> str:
        """How logs and errors call the pair."""
        return f"{self.teacher.path} -> {self.student.path}"

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) at which the two are compared: the smaller of both in each direction."""
        (_, *teacher), (_, *student) = self.teacher_shape, self.student_shape
        return min(teacher[0], student[0]), min(teacher[1], student[1])

    @property
    def groups(self) -> int:
        """G, the teacher channels that each student channel owns: T // S, at least 1."""
        return max(1, self.teacher_shape[0] // max(1, self.student_shape[0]))

    @property
    def resized(self) -> str:
        """Which side is average-pooled to the size of the other: `teacher 14x14 -> 7x7`, or ''."""
        sides = (("teacher", self.teacher_shape), ("student", self.student_shape))
        return ", ".join(
            f"{side} {_size(shape[1:])} -> {_size(self.size)}"
            for side, shape in sides
            if shape[1:] != self.size
        )


PairLike = PointPair | tuple[str | Tap, str | Tap]


class PointList(list[PointPair]):
    """A list of pairs that prints as a table."""

    HEADER = ("teacher", "student", "channels", "size", "G", "margin from", "pooled")

    def rows(self) -> list[tuple[str, ...]]:
        """Returns a row of texts per pair, under `HEADER`."""
        return [
            (
                str(pair.teacher),
                str(pair.student),
                f"{pair.teacher_shape[0]} -> {pair.student_shape[0]}",
                _size(pair.size),
                str(pair.groups),
                pair.norm or "features",
                pair.resized or "-",
            )
            for pair in self
        ]

    def __str__(self) -> str:
        table = [self.HEADER, *self.rows()]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return "\n".join(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        )


def _size(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def points_to_plain(points: Iterable[PointPair]) -> list[dict[str, str | None]]:
    """Turns pairs into plain values, for YAML or JSON; `points_from_plain` reads them back.

    Returns:
        One `{"teacher": tap, "student": tap, "norm": path or None}` per pair.
    """
    return [
        {"teacher": str(pair.teacher), "student": str(pair.student), "norm": pair.norm}
        for pair in points
    ]


def points_from_plain(
    teacher: nn.Module, student: nn.Module, entries: Sequence[object]
) -> list[PointPair]:
    """Reads what `points_to_plain` wrote, possibly edited since, and checks it.

    Args:
        teacher, student: The two networks.
        entries: Mappings with `teacher` and `student`, taps as in `Tap.parse`, and `norm`, which
            may be missing: then the BatchNorm in front of the teacher's tap is found.

    Returns:
        Pairs without shapes; `mgd.Distiller` takes them as `points`.

    Raises:
        TapError: For an entry of another form, or a path that a network lacks, naming the
            nearest existing ones.
    """
    pairs = []
    for number, entry in enumerate(entries, start=1):
        known = {"teacher", "student", "norm"}
        if not isinstance(entry, dict) or not {"teacher", "student"} <= set(entry) <= known:
            raise TapError(
                f"point {number} is {entry!r}; needed is a mapping with `teacher` and `student`, "
                "both taps, and perhaps `norm`, a path in the teacher"
            )
        norm = entry.get("norm")
        pairs.append(
            PointPair(
                Tap.parse(teacher, str(entry["teacher"])),
                Tap.parse(student, str(entry["student"])),
                None if norm is None else str(norm),
            )
        )
    return pairs
