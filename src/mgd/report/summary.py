"""Summary: one row per group of runs that differ in their seed alone."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from mgd.runfolder import Run

HEADINGS = (
    "method",
    "Acc@1, %",
    "gap",
    "parameters",
    "seconds",
    "distance",
)


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
    """(this - alone) / (teacher - alone), where a student alone and a teacher are known."""
    trained_parameters: int
    seconds: float
    is_agreement: bool
    """Whether `accuracy` is agreement with the teacher, in runs without any label."""
    cost: tuple[float, float] | None
    """Mean channel distance of the matched pairs before the first and after the last update."""

    def cells(self) -> tuple[str, ...]:
        """Returns the row under `HEADINGS`."""
        gap = "" if self.gap_recovered is None else f"{100 * self.gap_recovered:+.0f} %"
        cost = "" if self.cost is None else f"{self.cost[0]:.2f} → {self.cost[1]:.2f}"
        accuracy = (
            f"{self.accuracy:.1f} ± {self.spread:.1f}"
            if self.runs > 1
            else (f"{self.accuracy:.1f}")
        )
        if self.is_agreement:
            accuracy += " (agreement with the teacher)"
        parameters = f"{self.trained_parameters:,}".replace(",", " ")
        return (self.group, accuracy, gap, parameters, f"{self.seconds:.1f}", cost)


def summarize(runs: Sequence[Run]) -> list[Summary]:
    """Summarises finished runs, one row per group, in the order of each group's first run."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.accuracy is not None:
            groups.setdefault(run.group, []).append(run)
    return [_summarize(name, members, groups) for name, members in groups.items()]


def _summarize(name: str, runs: list[Run], groups: dict[str, list[Run]]) -> Summary:
    accuracies = [run.accuracy for run in runs if run.accuracy is not None]
    results = [run.result for run in runs if run.result is not None]
    points = [point for run in runs for point in run.points]
    cost = None
    if points:
        first = statistics.fmean(point.first_cost for point in points)
        cost = first, statistics.fmean(point.cost_after for point in points)
    return Summary(
        group=name,
        runs=len(runs),
        accuracy=statistics.fmean(accuracies),
        spread=statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
        gap_recovered=_gap(runs, groups),
        trained_parameters=results[0].trained_parameters,
        seconds=statistics.fmean(result.seconds for result in results),
        is_agreement=any(run.is_agreement for run in runs),
        cost=cost,
    )


def _gap(runs: list[Run], groups: dict[str, list[Run]]) -> float | None:
    """Compares with the student alone: the group of the same network and data, undistilled."""
    same = ("arch", "data", "size", "train-images")
    scores = [run.result.teacher_top1 for run in runs if run.result is not None]
    taught = [score for score in scores if score is not None]
    alone = [
        run.accuracy
        for members in groups.values()
        for run in members
        if run.options["distiller"] == "none"
        and all(run.options[key] == runs[0].options[key] for key in same)
        and run.accuracy is not None
    ]
    if not taught or not alone:
        return None
    teacher, baseline = statistics.fmean(taught), statistics.fmean(alone)
    mine = statistics.fmean(run.accuracy for run in runs if run.accuracy is not None)
    return (mine - baseline) / (teacher - baseline) if teacher != baseline else None
