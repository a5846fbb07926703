"""Losses: each term over the epochs, and its share of the sum."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mgd.report.curves import whole_numbers
from mgd.report.groups import Group
from mgd.report.theme import SERIES, WIDTH, Colours, new_figure

_PREFIX = "loss_"
_MOST_EPOCHS = 150
"""So many are drawn at most: more cannot be seen apart, and make the page large."""

_LEAST_LABELLED = 0.07
"""Share of the height that a label needs."""


@dataclass(frozen=True)
class Losses:
    """The terms of a group's loss: means over its runs, by epoch."""

    epochs: list[int]
    """From 1."""
    terms: dict[str, list[float]]
    """Value by term and epoch, as it is in the sum."""

    @property
    def shares(self) -> dict[str, list[float]]:
        """Share of the sum by term and epoch, 0 to 1; a negative term counts by its size."""
        sums = [sum(map(abs, column)) or 1 for column in zip(*self.terms.values(), strict=True)]
        return {
            term: [abs(value) / whole for value, whole in zip(values, sums, strict=True)]
            for term, values in self.terms.items()
        }


def losses_of(group: Group) -> Losses | None:
    """Returns the terms of a group's loss that are not always 0; None where there is one alone.

    An epoch in which a value of a run is not finite is left out.
    """
    runs = [run for run in group.runs if run.epochs]
    names = {name: None for run in runs for record in run.epochs for name in record.losses}
    # A term that is always 0 is switched off, as the labels' is in a run without labels.
    terms = [
        name
        for name in names
        if name.startswith(_PREFIX)
        and any(record.losses.get(name) for run in runs for record in run.epochs)
    ]
    if len(terms) < 2:
        return None
    epochs, values = [], []
    for records in zip(*(run.epochs for run in runs), strict=False):
        row = [statistics.fmean(each.losses.get(term, 0.0) for each in records) for term in terms]
        if all(map(math.isfinite, row)):
            epochs.append(records[0].epoch + 1)
            values.append(row)
    if not epochs:
        return None
    kept = _thinned(len(epochs))
    columns = zip(*(values[i] for i in kept), strict=True)
    return Losses(
        epochs=[epochs[i] for i in kept],
        terms={
            term.removeprefix(_PREFIX): list(column)
            for term, column in zip(terms, columns, strict=True)
        },
    )


def _thinned(number: int) -> list[int]:
    every = math.ceil(number / _MOST_EPOCHS)
    kept = list(range(0, number, every))
    return kept if kept[-1] == number - 1 else [*kept, number - 1]


def colours_of_terms(losses: Sequence[Losses]) -> dict[str, str]:
    """Returns the role of each term's colour, the same in all pictures."""
    terms = dict.fromkeys(term for each in losses for term in each.terms)
    return {term: SERIES[place % len(SERIES)] for place, term in enumerate(terms)}


def draw_losses(
    colours: Colours, losses: Losses, roles: dict[str, str], keys: dict[str, str]
) -> Any:
    """Draws the terms as lines, and below them their shares as areas.

    Args:
        colours: By role.
        losses: Of one group.
        roles: Of each term's colour.
        keys: Of each term, for the names of the artists.

    Returns:
        matplotlib's figure.
    """
    figure, axes = new_figure(WIDTH, 4.4, 2, sharex=True)
    upper, lower = axes[:, 0]
    is_single = len(losses.epochs) == 1
    for term, values in losses.terms.items():
        upper.plot(
            *(losses.epochs, values),
            color=colours[roles[term]],
            linewidth=1.8,
            marker="o" if is_single else None,
            gid=f"{keys[term]}:line",
        )
    positive = [v for values in losses.terms.values() for v in values if v > 0]
    if positive and max(positive) > 30 * min(positive):
        upper.set_yscale("symlog", linthresh=max(min(positive), max(positive) / 1e4))
    upper.set(ylabel="term")
    shares = losses.shares
    x = losses.epochs if not is_single else [losses.epochs[0] - 0.4, losses.epochs[0] + 0.4]
    base = [0.0] * len(x)
    for term, values in shares.items():
        top = [b + v for b, v in zip(base, values * (2 if is_single else 1), strict=True)]
        lower.fill_between(
            *(x, base, top),
            facecolor=colours[roles[term]],
            edgecolor=colours["paper"],
            linewidth=0.6,
            alpha=0.85,
            gid=f"{keys[term]}:area",
        )
        base = top
    _label_areas(lower, shares, colours)
    lower.set(xlabel="epoch", ylabel="share", ylim=(0, 1), yticks=(0, 0.5, 1))
    lower.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    lower.grid(visible=False)
    lower.margins(x=0)
    whole_numbers(lower)
    return figure


def _label_areas(axes: Any, shares: dict[str, list[float]], colours: Colours) -> None:
    """Writes each term beside the end of its area; small ones are left to their tips."""
    base, free = 0.0, 0.0
    for term, values in shares.items():
        middle = base + values[-1] / 2
        base += values[-1]
        if values[-1] >= _LEAST_LABELLED:
            place = max(middle, free)
            free = place + _LEAST_LABELLED
            axes.annotate(
                term,
                xy=(1, place),
                xycoords="axes fraction",
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                color=colours["ink"],
                annotation_clip=False,
            )
