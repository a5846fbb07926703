"""Summary: what each group of runs came to, and what that is compared with the student alone."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from mgd.report.groups import Group, alone_of, group_runs, is_teacher, seed_of
from mgd.runfolder import Run

HEADINGS = (
    "method",
    "Acc@1, %",
    "gap",
    "parameters",
    "seconds",
    "distance",
)
NO_GAP = "–"
"""Shown where the teacher is not clearly better than the student alone."""
_LEAST_GAP = 1.0
"""A teacher that is fewer percentage points above the student alone has no gap to recover."""


@dataclass(frozen=True)
class Difference:
    """How much better than the student alone, with the same seeds."""

    mean: float
    """Percentage points."""
    error: float | None
    """Standard error of the mean; None for one pair of runs."""
    pairs: int


@dataclass(frozen=True)
class Summary:
    """What a group of runs came to."""

    group: str
    runs: int
    accuracy: float
    """Mean top-1, percent."""
    spread: float
    """Standard deviation over the runs, percent; 0 for one run."""
    gap_recovered: float | None
    """(this - alone) / (teacher - alone), where a student alone and a teacher are known, and the
    teacher is clearly better."""
    trained_parameters: int
    seconds: float
    is_agreement: bool
    """Whether `accuracy` is agreement with the teacher, in runs without any label."""
    cost: tuple[float, float] | None
    """Mean channel distance of the matched pairs before the first and after the last update."""
    why_no_gap: str = ""
    """Why there is no gap although student alone and teacher are known."""
    alone: float | None = None
    """Mean top-1 of the student alone, percent."""
    teacher: float | None = None
    """Mean top-1 of the teacher, percent."""
    teacher_parameters: int | None = None
    """As the runs recorded it, or else as the teacher's own run did."""
    student_parameters: int | None = None
    """Of the network alone, without what is trained beside it; where the runs recorded it."""
    difference: Difference | None = None
    """From the student alone, where both have runs with the same seeds."""

    @property
    def compression(self) -> float | None:
        """How many times the student's parameters the teacher has."""
        if self.teacher_parameters is None:
            return None
        return self.teacher_parameters / (self.student_parameters or self.trained_parameters)

    def cells(self) -> tuple[str, ...]:
        """Returns the row under `HEADINGS`."""
        cost = "" if self.cost is None else f"{self.cost[0]:.2f} → {self.cost[1]:.2f}"
        parameters = f"{self.trained_parameters:,}".replace(",", " ")
        return (self.group, self.accuracy_cell, self.gap, parameters, f"{self.seconds:.1f}", cost)

    @property
    def accuracy_cell(self) -> str:
        """Accuracy and its spread."""
        spread = f" ± {self.spread:.1f}" if self.runs > 1 else ""
        note = " (agreement with the teacher)" if self.is_agreement else ""
        return f"{self.accuracy:.1f}{spread}{note}"

    @property
    def gap(self) -> str:
        """Gap recovered; a dash where it says nothing; empty where it is not known."""
        if self.gap_recovered is None:
            return NO_GAP if self.why_no_gap else ""
        return f"{100 * self.gap_recovered:+.0f} %"


def summarize(runs: Sequence[Run]) -> list[Summary]:
    """Summarises finished runs, one row per group, in the order of each group's first run."""
    return summarize_groups(group_runs([run for run in runs if run.accuracy is not None]))


def summarize_groups(groups: Sequence[Group]) -> list[Summary]:
    """Summarises the groups that have a finished run."""
    return [_summarize(group, groups) for group in groups if group.accuracies]


def _summarize(group: Group, groups: Sequence[Group]) -> Summary:
    results = [run.result for run in group.runs if run.result is not None]
    taught = [each.teacher_score for each in results if each.teacher_score is not None]
    teacher = statistics.fmean(taught) if taught else None
    alone = alone_of(group, groups)
    baseline = statistics.fmean(alone.accuracies) if alone else None
    accuracy = statistics.fmean(group.accuracies)
    why = gap = None
    if teacher is not None and alone is not None and baseline is not None:
        why = _why_no_gap(teacher, baseline, alone)
        gap = None if why else (accuracy - baseline) / (teacher - baseline)
    return Summary(
        group=group.name,
        runs=len(results),
        accuracy=accuracy,
        spread=_spread(group.accuracies),
        gap_recovered=gap,
        trained_parameters=results[0].trained_parameters,
        seconds=statistics.fmean(result.seconds for result in results),
        is_agreement=group.is_agreement,
        cost=_cost(group),
        why_no_gap=why or "",
        alone=baseline,
        teacher=teacher,
        teacher_parameters=results[0].teacher_parameters or _teacher_parameters(group, groups),
        student_parameters=results[0].student_parameters,
        difference=difference(group, alone) if alone else None,
    )


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _why_no_gap(teacher: float, baseline: float, alone: Group) -> str:
    """Says why a share of the gap would say nothing; empty where it does say something."""
    gap, spread = teacher - baseline, _spread(alone.accuracies)
    if gap >= max(_LEAST_GAP, spread):
        return ""
    least = f"{_LEAST_GAP:g}" if spread <= _LEAST_GAP else f"{spread:.1f}, the spread of its seeds"
    return (
        f"the teacher has {teacher:.1f} %, the student alone {baseline:.1f} %: a gap of {gap:.1f} "
        f"points is too small to be shared out (less than {least})"
    )


def _cost(group: Group) -> tuple[float, float] | None:
    points = [point for run in group.runs for point in run.points]
    if not points:
        return None
    first = statistics.fmean(point.first_cost for point in points)
    return first, statistics.fmean(point.cost_after for point in points)


def _teacher_parameters(group: Group, groups: Sequence[Group]) -> int | None:
    if group.is_alone:
        return None
    for other in groups:
        for run in other.runs:
            if run.result is not None and is_teacher(run, group):
                return run.result.trained_parameters
    return None


def difference(group: Group, alone: Group) -> Difference | None:
    """Compares a group with the student alone, seed by seed; None without a seed of both.

    Seeds share the images of the training and the first weights, so the difference of two runs
    with one seed varies less than the runs do.
    """
    baseline = {seed_of(run): run.accuracy for run in alone.runs}
    pairs = [
        run.accuracy - other
        for run in group.runs
        if run.accuracy is not None
        and seed_of(run) is not None
        and (other := baseline.get(seed_of(run))) is not None
    ]
    if not pairs:
        return None
    error = statistics.stdev(pairs) / len(pairs) ** 0.5 if len(pairs) > 1 else None
    return Difference(statistics.fmean(pairs), error, len(pairs))
