"""Environment: by which commands, with which packages and on which machines runs were made."""

import shlex
from collections import Counter
from collections.abc import Sequence

from mgd.report.html import details, table, text
from mgd.runfolder import Run, Start


def machines(runs: Sequence[Run]) -> str:
    """Returns the versions and machines of runs: what all share, and what differs between them.

    It is nothing where no run has them recorded.
    """
    starts = [(run, start) for run in runs for start in run.starts]
    if not starts:
        return ""
    found = [(_name(run, start), _values(start)) for run, start in starts]
    rows = list(dict.fromkeys(row for _, values in found for row in values))
    shared = [row for row in rows if len({values.get(row, "") for _, values in found}) == 1]
    differing = [row for row in rows if row not in shared]
    parts = [f"<p>{text(_told(len(found), differing))}</p>"]
    if differing:
        cells = [[name, *(values.get(row, "–") for row in differing)] for name, values in found]
        parts.append(table(("run", *differing), cells, "Versions and machines that differ", "text"))
    if shared:
        cells = [[row, found[0][1][row]] for row in shared]
        label = "Versions and machine" + (" of all runs" if len(found) > 1 else "")
        parts.append(table(("", label.lower()), cells, label, "text"))
    if missing := [run.name for run in runs if not run.starts]:
        note = f"Not recorded, since the version of mgd was too old: {', '.join(missing)}."
        parts.append(f'<p class="note">{text(note)}</p>')
    return details("<h3>Versions and machines</h3>", "".join(parts))


def _told(number: int, differing: Sequence[str]) -> str:
    if number == 1:
        return "The run was made in one go, with these versions on this machine."
    if not differing:
        return "All runs were made with the same versions and on the same kind of machine."
    return f"The runs, or the parts of a resumed run, differ in: {', '.join(differing)}."


def _name(run: Run, start: Start) -> str:
    place = run.starts.index(start)
    return run.name if place == 0 else f"{run.name}, {_part(start, place)}"


def _part(start: Start, place: int) -> str:
    """Returns which part of its run a start began."""
    if place == 0:
        return "from its start"
    after = f", after {start.step} steps" if start.step else ""
    return f"resumed in epoch {start.epoch + 1}{after}"


def _values(start: Start) -> dict[str, str]:
    """Returns what a start was made with, by what it is called in the tables."""
    devices = Counter(start.devices)
    gpus = ", ".join(f"{count} × {name}" for name, count in devices.items()) or "none"
    return {
        **start.versions,
        "system": start.system,
        "processor": start.processor,
        "cores to use": str(start.cores),
        "GPUs": gpus,
        "processes": str(start.processes),
        "threads of a process": str(start.threads),
        "git commit": (start.commit or "–")[:12],
    }


def commands(run: Run) -> str:
    """Returns the commands that a run was started and resumed with, each in a block to copy."""
    parts = []
    for place, start in enumerate(run.starts):
        when = text(start.time.replace("T", " ").replace("+00:00", " UTC"))
        head = "Started" if place == 0 else _part(start, place).capitalize()
        if start.command:
            command = text(shlex.join(start.command))
            parts.append(f'<p class="note">{head} at {when}:</p>{block(command)}')
        else:
            parts.append(f'<p class="note">{head} at {when}, by a program and no command line.</p>')
    return "".join(parts)


def block(command: str) -> str:
    """Returns a command, which is HTML, in a block; a click selects it as a whole."""
    return f'<pre class="copy" tabindex="0">{command}</pre>'
