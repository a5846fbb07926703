"""Pictures of the page: SVG with their legends and captions, section by section."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from mgd.report import curves, losses, matching, updates
from mgd.report.groups import Group, measure_of
from mgd.report.html import details, figure, legend, table, text
from mgd.report.theme import to_svg
from mgd.runfolder import PointMatching, Run

_MOST_POINTS = 30
"""Points that are drawn: with more, the page would be too large. The tables have all of them."""


def learning_curves(groups: Sequence[Group]) -> list[str]:
    """Returns the learning curves, a few methods to a picture."""
    found = curves.curves_of(groups, lambda record: record.score)
    if not found:
        return []
    teacher, measure = curves.teacher_level(groups), measure_of(groups)
    limits = curves.limits_of(found, teacher)
    figures = []
    for place, panel in enumerate(curves.panels_of(found)):
        names = ", ".join(curve.name for curve in panel)
        picture = to_svg(
            partial(
                curves.draw_accuracy,
                panels=[panel],
                teacher=teacher,
                limits=limits,
                has_legend=False,
                measure=measure,
            ),
            f"curves{place}",
            f"Validation {measure} by epoch: {names}",
            curves.tips_of(panel, 1, " %"),
        )
        figures.append(figure(picture, "", _legend(panel, 1)))
    notes = [f"{measure[0].upper()}{measure[1:]} on the validation images after each epoch."]
    if any(len(group.runs) > 1 for group in groups):
        notes.append("A line is the mean over the runs of a method, its band their whole range.")
    if teacher is not None:
        notes.append("Dashed across: the teacher on the same images.")
    if len(figures) > 1 and "soft" in {curve.colour for curve in found}:
        notes.append("The grey line, the student alone, is the same in all pictures.")
    notes.append("The number is that of the last epoch. A click on a name hides its line.")
    return [_note(notes), _grid(figures)]


def _legend(panel: Sequence[curves.Curve], decimals: int) -> str:
    return legend(
        [
            {
                "key": curve.key,
                "name": curve.name,
                "colour": curve.colour,
                "dashes": " ".join(map(str, curve.dashes)),
                "value": f"{curve.mean[-1]:.{decimals}f}",
            }
            for curve in curves.by_last_value(panel)
        ]
    )


def loss_terms(groups: Sequence[Group]) -> list[str]:
    """Returns a picture of the terms of each method's loss, where it has more than one."""
    found = {group.name: terms for group in groups if (terms := losses.losses_of(group))}
    if not found:
        return []
    roles = losses.colours_of_terms(list(found.values()))
    keys = {term: f"t{place}" for place, term in enumerate(roles)}
    figures = []
    for place, (name, terms) in enumerate(found.items()):
        last = ", ".join(f"{term} {100 * share[-1]:.0f} %" for term, share in terms.shares.items())
        tips = {
            f"{keys[term]}:{part}": f"{term}: {values[-1]:.3g} in the last epoch, "
            f"{100 * terms.shares[term][-1]:.0f} % of the sum"
            for term, values in terms.terms.items()
            for part in ("line", "area")
        }
        picture = to_svg(
            partial(losses.draw_losses, losses=terms, roles=roles, keys=keys),
            f"losses{place}",
            f"Terms of the loss of {name} by epoch, and their shares; in the last epoch: {last}",
            tips,
        )
        caption = f"<b>{text(name)}</b>. Last epoch: {text(last)}"
        figures.append(figure(picture, caption, has_scope=False))
    shown = legend([{"key": keys[term], "name": term, "colour": roles[term]} for term in roles])
    notes = _note(
        [
            "Above: each term as it is in the sum, weighted, mean per training image.",
            "Below: its share of the sum. Means over the runs of a method.",
        ]
    )
    return [f"<div data-scope>{notes}{shown}{_grid(figures)}</div>"]


def matching_course(groups: Sequence[Group]) -> list[str]:
    """Returns how the matching changed over the epochs, a few methods to a picture."""
    costs = curves.curves_of(groups, lambda record: record.matching_cost)
    churns = {
        curve.key: curve for curve in curves.curves_of(groups, lambda record: record.matching_churn)
    }
    if not costs:
        return []
    figures = []
    for place, panel in enumerate(curves.panels_of(costs)):
        picture = to_svg(
            partial(
                curves.draw_costs,
                costs=panel,
                churns=[
                    replace(churns[curve.key], dashes=curve.dashes)
                    for curve in panel
                    if curve.key in churns
                ],
            ),
            f"costs{place}",
            "Distance of the matched channels by epoch, and the share that is matched anew: "
            + ", ".join(curve.name for curve in panel),
            curves.tips_of(panel, 2),
        )
        figures.append(figure(picture, "", _legend(panel, 2)))
    notes = [
        "Above: mean channel distance of the matched pairs after the last update, over all points.",
        "Below: share of the teacher channels that this update matched anew. Both hold until the "
        "next update.",
    ]
    return [_note(notes), _grid(figures), *_course_of_points(groups)]


