"""Curves over the epochs: what a group of runs had at each epoch, a few groups to a panel."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mgd.report.groups import Group, is_teacher
from mgd.report.theme import SERIES, WIDTH, Colours, as_label, new_figure
from mgd.runfolder import EpochRecord

MOST = 6
"""Curves in a panel: more cannot be told apart."""
DASHES: tuple[tuple[float, ...], ...] = ((), (6, 2), (7, 2, 1.5, 2), (2, 1.6), (11, 2.5), (4, 4))
"""Strokes and spaces of a panel's lines, which tell them apart without colours, in points."""
_ALONE, _TEACHER = "soft", "ink"
_FEW = 12
"""Up to so many epochs have a mark each: one epoch alone would be no line."""

Value = Callable[[EpochRecord], float | None]


@dataclass(frozen=True)
class Curve:
    """A group's values by epoch: the mean over its runs, and the lowest and the highest of them."""

    key: str
    """Unique in the report; fit for an attribute."""
    name: str
    colour: str
    """Its role."""
    epochs: list[int]
    """From 1."""
    mean: list[float]
    low: list[float]
    high: list[float]
    is_faint: bool = False
    """Whether it is there for comparison alone, and drawn in another panel."""
    dashes: tuple[float, ...] = ()


def colours_of(groups: Sequence[Group]) -> dict[str, str]:
    """Returns the role of each group's colour, by the group's name.

    Beside distilled students, a student alone is grey, and their teacher has the colour of text.
    """
    is_mixed = len({group.is_alone for group in groups}) > 1
    found, taken = {}, 0
    for group in groups:
        if is_mixed and group.is_alone:
            teaches = any(is_teacher(run, other) for run in group.runs for other in groups)
            found[group.name] = _TEACHER if teaches else _ALONE
        else:
            found[group.name] = SERIES[taken % len(SERIES)]
            taken += 1
    return found


def curves_of(groups: Sequence[Group], value: Value) -> list[Curve]:
    """Returns the curve of each group that has values; it ends with the group's shortest run."""
    colours, found = colours_of(groups), []
    for number, group in enumerate(groups):
        series = [
            [(record.epoch + 1, y) for record in run.epochs if (y := value(record)) is not None]
            for run in group.runs
        ]
        columns = list(zip(*(each for each in series if each), strict=False))
        if columns:
            values = [[y for _, y in column] for column in columns]
            name = group.name
            if any(record.valid_is_agreement for record in group.runs[0].epochs):
                name += " (agreement with the teacher)"
            found.append(
                Curve(
                    key=f"m{number}",
                    name=name,
                    colour=colours[group.name],
                    epochs=[column[0][0] for column in columns],
                    mean=[statistics.fmean(each) for each in values],
                    low=[min(each) for each in values],
                    high=[max(each) for each in values],
                )
            )
    return found


def panels_of(curves: Sequence[Curve]) -> list[list[Curve]]:
    """Spreads curves over panels of at most `MOST`.

    The first student alone is in each panel, faint from the second on, so that every method has
    beside it what it is to be compared with.
    """
    if len(curves) <= MOST:
        return [_dashed(curves)]
    alone = [curve for curve in curves if curve.colour == _ALONE][:1]
    rest = [curve for curve in curves if curve not in alone]
    number = math.ceil(len(rest) / (MOST - len(alone)))
    size = math.ceil(len(rest) / number)
    panels = [[*alone, *rest[start : start + size]] for start in range(0, len(rest), size)]
    return [_dashed(panel, is_first=place == 0) for place, panel in enumerate(panels)]


def _dashed(curves: Sequence[Curve], is_first: bool = True) -> list[Curve]:
    """Gives the curves of a panel their dashes; the student alone is a line without any."""
    return [
        replace(
            curve,
            dashes=DASHES[place % len(DASHES)],
            is_faint=curve.colour == _ALONE and not is_first,
        )
        for place, curve in enumerate(curves)
    ]


def by_last_value(curves: Sequence[Curve]) -> list[Curve]:
    """Returns curves in the order in which their lines end, from the highest."""
    return sorted(curves, key=lambda curve: -curve.mean[-1])


