"""Methods: the headline of a report, and the table of what each group of runs came to."""

import math
from collections.abc import Mapping, Sequence

from mgd.report.groups import Group, measure_of
from mgd.report.html import Cell, swatch, table, text
from mgd.report.summary import Summary

_WIDTH, _HEIGHT, _EDGE = 180.0, 20.0, 6.0
"""Size of the picture in a row, and its margin left and right."""


_SHORT = {"accuracy": "Acc@1", "mAP": "mAP"}
"""Of each measure, what stands above a column."""


def number(value: int) -> str:
    """Returns a whole number in groups of three digits that no line break parts."""
    return f"{value:,}".replace(",", "\N{NO-BREAK SPACE}")


def headline(groups: Sequence[Group], summaries: Sequence[Summary]) -> str:
    """Returns the main finding in a sentence or two, as HTML; empty while no run has ended."""
    best = _best(summaries)
    if best is None:
        return ""
    rivals = sum(each.alone is not None or each.teacher is not None for each in summaries)
    choice = f", the best of {rivals} methods," if rivals > 1 and _is_taught(best) else ""
    what = "agrees with its teacher on" if best.is_agreement else "reaches"
    accuracy = f"{best.accuracy:.1f}" + (f" ± {best.spread:.1f}" if best.runs > 1 else "")
    runs = f" over {best.runs} runs" if best.runs > 1 else ""
    group = next(group for group in groups if group.name == best.group)
    images = "the held-out images" if best.is_agreement else _images(group)
    parts = [
        f"<b>{text(best.group)}</b>{choice} {what} <b>{accuracy} %</b>{runs}"
        f"{' of' if best.is_agreement else ' on'} {images}{_against(best)}."
    ]
    size = best.student_parameters or best.trained_parameters
    whose = "parameters" if best.student_parameters else "trained parameters"
    parameters = f"It has {number(size)} {whose}"
    if best.teacher_parameters and best.compression:
        factor = best.compression
        told = f"{factor:.1f} times fewer" if factor > 1 else f"{1 / factor:.1f} times as many"
        link = "than" if factor > 1 else "as"
        parameters += f", {told} {link} its teacher ({number(best.teacher_parameters)})"
    return f'<p class="headline">{" ".join([*parts, *_chance(best), parameters])}.</p>'


def _chance(best: Summary) -> list[str]:
    """Returns a sentence where the difference from the student alone may be chance."""
    found = best.difference
    if found is None or found.error is None or abs(found.mean) >= 2 * found.error:
        return []
    difference, pairs = _difference(best)
    return [f"The difference from the student alone, {difference} points, may be chance: {pairs}."]


def _is_taught(summary: Summary) -> bool:
    return summary.teacher is not None or summary.alone is not None


def _best(summaries: Sequence[Summary]) -> Summary | None:
    """Returns the distilled one with the highest accuracy; where none is known, of all of them."""
    taught = [each for each in summaries if _is_taught(each) and not each.is_agreement]
    choices = taught or [each for each in summaries if each.is_agreement] or list(summaries)
    return max(choices, key=lambda each: each.accuracy, default=None)


def _images(group: Group) -> str:
    results = [run.result for run in group.runs if run.result is not None]
    if all(result.is_tested for result in results):
        return "the test images"
    return "the validation images that chose its epoch"


def _against(best: Summary) -> str:
    others = []
    if best.alone is not None:
        others.append(f"{best.alone:.1f} % of the student alone")
    if best.teacher is not None:
        others.append(f"{best.teacher:.1f} % of the teacher")
    told = f", against {' and '.join(others)}" if others else ""
    if best.gap_recovered is not None:
        if best.gap_recovered < 0:
            return f"{told}: nothing of the gap is recovered"
        return f"{told}: <b>{100 * best.gap_recovered:.0f} %</b> of the gap is recovered"
    if best.why_no_gap:
        return f"{told}. The gap between the two is too small to be shared out"
    return told


def methods_table(
    groups: Sequence[Group], summaries: Sequence[Summary], colours: Mapping[str, str]
) -> list[str]:
    """Returns the table of methods with its explanation; nothing while no run has ended."""
    if not summaries:
        return []
    by_name = {group.name: group for group in groups}
    span = _span(groups, summaries)
    headings = [
        *("method", "runs", f"{_SHORT[measure_of(groups)]}, %", "each run", "vs. alone", "gap"),
        *("trained", "compression", "distance", "seconds"),
    ]
    rows = [_row(each, by_name[each.group], colours, span) for each in summaries]
    # A column without any entry tells nothing.
    kept = [place for place in range(len(headings)) if any(row[place].html for row in rows)]
    headings = [headings[place] for place in kept]
    rows = [[row[place] for place in kept] for row in rows]
    return [
        table(headings, rows, "Methods and what they came to", "wide"),
        f'<p class="note">{_explained(summaries, headings)}</p>',
    ]


