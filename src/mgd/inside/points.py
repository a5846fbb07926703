"""Pairs of taps: what is distilled where, as a table to read and as plain values to save."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from mgd.errors import TapError
from mgd.inside.tap import Tap


@dataclass(frozen=True)
class PointPair:
    """A place in the teacher and the place in the student that should follow it.

    Example:
        >>> from mgd import PointPair, Tap
        >>> shapes = {"teacher_shape": (1024, 14, 14), "student_shape": (256, 7, 7)}
        >>> pair = PointPair(Tap("layer3"), Tap("stage3"), **shapes)
        >>> pair.name, pair.size, pair.groups, pair.resized
        ('layer3 -> stage3', (7, 7), 4, 'teacher 14x14 -> 7x7')
    """

    teacher: Tap
    """Where the teacher is read."""
    student: Tap
    """Where the student is read."""
    norm: str | None = None
    """Path of the teacher's BatchNorm that gives the margins; `None` measures them instead."""
    teacher_shape: tuple[int, int, int] = (0, 0, 0)
    """(C, H, W) of one image's features; zeros until the networks are probed."""
    student_shape: tuple[int, int, int] = (0, 0, 0)
    """The same of the student."""
    linear: bool = False
    """Whether no ReLU lies behind the teacher's tap, as behind a pyramid's levels; found by the
    probe."""
    loss: str | None = None
    """A name in `mgd.POINT_LOSSES`; `None` leaves it to the distiller."""

    @property
    def name(self) -> str:
        """The pair in logs and errors: `teacher path -> student path`."""
        return f"{self.teacher.path} -> {self.student.path}"

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) at which the two are compared: the smaller height and the smaller width."""
        (_, *teacher), (_, *student) = self.teacher_shape, self.student_shape
        return min(teacher[0], student[0]), min(teacher[1], student[1])

    @property
    def groups(self) -> int:
        """G, the number of teacher channels per student channel: T // S, at least 1."""
        return max(1, self.teacher_shape[0] // max(1, self.student_shape[0]))

    @property
    def resized(self) -> str:
        """Which side is average-pooled, and to which size; empty if neither is."""
        sides = (("teacher", self.teacher_shape), ("student", self.student_shape))
        return ", ".join(
            f"{side} {_size(shape[1:])} -> {_size(self.size)}"
            for side, shape in sides
            if shape[1:] != self.size
        )


PairLike = PointPair | tuple[str | Tap, str | Tap]
"""What users give as a point: a `PointPair`, or a tap of the teacher and one of the student."""


class PointList(list[PointPair]):
    """A list of pairs that prints as a table.

    Example:
        >>> from mgd import PointList, PointPair, Tap
        >>> print(PointList([PointPair(Tap("a"), Tap("b"), None, (8, 4, 4), (4, 4, 4))]))
        teacher   student   channels  size  G  margin from  pooled
        a:output  b:output  8 -> 4    4x4   2  features     -
    """

    HEADER = ("teacher", "student", "channels", "size", "G", "margin from", "pooled")

    def rows(self) -> list[tuple[str, ...]]:
        """Returns one row of texts per pair, in the order of `HEADER`."""
        return [
            (
                str(pair.teacher),
                str(pair.student),
                f"{pair.teacher_shape[0]} -> {pair.student_shape[0]}",
                _size(pair.size),
                str(pair.groups),
                "-" if self._needs_no_margin(pair) else pair.norm or "features",
                pair.resized or "-",
            )
            for pair in self
        ]

    @staticmethod
    def _needs_no_margin(pair: PointPair) -> bool:
        return pair.linear if pair.loss is None else pair.loss != "partial_l2"

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

    Args:
        points: Pairs of taps; their shapes are not kept.

    Returns:
        One `{"teacher": tap, "student": tap, "norm": path or None}` per pair, with `loss` where
        the pair has one of its own.

    Example:
        >>> from mgd import PointPair, Tap, points_to_plain
        >>> points_to_plain([PointPair(Tap("layer4", "input"), Tap("stage4"), "layer4.bn")])
        [{'teacher': 'layer4:input', 'student': 'stage4:output', 'norm': 'layer4.bn'}]
    """
    return [
        {"teacher": str(pair.teacher), "student": str(pair.student), "norm": pair.norm}
        | ({} if pair.loss is None else {"loss": pair.loss})
        for pair in points
    ]


def points_from_plain(
    teacher: nn.Module, student: nn.Module, entries: Sequence[object]
) -> list[PointPair]:
    """Reads what `points_to_plain` wrote, possibly edited since, and checks it.

    Args:
        teacher, student: The two networks.
        entries: Mappings with `teacher` and `student`, taps as in `Tap.parse`, and perhaps `norm`
            and `loss`. Without a norm the BatchNorm in front of the teacher's tap is found.

    Returns:
        Pairs without shapes; `mgd.Distiller` takes them as `points`.

    Raises:
        TapError: For an entry of another form, or for a path that a network lacks. The message
            names the nearest existing paths.

    Example:
        >>> from torch import nn
        >>> from mgd import points_from_plain
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        >>> [pair] = points_from_plain(network, network, [{"teacher": "1", "student": "0"}])
        >>> str(pair.teacher), str(pair.student), pair.norm
        ('1:input', '0:output', None)
    """
    allowed = {"teacher", "student", "norm", "loss"}
    pairs = []
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or not {"teacher", "student"} <= set(entry) <= allowed:
            raise TapError(
                f"point {number} is {entry!r}; needed is a mapping with `teacher` and `student`, "
                "both taps, and perhaps `norm`, a path in the teacher, and `loss`, a name"
            )
        norm, loss = entry.get("norm"), entry.get("loss")
        pairs.append(
            PointPair(
                Tap.parse(teacher, str(entry["teacher"])),
                Tap.parse(student, str(entry["student"])),
                None if norm is None else str(norm),
                loss=None if loss is None else str(loss),
            )
        )
    return pairs
