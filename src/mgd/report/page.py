"""A page about runs: one HTML file that needs nothing else."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from mgd.report import figures
from mgd.report.summary import HEADINGS, summarize
from mgd.runfolder import Evaluation, Run, write_whole

_MEASURED = ("evaluation", "network", "weights", "Acc@1, %", "Acc@5, %", "loss", "images", "view")

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } td, th { padding: .25rem .8rem; text-align: right }
td:first-child, th:first-child { text-align: left } tr:nth-child(even) { background: #f3f4f6 }
th { border-bottom: 2px solid #444 } img { max-width: 100% } figcaption { color: #555 }
"""


def write_report(
    runs: Sequence[Run],
    path: Path,
    title: str,
    notes: Sequence[str] = (),
    evaluations: Sequence[Evaluation] = (),
) -> None:
    """Writes a page with the tables, the learning curves and each group's matching.

    Names of runs and classes come from the user's folders. They are shown as text, also where they
    hold HTML.

    Args:
        runs: Any number.
        path: The HTML file.
        title: Heading.
        notes: Paragraphs below it.
        evaluations: Shown as a table of what was measured.

    Raises:
        InputError: If matplotlib is not installed.
        RunError: If the page cannot be written.

    Example:
        >>> import tempfile
        >>> from mgd.runfolder import Run
        >>> run = Run(folder=Path("runs/mine"), options={}, epochs=[], result=None, matching=None)
        >>> path = Path(tempfile.mkdtemp()) / "report.html"
        >>> write_report([run], path, "My run")
        >>> "<h1>My run</h1>" in path.read_text()
        True
    """
    parts = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(note)}</p>" for note in notes)]
    summaries = summarize(runs)
    if summaries:
        parts.append(_table(HEADINGS, [summary.cells() for summary in summaries]))
    if evaluations:
        parts.append("<h2>Evaluations</h2>")
        parts.append(_table(_MEASURED, [row for each in evaluations for row in _rows(each)]))
    if any(run.epochs for run in runs):
        parts.append("<h2>Learning curves</h2>")
        parts.append(
            _picture(figures.draw_curves(runs), "Mean over seeds; the band spans all seeds.")
        )
    shown = set()
    for run in runs:
        if run.points and run.group not in shown:
            shown.add(run.group)
            parts.append(f"<h2>Matching of {escape(run.name)}</h2>")
            caption = "Each row is a student channel, its marks the teacher channels it follows."
            parts.append(_picture(figures.draw_matching(run), caption))
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style><body>{''.join(parts)}</body></html>"
    )
    # A folder's name may not be UTF-8.
    content = page.encode(errors="replace")
    write_whole(path, lambda file: file.write(content))


def _rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Returns a row under `_MEASURED` for each network of an evaluation."""
    return [
        (
            evaluation.folder.name,
            f"{network.role}: {network.arch}",
            network.weights,
            f"{network.top1:.2f}",
            f"{network.top5:.2f}",
            f"{network.loss:.4f}",
            f"{network.images} of {evaluation.data}",
            network.view,
        )
        for network in evaluation.networks
    ]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _picture(png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
