"""Pictures of runs as PNG files, for pages of documentation; drawn as those of the report are."""

from collections.abc import Sequence

from mgd.report import curves, matching
from mgd.report.groups import group_runs, measure_of
from mgd.report.theme import to_png
from mgd.runfolder import Run


def draw_curves(runs: Sequence[Run]) -> bytes:
    """Draws validation accuracy against the epoch, a line for each group of runs.

    The line is the mean over the group's seeds; the band reaches from the worst to the best seed.
    Each group's line ends with its shortest run. More than `curves.MOST` lines are spread over
    panels.

    Raises:
        InputError: If matplotlib is not installed.
    """
    groups = group_runs(runs)
    found = curves.curves_of(groups, lambda record: record.score)
    panels, teacher = curves.panels_of(found), curves.teacher_level(groups)
    limits = curves.limits_of(found, teacher)
    return to_png(
        lambda colours: curves.draw_accuracy(
            colours, panels, teacher, limits, True, measure_of(groups)
        )
    )


def draw_matching(run: Run) -> bytes:
    """Draws which teacher channels each student channel is matched with, one panel per point.

    Raises:
        InputError: If matplotlib is not installed.
    """
    return to_png(lambda colours: matching.draw_points(colours, run.points, has_titles=True))
