"""Matching: which teacher channels each student channel follows, as ribbons between the two."""

import math
from typing import Any

from mgd.report.theme import SERIES, WIDTH, Colours, as_label, new_figure
from mgd.runfolder import PointMatching

MOST_CHANNELS = 128
"""Teacher channels in a picture at most: more cannot be told apart."""
_LINE, _HEAD = 0.125, 0.3
"""Height of a line of small text, and of the heads of the columns, in inches."""
_STUDENT, _ORDERED, _NATIVE = (0.0, 0.06), (0.72, 0.78), (1.66, 1.72)
"""Left and right edge of the three columns."""
_Band = tuple[float, float, float, float]
"""Top and bottom at the left end, and at the right end."""


def shown_students(point: PointMatching) -> int:
    """Returns how many student channels a picture of the point shows, from the first on."""
    groups, students = len(point.matching), len(point.matching[0])
    return max(1, min(students, MOST_CHANNELS // groups))


def followed(point: PointMatching, student: int) -> list[int]:
    """Returns the teacher channels that a student channel follows."""
    return [group[student] for group in point.matching]


def order_of(point: PointMatching) -> list[int]:
    """Returns teacher channels in the order of the student channels that follow them.

    Those that nobody follows come last, where the picture shows all students. Of a teacher channel
    that several students follow, the first one counts.
    """
    students = range(shown_students(point))
    order = dict.fromkeys(channel for s in students for channel in followed(point, s))
    if len(students) == len(point.matching[0]) and point.teacher_channels <= MOST_CHANNELS:
        order |= dict.fromkeys(range(point.teacher_channels))
    return list(order)


def draw_ribbons(axes: Any, point: PointMatching, colours: Colours) -> None:
    """Draws a point: students, their teacher channels beside them, and where these lie.

    Left are the student channels in their own order; in the middle the teacher channels, in the
    order of their students; right the same teacher channels in their own order.
    """
    students, order = range(shown_students(point)), order_of(point)
    place = {channel: slot for slot, channel in enumerate(order)}
    native = {channel: slot for slot, channel in enumerate(sorted(order))}
    users: dict[int, list[int]] = {channel: [] for channel in order}
    for s in students:
        for channel in followed(point, s):
            users[channel].append(s)
    tall, thin = 1 / len(students), 1 / len(order)
    for s in students:
        colour = colours[SERIES[s % len(SERIES)]]
        channels = sorted(followed(point, s), key=lambda channel: place[channel])
        part = tall / len(channels)
        left, right = list[_Band](), list[_Band]()
        for k, channel in enumerate(channels):
            share = thin / len(users[channel])
            top = place[channel] * thin + users[channel].index(s) * share
            band = s * tall + k * part, s * tall + (k + 1) * part, top, top + share
            if left and abs(left[-1][3] - top) < 1e-9:  # touches the one before: one band
                band = left[-1][0], band[1], left[-1][2], band[3]
                left.pop()
            left.append(band)
            start, end = place[channel] * thin, native[channel] * thin
            right.append((start, start + thin, end, end + thin))
        _ribbons(axes, left, (_STUDENT[1], _ORDERED[0]), colour, 0.5, f"s{s}:left")
        _ribbons(axes, right, (_ORDERED[1], _NATIVE[0]), colour, 0.32, f"s{s}:right")
        own = [channel for channel in channels if users[channel][0] == s]
        bars = [(_STUDENT, s * tall, tall)]
        bars += [(_ORDERED, place[channel] * thin, thin) for channel in own]
        bars += [(_NATIVE, native[channel] * thin, thin) for channel in own]
        _bars(axes, bars, colour, colours["paper"])
    unused = [channel for channel in order if not users[channel]]
    bars = [(_ORDERED, place[channel] * thin, thin) for channel in unused]
    bars += [(_NATIVE, native[channel] * thin, thin) for channel in unused]
    _bars(axes, bars, colours["line"], colours["paper"])
    room = height_of(point) - _HEAD
    _numbers(axes, list(students), _STUDENT[0] - 0.03, "right", room)
    _numbers(axes, order, _ORDERED[0] - 0.02, "right", room)
    _numbers(axes, sorted(order), _NATIVE[1] + 0.03, "left", room)
    axes.set(xlim=(-0.12, 1.84), ylim=(1.005, -0.01))
    axes.axis("off")
    _heads(axes, colours["soft"])


def _heads(axes: Any, colour: str) -> None:
    """Writes above each column what it is."""
    for head, x, side in (
        ("student", _STUDENT[0] - 0.1, "left"),
        ("teacher, by student", sum(_ORDERED) / 2, "center"),
        ("teacher, own order", _NATIVE[1] + 0.1, "right"),
    ):
        axes.annotate(
            *(head, (x, 0), (0, 3)),
            textcoords="offset points",
            ha=side,
            fontsize=9.5,
            color=colour,
        )


def _ribbons(
    axes: Any,
    edges: list[_Band],
    columns: tuple[float, float],
    colour: str,
    alpha: float,
    name: str,
) -> None:
    """Draws bands from (top, bottom) at the left column to (top, bottom) at the right, as one."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    (x, end), codes, points = columns, [], []
    middle = (x + end) / 2
    for top, bottom, far_top, far_bottom in edges:
        points += [(x, top), (middle, top), (middle, far_top), (end, far_top)]
        points += [(end, far_bottom), (middle, far_bottom), (middle, bottom), (x, bottom), (x, top)]
        curve = [Path.CURVE4] * 3
        codes += [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY]
    path = Path(points, codes)
    axes.add_artist(PathPatch(path, fc=colour, ec="none", alpha=alpha, gid=name, clip_on=False))


def _bars(
    axes: Any, bars: list[tuple[tuple[float, float], float, float]], colour: str, edge: str
) -> None:
    """Draws the bars of channels, each with its column, its top and its height, as one artist."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    codes, points = [], []
    for (left, right), top, height in bars:
        bottom = top + height
        points += [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        codes += [Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY]
    if bars:
        path = Path(points, codes)
        axes.add_artist(PathPatch(path, fc=colour, ec=edge, linewidth=0.4, clip_on=False))


def _numbers(axes: Any, channels: list[int], x: float, side: str, room: float) -> None:
    """Writes channel numbers beside a column, as many as its height in inches has room for."""
    every = math.ceil(len(channels) * _LINE / room)
    if every > 1 and channels != sorted(channels):
        return  # some numbers of channels in a mixed order tell nothing
    for slot in range(0, len(channels), every):
        place = (slot + 0.5) / len(channels)
        axes.text(x, place, str(channels[slot]), ha=side, va="center", fontsize=9)


def tips_of(point: PointMatching) -> dict[str, str]:
    """Returns the text that a pointer over a ribbon shows, by the ribbon's name."""
    tips = {}
    for s in range(shown_students(point)):
        channels = ", ".join(map(str, followed(point, s)))
        for part in ("left", "right"):
            tips[f"s{s}:{part}"] = f"student channel {s} follows teacher channels {channels}"
    return tips


def height_of(point: PointMatching) -> float:
    """Returns the height of a point's picture, in inches."""
    return min(6.5, max(2.4, _HEAD + 1.05 * _LINE * len(order_of(point))))


def draw_points(colours: Colours, points: list[PointMatching], has_titles: bool) -> Any:
    """Draws the ribbons of points, one below the other.

    Returns:
        matplotlib's figure.
    """
    heights = [height_of(point) for point in points]
    extra = 0.7 * len(points) if has_titles else 0.0
    figure, axes = new_figure(WIDTH, sum(heights) + extra, len(points), height_ratios=heights)
    for axis, point in zip(axes[:, 0], points, strict=True):
        draw_ribbons(axis, point, colours)
        if has_titles:
            title = f"{point.teacher} → {point.student}"
            distance = f"distance {point.first_cost:.2f} → {point.cost_after:.2f}"
            axis.set_title(f"{as_label(title)}\n{distance}", fontsize=9.5, pad=20)
    return figure
