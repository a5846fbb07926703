"""Page: `docs/evidence.md`, whose tables and pictures are made from `results.jsonl` alone.

The words between the tables are written by hand. A test compares the tables with the file.
"""

import math
import statistics
from pathlib import Path
from typing import Any

from benchmarks.common import fill
from benchmarks.evidence.commands import commands_page, link
from benchmarks.evidence.plan import HERE, seeds_of
from mgd.report import HEADINGS, figures, summarize
from mgd.runfolder import (
    CLASSIFIED,
    DETECTED,
    EpochRecord,
    MatchingRecord,
    PointMatching,
    Run,
    RunResult,
    epoch_columns,
)

Row = dict[str, Any]

PAGE = HERE.parent.parent / "docs" / "evidence.md"
COMMANDS = PAGE.with_name("evidence-commands.md")
PICTURES = PAGE.parent / "images"
_EPOCHS = {
    scores: dict.fromkeys(
        epoch_columns(["loss"], teacher=False, matching=False, skips=False, scores=scores),
        math.nan,
    )
    for scores in (CLASSIFIED, DETECTED)
}
"""An epoch of which nothing is known, for each kind of networks."""
_POINT: dict[str, Any] = {
    **dict.fromkeys(("cost_before", "churn", "seconds"), math.nan),
    **{"point": "", "teacher_channels": 0, "dead_channels": 0, "images": 0, "matching": []},
}


def write_page(rows: list[Row], matrix: dict[str, Any]) -> None:
    """Writes the tables, the commands, and the curves of the methods named under `draw`."""
    PAGE.write_text(fill_page(PAGE.read_text(), rows, matrix))
    COMMANDS.write_text(all_commands(rows, matrix))
    for name, experiment in matrix["experiments"].items():
        drawn = experiment.get("draw", [])
        runs = [as_run(r) for r in rows_of(rows, name, experiment) if r["method"] in drawn]
        if runs:
            (PICTURES / f"evidence-{name}.png").write_bytes(figures.draw_curves(runs))


def fill_page(text: str, rows: list[Row], matrix: dict[str, Any]) -> str:
    """Returns the page with its tables made anew; see `fill`."""
    blocks = {
        name: section(name, experiment, rows) for name, experiment in matrix["experiments"].items()
    }
    return fill(text, {**blocks, "provenance": provenance(rows)})


def all_commands(rows: list[Row], matrix: dict[str, Any]) -> str:
    """Returns the page of commands; see `commands_page`."""
    return commands_page(
        (name, experiment["title"], rows_of(rows, name, experiment))
        for name, experiment in matrix["experiments"].items()
    )


def section(name: str, experiment: dict[str, Any], rows: list[Row]) -> str:
    """Returns the tables of an experiment in Markdown."""
    mine = rows_of(rows, name, experiment)
    planned = sum(len(seeds_of(experiment, method)) for method in experiment["methods"])
    done = f"tier {experiment['tier']}, {len(mine)} of {planned} runs"
    lines = [f"*{experiment['title']}: {done}.*" + (f" ({link(name)})" if mine else "")]
    if mine and experiment.get("choose"):
        lines += ["", *_scan(mine)]
    elif mine:
        lines += ["", *_table(mine)]
        lines += ["", *_differences(experiment.get("compare", []), mine)]
    return "\n".join(lines).replace("\n\n\n", "\n\n").rstrip()


def rows_of(rows: list[Row], name: str, experiment: dict[str, Any]) -> list[Row]:
    """Returns an experiment's rows, in the order of its methods and seeds."""
    order = list(experiment["methods"])
    mine = [row for row in rows if row["experiment"] == name and row["method"] in order]
    return sorted(mine, key=lambda row: (order.index(row["method"]), row["seed"]))


def as_run(row: Row) -> Run:
    """Returns a row as if its run folder had been read.

    A row keeps only what the tables show; what it does not keep is not a number, or empty.
    """
    empty = _EPOCHS[DETECTED if finds_boxes(row) else CLASSIFIED]
    epochs = [EpochRecord.from_row({**empty, **kept}) for kept in row["rows"]]
    points = [PointMatching(**{**_POINT, **point}) for point in row["points"]]
    return Run(
        folder=Path(f"{row['method']}-seed{row['seed']}"),
        options={**row["options"], "data": row["experiment"]},
        epochs=epochs,
        result=RunResult.from_plain(row["result"]),
        matching=MatchingRecord(epoch=len(epochs), points=points) if points else None,
    )


