"""Background: how fast the runs were, and the options that they were made with."""

import json
import shlex
import statistics
from collections.abc import Sequence
from typing import Any

from mgd.report import environment
from mgd.report.html import details, table, text
from mgd.runfolder import Run, names

_NAMES = ("seed", "output", "experiment")


def speed_table(runs: Sequence[Run]) -> str:
    """Returns the throughput of each run; nothing where no epoch has ended."""
    rows = []
    for run in runs:
        if run.epochs:
            speed = statistics.median(record.images_per_s for record in run.epochs)
            wait = statistics.fmean(record.data_wait for record in run.epochs)
            epoch = statistics.fmean(record.seconds for record in run.epochs)
            result = run.result
            rows.append(
                (
                    run.name,
                    f"{len(run.epochs)} of {run.options.get('epochs', '?')}",
                    f"{speed:.0f}",
                    f"{100 * wait:.0f} %",
                    f"{epoch:.2f}",
                    f"{result.seconds:.1f}" if result else "not ended",
                    str(result.best_epoch + 1) if result and result.best_epoch >= 0 else "",
                )
            )
    headings = (
        *("run", "epochs", "images/s", "waiting for data", "s per epoch", "s in all"),
        "best epoch",
    )
    return table(headings, rows, "Throughput of each run", "wide") if rows else ""


def differing_options(runs: Sequence[Run]) -> str:
    """Returns a table of the options that differ between the runs; nothing where none does."""
    options = dict.fromkeys(name for run in runs for name in run.options)
    differing = [
        name
        for name in options
        if name not in _NAMES[1:] and len({_shown(run.options.get(name, "")) for run in runs}) > 1
    ]
    if not differing:
        return ""
    rows = [[run.name, *(_shown(run.options.get(name, "")) for name in differing)] for run in runs]
    return table(("run", *differing), rows, "Options that differ between the runs", "text")


def each_run(runs: Sequence[Run]) -> str:
    """Returns, for each run, how to repeat it, all options, and where these were changed."""
    return "".join(details(f"<b>{text(run.name)}</b>", _run(run)) for run in runs)


def _run(run: Run) -> str:
    mode = "train" if run.options["distiller"] == "none" else "distill"
    file = shlex.quote(str(run.folder / names.ARGS))
    data = shlex.quote(str(run.options["data"]))
    command = f"mgd {mode} {data} -c {file} --experiment {shlex.quote(f'{run.name}-again')}"
    parts = [
        environment.commands(run),
        f'<p class="note">To make the same run again:</p>{environment.block(text(command))}',
    ]
    for change in run.changes:
        changed = ", ".join(
            f"{name} {_shown(before)} → {_shown(after)}"
            for name, (before, after) in change.changed.items()
        )
        parts.append(
            f"<p>Resumed with other options in epoch {change.epoch + 1}, after {change.step} "
            f"steps: {text(changed)}</p>"
        )
    if run.result is not None and run.result.stopped_after is not None:
        parts.append(
            f"<p>Ended by --patience after epoch {run.result.stopped_after}: the accuracy was no "
            "better.</p>"
        )
    if run.result is not None:
        rows = [[name, _shown(value)] for name, value in run.result.to_plain().items()]
        result = table(("result", "value"), rows, f"Result of {run.name}", "text")
        parts.append(result)
    rows = [[name, _shown(value)] for name, value in run.options.items()]
    parts.append(table(("option", "value"), rows, f"Options of {run.name}", "text"))
    return "".join(parts)


def _shown(value: Any) -> str:
    """Returns an option's value on a line: a list as its entries, nothing as a dash."""
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "–"
    if value is None or value == "":
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)