def _row(
    summary: Summary, group: Group, colours: Mapping[str, str], span: tuple[float, float]
) -> list[Cell]:
    cost = "" if summary.cost is None else f"{summary.cost[0]:.2f} → {summary.cost[1]:.2f}"
    return [
        Cell(f"{swatch(colours[group.name])}{text(group.name)}"),
        Cell(str(summary.runs)),
        Cell(text(summary.accuracy_cell)),
        Cell(_strip(summary, group, colours[group.name], span)),
        Cell(*_difference(summary)),
        Cell(_signed(summary.gap), summary.why_no_gap),
        Cell(number(summary.trained_parameters)),
        Cell(f"{summary.compression:.1f} ×" if summary.compression else ""),
        Cell(text(cost)),
        Cell(f"{summary.seconds:.1f}"),
    ]


def _difference(summary: Summary) -> tuple[str, str]:
    """Returns the cell of the difference from the student alone, and its explanation."""
    found = summary.difference
    if found is None:
        return "", ""
    mean = _signed(f"{found.mean:+.1f}")
    if found.error is None:
        return mean, "one pair of runs with the same seed"
    return f"{mean} ± {found.error:.1f}", f"{found.pairs} pairs of runs with the same seed"


def _signed(number: str) -> str:
    return text(number.replace("-", "\N{MINUS SIGN}"))


def _explained(summaries: Sequence[Summary], headings: Sequence[str]) -> str:
    parts = []
    if any(each.runs > 1 for each in summaries):
        name = headings[2].removesuffix(", %")
        parts.append(f"{name}: mean ± standard deviation over the runs.")
    if "vs. alone" in headings:
        parts.append(
            "vs. alone: difference from the student alone with the same seed, in percentage "
            "points, ± standard error of the mean."
        )
    if "gap" in headings:
        parts.append("Gap: (method − student alone) / (teacher − student alone).")
    if "trained" in headings:
        parts.append("Trained: parameters that the optimizer changed.")
    if "compression" in headings:
        parts.append("Compression: the teacher's parameters / the student's.")
    if "distance" in headings:
        parts.append(
            "Distance: mean channel distance, 0 to 4, of the matched pairs before the first and "
            "after the last update."
        )
    parts.append(
        "Each run: a dot; | the mean; ┊ the teacher, where it is known; the scale is the same in "
        "all rows."
    )
    return " ".join(parts)


def _span(groups: Sequence[Group], summaries: Sequence[Summary]) -> tuple[float, float]:
    values = [value for group in groups for value in group.accuracies]
    values += [each.teacher for each in summaries if each.teacher is not None]
    values = [value for value in values if math.isfinite(value)]
    return min(values, default=0.0), max(values, default=100.0)


def _strip(summary: Summary, group: Group, colour: str, span: tuple[float, float]) -> str:
    """Draws the accuracy of each run of a group on a line, with their mean and the teacher's."""
    low, high = span
    scale = (_WIDTH - 2 * _EDGE) / (high - low or 1)

    def x(value: float) -> str:
        return f"{_EDGE + (value - low) * scale if math.isfinite(value) else 0:.1f}"

    middle, values = _HEIGHT / 2, group.accuracies
    dots = "".join(
        f'<circle cx="{x(value)}" cy="{middle:g}" r="4" fill-opacity=".6"/>' for value in values
    )
    mean = x(summary.accuracy)
    parts = [
        f'<path d="M0 {middle:g}H{_WIDTH:g}" style="stroke: var(--line)"/>',
        f'<g style="fill: var(--{colour})">{dots}</g>',
        f'<path d="M{mean} 2V{_HEIGHT - 2:g}" style="stroke: var(--{colour})" stroke-width="2"/>',
    ]
    told = ", ".join(f"{value:.1f}" for value in values)
    if summary.teacher is not None:
        place = x(summary.teacher)
        parts.append(
            f'<path d="M{place} 1V{_HEIGHT - 1:g}" style="stroke: var(--ink)" '
            'stroke-dasharray="2 2"/>'
        )
        told += f"; teacher {summary.teacher:.1f}"
    label = text(f"{group.name}: {told}")
    return (
        f'<svg class="strip" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" '
        f'aria-label="{label}"><title>{label}</title>{"".join(parts)}</svg>'
    )
