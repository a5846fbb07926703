"""Pictures of runs, as PNG bytes."""

import io
import statistics
from collections.abc import Sequence
from typing import Any

from mgd.errors import InputError
from mgd.runfolder import Run


def draw_curves(runs: Sequence[Run]) -> bytes:
    """Draws validation accuracy against the epoch, a line for each group of runs.

    The line is the mean over the group's seeds; the band reaches from the worst to the best seed.
    Each group's line ends with its shortest run.

    Raises:
        InputError: If matplotlib is not installed.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.group, []).append(run)
    colours = plt.get_cmap("tab20").colors
    for index, (group, members) in enumerate(groups.items()):
        series = [[epoch.valid_top1 for epoch in run.epochs] for run in members if run.epochs]
        epochs = list(zip(*series, strict=False))
        if not epochs:
            continue
        name = group
        numbers = [members[0].epochs[i].epoch + 1 for i in range(len(epochs))]
        if any(epoch.valid_is_agreement for epoch in members[0].epochs):
            name += " (agreement with the teacher)"
        colour = colours[index % len(colours)]
        axes.plot(numbers, [statistics.fmean(e) for e in epochs], label=plain(name), color=colour)
        axes.fill_between(
            numbers, [min(e) for e in epochs], [max(e) for e in epochs], color=colour, alpha=0.07
        )
    axes.set(xlabel="epoch", ylabel="validation accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2, loc="lower right")
    return png(figure)


def draw_matching(run: Run) -> bytes:
    """Draws which teacher channels each student channel is matched with, one panel per point.

    Raises:
        InputError: If matplotlib is not installed.
    """
    plt = _pyplot()
    figure, panels = plt.subplots(
        len(run.points),
        1,
        figsize=(9, 2.2 * len(run.points) + 0.6),
        squeeze=False,
        layout="constrained",
    )
    for point, axes in zip(run.points, panels[:, 0], strict=True):
        for group in point.matching:
            axes.scatter(
                group, range(len(group)), c=range(len(group)), cmap="tab20", marker="s", s=14
            )
        axes.set(
            xlim=(-1, point.teacher_channels),
            ylim=(len(point.matching[0]) - 0.5, -0.5),
            xlabel="teacher channel",
            ylabel="student channel",
        )
        axes.set_title(
            plain(
                f"{point.teacher} → {point.student}: distance "
                f"{point.first_cost:.2f} → {point.cost_after:.2f}"
            ),
            fontsize=9,
        )
        axes.grid(alpha=0.2)
    return png(figure)


def new_figure(width: float, height: float) -> tuple[Any, Any]:
    """Returns an empty figure of a size in inches, and its axes."""
    figure, axes = _pyplot().subplots(figsize=(width, height), layout="constrained")
    return figure, axes


def plain(text: str) -> str:
    """Keeps matplotlib from reading a `$` as mathematics and from failing on bytes of no UTF-8."""
    return text.encode(errors="replace").decode().replace("$", r"\$")


def _pyplot() -> Any:
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise InputError(
            "pictures need matplotlib; pip install 'matching-guided-distillation[report]'"
        ) from error
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def png(figure: Any) -> bytes:
    """Returns a figure as a PNG file, and closes it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    _pyplot().close(figure)
    return buffer.getvalue()