def draw_lines(axes: Any, curves: Sequence[Curve], colours: Colours, is_step: bool = False) -> None:
    """Draws curves with their spread into axes.

    Args:
        axes: matplotlib's.
        curves: At most `MOST`.
        colours: By role.
        is_step: Whether a value holds until the next epoch that changes it.
    """
    style = "steps-mid" if is_step else "default"
    for curve in curves:
        colour = colours[curve.colour]
        x, has_marks = curve.epochs, len(curve.epochs) <= _FEW
        if curve.low != curve.high:
            axes.fill_between(
                *(x, curve.low, curve.high),
                color=colour,
                alpha=0.07 if curve.is_faint else 0.13,
                linewidth=0,
                step="mid" if is_step else None,
                gid=f"{curve.key}:band",
            )
        (line,) = axes.plot(
            *(x, curve.mean),
            color=colour,
            alpha=0.55 if curve.is_faint else 1,
            linewidth=1.5 if curve.is_faint else 1.9,
            drawstyle=style,
            marker="o" if has_marks else None,
            markersize=3.2,
            label=as_label(curve.name),
            gid=f"{curve.key}:line",
        )
        line.set_dashes(curve.dashes or (None, None))


def tips_of(curves: Sequence[Curve], decimals: int, unit: str = "") -> dict[str, str]:
    """Returns the text that a pointer over a line or its spread shows, by the artist's name."""
    tips = {}
    for curve in curves:
        last = f"{curve.mean[-1]:.{decimals}f}{unit} at epoch {curve.epochs[-1]}"
        for part in ("line", "band"):
            tips[f"{curve.key}:{part}"] = f"{curve.name}: {last}"
    return tips


def teacher_level(groups: Sequence[Group]) -> float | None:
    """Returns the teacher's accuracy on the validation images, where all groups have the same."""
    levels = {
        round(record.teacher_score, 2)
        for group in groups
        for run in group.runs
        for record in run.epochs[-1:]
        if record.teacher_score is not None
    }
    return levels.pop() if len(levels) == 1 else None


def limits_of(curves: Sequence[Curve], teacher: float | None) -> tuple[float, float]:
    """Returns the range of accuracies that all panels show, so that they can be compared."""
    values = [y for curve in curves for y in (*curve.low, *curve.high) if math.isfinite(y)]
    values += [teacher] if teacher is not None else []
    low, high = min(values, default=0.0), max(values, default=100.0)
    margin = max(0.08 * (high - low), 0.5)
    return low - margin, high + margin


def draw_accuracy(
    colours: Colours,
    panels: Sequence[Sequence[Curve]],
    teacher: float | None,
    limits: tuple[float, float],
    has_legend: bool,
    measure: str = "accuracy",
) -> Any:
    """Draws validation accuracy, or another measure, against the epoch, one panel below the other.

    Args:
        colours: By role.
        panels: Curves by panel.
        teacher: Its accuracy on the same images, if it is known.
        limits: Of the accuracy.
        has_legend: Whether the names of the curves are in the picture.
        measure: Its name.

    Returns:
        matplotlib's figure.
    """
    height = 3.5 + 0.5 * has_legend
    figure, axes = new_figure(8.2 if has_legend else WIDTH, height * len(panels), len(panels))
    for axis, curves in zip(axes[:, 0], panels, strict=True):
        draw_lines(axis, curves, colours)
        axis.set(xlabel="epoch", ylabel=f"validation {measure}, %", ylim=limits)
        whole_numbers(axis)
        if teacher is not None:
            axis.axhline(teacher, color=colours["ink"], linewidth=1, dashes=(2, 2))
            axis.annotate(
                f"teacher\n{teacher:.1f}",
                xy=(1, teacher),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                color=colours["ink"],
                fontsize=9.5,
            )
        if has_legend:
            lines = {line.get_gid(): line for line in axis.get_lines() if line.get_gid()}
            handles = [lines[f"{curve.key}:line"] for curve in by_last_value(curves)]
            place = (1.1 if teacher is not None else 1, 0.5)
            axis.legend(handles=handles, loc="center left", bbox_to_anchor=place, fontsize=9.5)
    return figure


def whole_numbers(axis: Any) -> None:
    """Has ticks at whole epochs alone."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    first, last = axis.get_xlim()
    if last - first < 1:  # a single epoch
        axis.set_xlim(first - 0.5, last + 0.5)


def draw_costs(
    colours: Colours, costs: Sequence[Curve], churns: Sequence[Curve], is_step: bool = True
) -> Any:
    """Draws the matched pairs' distance, and below it the share that is matched anew.

    Args:
        colours: By role.
        costs: Distances.
        churns: Shares, 0 to 1.
        is_step: Whether a value holds until the next epoch that changes it.

    Returns:
        matplotlib's figure.
    """
    figure, axes = new_figure(WIDTH, 4.8, 2, sharex=True, height_ratios=(3, 2))
    draw_lines(axes[0, 0], costs, colours, is_step)
    draw_lines(axes[1, 0], churns, colours, is_step)
    axes[0, 0].set(ylabel="distance (0 to 4)")
    axes[1, 0].set(xlabel="epoch", ylabel="matched anew", ylim=(0, 1.05))
    axes[1, 0].yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    whole_numbers(axes[1, 0])
    return figure
