"""A picture of accuracies: methods below each other, one colour for each way to train them."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mgd.report.theme import SERIES, Colours, as_label, new_figure, to_png


def draw_accuracies(
    series: Mapping[str, Mapping[str, Sequence[float]]], marks: Mapping[str, float]
) -> bytes:
    """Draws a small dot for each run, and a large one for the mean of a method's runs.

    Args:
        series: For each way to train, such as "100 labels", the accuracies of each method's runs
            in percent. Methods are the rows, in the order in which they come up first. At most
            eight.
        marks: Accuracies to draw as vertical lines, such as the teacher's, by their names.

    Returns:
        A PNG file.

    Raises:
        InputError: If matplotlib is not installed.
    """
    return to_png(lambda colours: _draw(colours, series, marks))


def _draw(
    colours: Colours,
    series: Mapping[str, Mapping[str, Sequence[float]]],
    marks: Mapping[str, float],
) -> Any:
    rows = list(dict.fromkeys(method for methods in series.values() for method in methods))
    figure, ((axes,),) = new_figure(width=9, height=1.5 + 0.6 * len(rows))
    for number, (name, methods) in enumerate(series.items()):
        colour = colours[SERIES[number]]
        lift = 0.22 * ((len(series) - 1) / 2 - number)  # beside each other, not one over another
        for method, values in methods.items():
            height = rows.index(method) - lift
            axes.scatter(values, [height] * len(values), s=14, color=colour, alpha=0.45)
            mean = statistics.fmean(values)
            axes.scatter([mean], [height], s=90, color=colour, edgecolor="white", zorder=3)
            axes.annotate(
                f"{mean:.1f}",
                (mean, height),
                textcoords="offset points",
                xytext=(0, 6 if number == 0 else -14),  # the dots of the next series are below
                ha="center",
                fontsize=9,
                color=colour,
            )
        axes.scatter([], [], s=90, color=colour, label=as_label(name))
    for name, value in marks.items():
        axes.axvline(value, color=colours["soft"], linestyle="--", linewidth=1)
        axes.annotate(
            as_label(f"{name} {value:.1f}"),
            (value, 1),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            xytext=(0, 4),
            ha="center",
            fontsize=9,
        )
    axes.set_yticks(range(len(rows)), [as_label(row) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("accuracy on test images, %")
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(series))
    return figure