def _table(rows: list[Row]) -> list[str]:
    """Accuracy at the end, on the test part where there is one, and early on `valid`."""
    # The machine had other work beside the runs, so their seconds would say nothing.
    told = [i for i, heading in enumerate(HEADINGS) if heading not in ("method", "seconds")]
    headings = [HEADINGS[i].replace("Acc@1", measure_of(rows)) for i in told]
    lines = _head([HEADINGS[0], "runs", *headings, "early, %"])
    for summary in summarize([as_run(row) for row in rows]):
        method, *cells = (summary.cells()[i] for i in (0, *told))
        early = [early_accuracy(row) for row in rows if row["method"] == summary.group]
        lines.append(_line([method, str(summary.runs), *cells, spread(early)]))
    return lines


def finds_boxes(row: Row) -> bool:
    """Tells whether a row is of a run of detectors."""
    return row["result"].get("valid_map") is not None


def measure_of(rows: list[Row]) -> str:
    """Returns the name of what rows were measured by."""
    return "mAP" if finds_boxes(rows[0]) else "Acc@1"


def early_accuracy(row: Row) -> float:
    """Returns the validation accuracy after a fifth of the epochs, at least one."""
    epochs = row["rows"]
    column = "valid_map" if finds_boxes(row) else "valid_top1"
    return float(epochs[max(1, len(epochs) // 5) - 1][column])


def _scan(rows: list[Row]) -> list[str]:
    lines = _head(["method", "runs", f"valid {measure_of(rows)}, %"])
    for method in dict.fromkeys(row["method"] for row in rows):
        column = "valid_map" if finds_boxes(rows[0]) else "valid_top1"
        values = [row["result"][column] for row in rows if row["method"] == method]
        lines.append(_line([method, str(len(values)), spread(values)]))
    return lines


def _differences(pairs: list[list[str]], rows: list[Row]) -> list[str]:
    """Compares methods seed by seed, on test and early on."""
    lines = []
    for one, other in pairs:
        test, early = (paired(rows, one, other, value) for value in (_test, early_accuracy))
        if test:
            lines.append(
                _line([f"{one} − {other}", str(len(test)), with_error(test), with_error(early)])
            )
    heads = ["difference", "pairs of runs", "on test ± standard error", "early ± standard error"]
    return [*_head(heads), *lines] if lines else []


def _test(row: Row) -> float:
    return float(row["result"]["test_map" if finds_boxes(row) else "test_top1"])


def paired(rows: list[Row], one: str, other: str, value: Any) -> list[float]:
    """Returns the differences of a value between two methods, for the seeds that both have."""
    found = {(row["method"], row["seed"]): value(row) for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    return [
        found[one, seed] - found[other, seed]
        for seed in seeds
        if (one, seed) in found and (other, seed) in found
    ]


def with_error(differences: list[float]) -> str:
    """Returns a mean and its standard error, from two values on."""
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return f"{mean:+.1f}"
    return f"{mean:+.1f} ± {statistics.stdev(differences) / len(differences) ** 0.5:.1f}"


def spread(values: list[float]) -> str:
    """Returns a mean and standard deviation, from two values on."""
    mean = statistics.fmean(values)
    return f"{mean:.1f} ± {statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"


def provenance(rows: list[Row]) -> str:
    """Returns where all rows come from."""
    commits = sorted({row["commit"] for row in rows})
    dates = sorted({row["date"] for row in rows})
    versions = sorted({", ".join(f"{k} {v}" for k, v in row["versions"].items()) for row in rows})
    hours = sum(row["wall_seconds"] for row in rows) / 3600
    return (
        f"{len(rows)} runs, {hours:.1f} hours added up, one thread each, "
        f"{dates[0]} to {dates[-1]}; commits {', '.join(commits)}; {'; '.join(versions)}."
    )


def _head(cells: list[str]) -> list[str]:
    return [_line(cells), "|---" * len(cells) + "|"]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
