"""A page about runs: one HTML file that needs nothing else."""

from collections.abc import Sequence
from pathlib import Path

from mgd.report import answers, background, boxes, environment, methods, pictures
from mgd.report.curves import colours_of
from mgd.report.gallery import galleries
from mgd.report.groups import Group, group_runs
from mgd.report.html import Cell, details, section, table, text
from mgd.report.style import POLICY, SCRIPT, STYLE
from mgd.report.summary import Summary, summarize_groups
from mgd.runfolder import Evaluation, Run, write_whole

_MEASURED = ("evaluation", "network", "weights", "Acc@1, %", "Acc@5, %", "loss", "images", "view")


def write_report(
    runs: Sequence[Run],
    path: Path,
    title: str,
    notes: Sequence[str] = (),
    evaluations: Sequence[Evaluation] = (),
    reloads: int = 0,
) -> None:
    """Writes a page about runs; each part is left out where its data are missing.

    The parts are: the main finding in a sentence, the methods, the learning curves, the terms of
    the loss, the course of the matching, the matchings, feature maps before and after training,
    boxes that were found, the worst confusions and images, where student and teacher disagree,
    the evaluations, and how the runs were made.

    Names of runs and classes come from the user's folders. They are shown as text, also where they
    hold HTML.

    Args:
        runs: Any number.
        path: The HTML file.
        title: Heading.
        notes: Paragraphs below it.
        evaluations: Shown as a table of what was measured.
        reloads: Seconds after which the page loads itself again while a run goes on; 0: never.

    Raises:
        InputError: If matplotlib is not installed, or the file of a gallery cannot be read.
        RunError: If the page cannot be written.

    Example:
        >>> import tempfile
        >>> from mgd.runfolder import Run
        >>> options = {"distiller": "none", "data": "digits"}
        >>> run = Run(
        ...     folder=Path("runs/mine"), options=options, epochs=[], result=None, matching=None
        ... )
        >>> path = Path(tempfile.mkdtemp()) / "report.html"
        >>> write_report([run], path, "My run")
        >>> "<h1>My run</h1>" in path.read_text(encoding="utf-8")
        True
    """
    groups = group_runs(runs)
    summaries = summarize_groups(groups)
    sections = _sections(groups, summaries, evaluations)
    links = "".join(
        f'<li><a href="#{name}">{heading}</a></li>'
        for name, (heading, parts) in sections.items()
        if parts
    )
    going = [run.name for run in runs if run.result is None]
    parts = [
        methods.headline(groups, summaries),
        *(f"<p>{text(note)}</p>" for note in notes),
        f'<p class="note">Not ended yet: {text(", ".join(going))}.</p>' if going else "",
        f'<nav aria-label="Parts of the page"><ul>{links}</ul></nav>' if links else "",
        *(section(name, heading, parts) for name, (heading, parts) in sections.items()),
    ]
    content = _whole(title, "".join(parts), reloads if going else 0).encode()
    write_whole(path, lambda file: file.write(content))


def _sections(
    groups: Sequence[Group], summaries: Sequence[Summary], evaluations: Sequence[Evaluation]
) -> dict[str, tuple[str, list[str]]]:
    """Returns the heading and the content of each section by its name; some are empty."""
    runs = [run for group in groups for run in group.runs]
    found = answers.answered(groups)
    return {
        "methods": ("Methods", methods.methods_table(groups, summaries, colours_of(groups))),
        "curves": ("Learning curves", pictures.learning_curves(groups)),
        "losses": ("Terms of the loss", pictures.loss_terms(groups)),
        "course": ("Course of the matching", pictures.matching_course(groups)),
        "matchings": ("Matchings", pictures.matchings(groups)),
        "gallery": ("Feature maps", galleries(groups)),
        "boxes": ("Boxes", boxes.box_pictures(groups)),
        "confusions": ("Worst confusions", answers.worst_confusions(found)),
        "worst": ("Worst images", answers.worst_images(found)),
        "disagreements": ("Where student and teacher disagree", answers.where_they_disagree(found)),
        "evaluations": ("Evaluations", _evaluations(evaluations)),
        "background": ("How the runs were made", _background(runs)),
    }


def _whole(title: str, body: str, reloads: int) -> str:
    again = f'<meta http-equiv="refresh" content="{reloads}">' if reloads else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"{again}<title>{text(title)}</title><style>{STYLE}</style></head><body><main>"
        f"<header><h1>{text(title)}</h1>"
        '<button type="button" id="theme" hidden>light / dark</button></header>'
        f"{body}</main><script>{SCRIPT}</script></body></html>"
    )


def _background(runs: Sequence[Run]) -> list[str]:
    if not runs:
        return []
    parts = []
    if speed := background.speed_table(runs):
        parts.append(details("<h3>Throughput</h3>", speed))
    if options := background.differing_options(runs):
        parts.append(details("<h3>Options that differ</h3>", options))
    if machines := environment.machines(runs):
        parts.append(machines)
    return [*parts, details("<h3>Each run</h3>", background.each_run(runs))]


def _evaluations(evaluations: Sequence[Evaluation]) -> list[str]:
    rows = [row for each in evaluations for row in _rows(each)]
    return [table(_MEASURED, rows, "Evaluations", "wide")] if rows else []


def _rows(evaluation: Evaluation) -> list[tuple[str | Cell, ...]]:
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
