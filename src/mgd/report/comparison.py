"""A picture of networks side by side: accuracy against latency, a mark for each network."""

from collections.abc import Sequence
from typing import Any

from mgd.report.theme import DARK, LIGHT, SERIES, Colours, as_label, new_figure, to_png
from mgd.runfolder import ComparedNetwork

_LONGEST = 34
"""Letters of a name; of a longer one the middle is left out."""
_GAP = 0.26
"""Inches between two labels."""


def draw_comparison(networks: Sequence[ComparedNetwork]) -> list[bytes]:
    """Draws the accuracy of networks against their latency at the smallest batch.

    A square is a teacher, a dot another network. The bars are the standard deviation of the
    accuracy over runs, and the quartiles of the latency. Networks without an accuracy or a latency
    are left out.

    Returns:
        Two PNG files: on a light and on a dark ground. None, if no network has both.

    Raises:
        InputError: If matplotlib is not installed.
    """
    drawn = [each for each in networks if each.accuracy is not None and each.cost is not None]
    if not drawn:
        return []
    return [to_png(lambda colours: _draw(colours, drawn), theme) for theme in (LIGHT, DARK)]


def _draw(colours: Colours, networks: Sequence[ComparedNetwork]) -> Any:
    height = max(3.6, 1.1 + _GAP * len(networks))
    figure, ((axes,),) = new_figure(width=8.5, height=height)
    places = spread([each.accuracy or 0.0 for each in networks], _limits(networks), _GAP / height)
    for number, (network, place) in enumerate(zip(networks, places, strict=True)):
        colour = colours["ink" if network.is_teacher else SERIES[number % len(SERIES)]]
        latency = _latency(network)
        at = (latency.median, network.accuracy)
        axes.errorbar(
            *at,
            xerr=[[latency.median - latency.low], [latency.high - latency.median]],
            yerr=network.spread,
            fmt="s" if network.is_teacher else "o",
            markersize=8,
            color=colour,
            elinewidth=1.2,
            capsize=3,
            zorder=3,
        )
        # Labels are below each other, beside the axes, so that none covers a mark or a label.
        axes.annotate(
            as_label(f"{_short(network.name)}  {network.accuracy:.1f} %"),
            at,
            xytext=(1.04, place),
            textcoords="axes fraction",
            va="center",
            fontsize=9.5,
            color=colour,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.45, "linewidth": 0.8},
        )
    _describe(axes, networks)
    return figure


def _latency(network: ComparedNetwork) -> Any:
    assert network.cost is not None  # the others are left out
    return network.cost.latencies[0]


def _limits(networks: Sequence[ComparedNetwork]) -> tuple[float, float]:
    """Returns the ends of the axis of accuracies, a little beyond the outermost."""
    spreads = [each.spread or 0.0 for each in networks]
    means = [each.accuracy or 0.0 for each in networks]
    low = min(mean - spread for mean, spread in zip(means, spreads, strict=True))
    high = max(mean + spread for mean, spread in zip(means, spreads, strict=True))
    margin = 0.08 * (high - low) or 1.0
    return low - margin, high + margin


def spread(values: Sequence[float], limits: tuple[float, float], gap: float) -> list[float]:
    """Returns a height for each value's label: as near to the value as the gap lets it be.

    Args:
        values: Any numbers.
        limits: Ends of the axis, which are the heights 0 and 1.
        gap: Least difference of two heights.

    Example:
        >>> [round(height, 2) for height in spread([10.0, 50.0, 50.0], (0.0, 100.0), 0.2)]
        [0.1, 0.4, 0.6]
    """
    low, high = limits
    order = sorted(range(len(values)), key=lambda place: values[place])
    # Labels that would touch are a block, around the mean of what they want, as in the pool of
    # adjacent violators: (sum of the wanted heights of the first label, number of labels).
    blocks: list[tuple[float, int]] = []
    for number, place in enumerate(order):
        wanted = (values[place] - low) / (high - low) - number * gap
        blocks.append((wanted, 1))
        while len(blocks) > 1 and _mean(blocks[-2]) >= _mean(blocks[-1]):
            last, before = blocks.pop(), blocks.pop()
            blocks.append((before[0] + last[0], before[1] + last[1]))
    lifts = [_mean(block) for block in blocks for _ in range(block[1])]
    numbered = enumerate(zip(order, lifts, strict=True))
    heights = {place: lift + number * gap for number, (place, lift) in numbered}
    return [heights[place] for place in range(len(values))]


def _mean(block: tuple[float, int]) -> float:
    return block[0] / block[1]


def _short(name: str) -> str:
    half = _LONGEST // 2
    return name if len(name) <= _LONGEST else f"{name[: half - 1]}…{name[-half:]}"


def _describe(axes: Any, networks: Sequence[ComparedNetwork]) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator

    times = [getattr(_latency(each), end) for each in networks for end in ("low", "high")]
    low, high = 0.8 * min(times), 1.25 * max(times)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(*_limits(networks))
    steps = (1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 4, 5, 7)
    # Less than a factor of three has too few of these.
    axes.xaxis.set_major_locator(LogLocator(subs=steps) if high > 3 * low else MaxNLocator(5))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.set_xlabel(f"latency at batch {_latency(networks[0]).batch}, ms (logarithmic)")
    axes.set_ylabel("accuracy, %")
    if any(each.is_agreement for each in networks):
        axes.set_ylabel("accuracy, or agreement with the teacher, %")
