"""Updates: what each update of the matching found at each point, as curves over the run."""

import statistics
from dataclasses import dataclass

from mgd.report.curves import DASHES, Curve
from mgd.report.groups import Group
from mgd.report.theme import SERIES
from mgd.runfolder import PointUpdate

_AT_ONCE = 4
"""Points in a picture: their lines cross less than those of methods, but their names are long."""


@dataclass(frozen=True)
class Panel:
    """Some points of a method: distance after each update, and the share matched anew."""

    costs: list[Curve]
    churns: list[Curve]


def panels_of(group: Group) -> list[Panel]:
    """Returns the points of a group of runs, a few to a panel, from the first layer to the last.

    A curve is the mean over the runs, with their range. It is left out where the matching was
    updated once, which is no course.
    """
    by_run = [_by_point(run.updates) for run in group.runs if run.updates]
    if not by_run:
        return []
    points = [p for p in by_run[0] if all(len(found.get(p, ())) > 1 for found in by_run)]
    panels = []
    for start in range(0, len(points), _AT_ONCE):
        costs, churns = [], []
        for place, point in enumerate(points[start : start + _AT_ONCE]):
            rows = [found[point] for found in by_run]
            costs.append(_curve(point, place, rows, "cost_after"))
            churns.append(_curve(point, place, rows, "churn"))
        panels.append(Panel(costs, churns))
    return panels


def _by_point(updates: list[PointUpdate]) -> dict[tuple[str, str], list[PointUpdate]]:
    found: dict[tuple[str, str], list[PointUpdate]] = {}
    for update in updates:
        found.setdefault((update.teacher, update.student), []).append(update)
    return found


def _curve(point: tuple[str, str], place: int, rows: list[list[PointUpdate]], field: str) -> Curve:
    """Returns the curve of a point; it ends with the run that has the fewest updates."""
    columns = list(zip(*rows, strict=False))
    values = [[float(getattr(update, field)) for update in column] for column in columns]
    return Curve(
        key=f"p{place}",
        name=" → ".join(point),
        colour=SERIES[place % len(SERIES)],
        epochs=[column[0].epoch + 1 for column in columns],
        mean=[statistics.fmean(each) for each in values],
        low=[min(each) for each in values],
        high=[max(each) for each in values],
        dashes=DASHES[place % len(DASHES)],
    )