def _course_of_points(groups: Sequence[Group]) -> list[str]:
    """Returns how the matching of each point changed, from update to update."""
    found = [(group, panels) for group in groups if (panels := updates.panels_of(group))]
    parts, left = list[str](), _MOST_POINTS
    for place, (group, panels) in enumerate(found):
        figures = []
        for number, panel in enumerate(panels[:left]):
            picture = to_svg(
                partial(curves.draw_costs, costs=panel.costs, churns=panel.churns, is_step=False),
                f"updates{place}-{number}",
                f"Distance of the matched channels after each update of {group.name}, and the "
                f"share that is matched anew: {', '.join(curve.name for curve in panel.costs)}",
                curves.tips_of(panel.costs, 2),
            )
            figures.append(figure(picture, "", _legend(panel.costs, 2)))
        left -= len(figures)
        if figures:
            heading = f"<h3>Each point of {text(group.name)}</h3>"
            parts.append(details(heading, _grid(figures), is_open=place == 0))
    if not parts:
        return []
    notes = [
        "The same point by point, after each update; the point nearest to the image comes first.",
        "The number is the distance after the last update.",
    ]
    return [_note(notes), *parts]


def matchings(groups: Sequence[Group]) -> list[str]:
    """Returns the matching of the first run of each method that has one."""
    runs = [next((run for run in group.runs if run.points), None) for group in groups]
    found = [run for run in runs if run is not None and any(_is_drawn(p) for p in run.points)]
    if not found:
        return []
    notes = _note(
        [
            "Each student channel follows some teacher channels. Left: the student's channels.",
            "Middle: the teacher's, in the order of the student channels that follow them.",
            "Right: the same in the teacher's own order. Grey: followed by none.",
            "The first run of each method, as its last update left it.",
        ]
    )
    parts, left = [notes], _MOST_POINTS
    for place, run in enumerate(found):
        drawn = [point for point in run.points if _is_drawn(point)][:left]
        parts.append(_matching(run, drawn, place))
        left -= len(drawn)
    return parts


def _is_drawn(point: PointMatching) -> bool:
    """Tells whether the point has channels that all are the teacher's."""
    channels = {channel for group in point.matching for channel in group}
    return bool(channels) and min(channels) >= 0 and max(channels) < point.teacher_channels


def _matching(run: Run, drawn: Sequence[PointMatching], place: int) -> str:
    figures = []
    for number, point in enumerate(drawn):
        picture = to_svg(
            partial(matching.draw_points, points=[point], has_titles=False),
            f"matching{place}-{number}",
            f"Which channels of {point.teacher} in the teacher each channel of {point.student} in "
            f"the student follows",
            matching.tips_of(point),
        )
        figures.append(figure(picture, _caption(point)))
    more = len(run.points) - len(drawn)
    rest = f"{more} more points are in the table alone; a report of this run may draw them."
    heading = f"<h3>Matching of {text(run.name)}</h3>"
    content = f"{points_table(run)}{_grid(figures)}{_note([rest]) if more else ''}"
    return details(heading, content, is_open=place == 0)


def _caption(point: PointMatching) -> str:
    students, shown = len(point.matching[0]), matching.shown_students(point)
    part = f" The first {shown} of {students} student channels." if shown < students else ""
    return (
        f"<b>{text(point.teacher)} → {text(point.student)}</b>: distance {point.first_cost:.2f} → "
        f"{point.cost_after:.2f}.{part}"
    )


def points_table(run: Run) -> str:
    """Returns what the updates of a run's matching found at each point."""
    headings = (
        *("teacher", "student", "channels", "distance at first", "before the last update"),
        *("after it", "matched anew", "dead", "images"),
    )
    rows = [
        (
            point.teacher,
            point.student,
            f"{point.teacher_channels} → {len(point.matching[0])}",
            f"{point.first_cost:.2f}",
            f"{point.cost_before:.2f}",
            f"{point.cost_after:.2f}",
            f"{100 * point.churn:.0f} %",
            str(point.dead_channels),
            str(point.images),
        )
        for point in run.points
    ]
    return table(headings, rows, f"Distances of {run.name} by point", "points")


def _note(sentences: Sequence[str]) -> str:
    return f'<p class="note">{text(" ".join(sentences))}</p>'


def _grid(figures: Sequence[str]) -> str:
    return f'<div class="grid">{"".join(figures)}</div>'
