"""Draws the pictures of docs/method-pictures.md from the features of a real distilled run.

`python -m docs.make_figures --cifar10 FOLDER --weights FOLDER` distils a small student on CIFAR-10
photographs first, and takes the published ResNet-20 as its teacher. Without these folders it takes
the digits of scikit-learn, and trains a teacher of its own. `--run FOLDER` takes a finished run
with matched channels instead, and the validation images of its data.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.evidence.plan import read_matrix
from torch import Tensor

import mgd
from mgd.cli import main as command
from mgd.data import load_splits
from mgd.engine.loop.checkpoint import load_checkpoint
from mgd.method.maps import PointMaps, point_maps
from mgd.report import curves, maps
from mgd.report.groups import group_runs
from mgd.report.theme import Colours, new_figure, to_png
from mgd.runfolder import names, read_gallery, read_run

IMAGES = 8
ROW = 0.78
"""Height of a row of pictures, in inches."""
Row = tuple[str, Any]
"""What stands beside a row, and its pictures (N, height, width, 4)."""

SHORT = ["--distiller", "mgd", "--workers", "0", "--tensorboard", "0", "--lr-schedule", "cosine"]
CIFAR10 = [
    *("--arch", "cifar_resnet20_x0_5", "--teacher", "cifar_resnet20", "--size", "32"),
    *("--train-images", "4000", "--epochs", "9", "--batch-size", "64", "--learning-rate", "0.1"),
    *("--holdout", "0.05", "--mgd-images", "500"),
]
DIGITS = ["--size", "8", "--batch-size", "32", "--learning-rate", "0.1", "--workers", "0"]


def make_run(root: Path, cifar10: str, weights: str, epochs: int = 16) -> Path:
    """Distils a small student below a folder; returns the folder of its run."""
    place = ["--output", str(root)]
    if cifar10 and weights:
        file = Path(weights) / read_matrix()["weights"]["resnet20"]["file"]
        words = ["distill", cifar10, *CIFAR10, "--teacher-resume", str(file)]
    else:
        own = ["--arch", "cifar_resnet8", "--epochs", str(epochs), "--experiment", "teacher"]
        _run(["train", "digits", *DIGITS, *own, *place])
        words = ["distill", "digits", *DIGITS, "--arch", "cifar_resnet8_x0_5"]
        words += ["--teacher-resume", str(root / "teacher"), "--epochs", str(epochs)]
    _run([*words, *SHORT, *place, "--experiment", "student"])
    return root / "student"


def _run(words: list[str]) -> None:
    if code := command(words):
        raise SystemExit(code)


class Seen:
    """What both networks of a run see on some validation images.

    Args:
        run: Folder of a finished run with matched channels.
    """

    def __init__(self, run: Path):
        record, gallery = read_run(run), read_gallery(run)
        if gallery is None or not gallery.is_whole:
            raise SystemExit(f"'{run}' has no {names.GALLERY} with maps after training")
        self.record, self.gallery = record, gallery
        options = record.options
        student, metadata = mgd.load_network(run / names.STUDENT)
        assert metadata is not None  # a run keeps it
        file = Path(options["teacher-resume"])
        file = file / names.STUDENT if file.is_dir() else file
        teacher, known = mgd.load_network(file, options["teacher"])
        valid = load_splits(options["data"], options["bit-depth"]).valid
        chosen = [(2 * n + 1) * len(valid) // (2 * IMAGES) for n in range(IMAGES)]
        view = metadata.view
        images = torch.stack([view.transform()(valid.image(index)) for index in chosen])
        self.pictures = images.permute(0, 2, 3, 1).numpy()
        pairs = [(each.teacher, each.student) for each in record.points]
        with mgd.Distiller(
            *(teacher, student, images, pairs),
            reducer=options["mgd-reducer"],
            teacher_view=known.view if known else view,
            student_view=view,
        ) as distiller:
            state = load_checkpoint(run / names.BEST_CHECKPOINT)
            distiller.points.load_state_dict(state["distiller"])
            self.points: list[PointMaps] = point_maps(distiller, images)

    def distances(self, point: PointMaps) -> Tensor:
        """Returns the channel distances (S, T) of the last update of the matching."""
        return point.point.matcher.compute()

    def shown(self, point: PointMaps) -> int:
        """Returns the student channel of a point that the run's gallery shows first."""
        tap = str(point.point.pair.student)
        return next(each.channel for each in self.gallery.channels if each.student == tap)

    def layer(self, point: PointMaps) -> str:
        """Returns the name of a point in the pictures."""
        number = self.points.index(point) + 1
        return f"point {number} of {len(self.points)}"


def photographs(seen: Seen) -> Row:
    """Returns the row of the images themselves."""
    opaque = np.full((*seen.pictures.shape[:3], 1), 255, np.uint8)
    return "the images", np.concatenate([seen.pictures, opaque], axis=3)


def mapped(label: str, values: Tensor, limit: float | None = None) -> Row:
    """Returns a row of maps (N, height, width), in the colours of the report's gallery."""
    array = values.numpy()
    return label, maps.colours()[maps.places_of(array, limit or maps.limit_of(array))]


def draw_rows(colours: Colours, rows: Sequence[Row]) -> Any:
    """Draws rows of pictures, each with its label on the left."""
    number = len(rows[0][1])
    figure, axes = new_figure(8.2, ROW * len(rows), len(rows), number)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for line, (label, pictures) in zip(axes, rows, strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            is_map = len(picture) < 48
            axis.imshow(picture, interpolation="nearest" if is_map else "bilinear")
            axis.set(xticks=[], yticks=[])
            axis.grid(visible=False)
            for spine in axis.spines.values():
                spine.set(visible=True, color=colours["line"], linewidth=0.6)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8)
    return figure


def draw_channels(seen: Seen) -> Any:
    """Draws what two teacher channels of each point see."""
    rows = [photographs(seen)]
    for point in seen.points:
        # Whose strength differs most between the images answers to something that only some have.
        spread = point.teacher.std((2, 3)).std(0) / point.teacher.std((0, 2, 3))
        for channel in spread.topk(2).indices.tolist():
            label = f"{seen.layer(point)},\nchannel {channel}"
            rows.append(mapped(label, point.teacher[:, channel]))
    return lambda colours: draw_rows(colours, rows)


def draw_pair(seen: Seen) -> Any:
    """Draws a trained student channel beside the teacher channels that it follows."""
    point = seen.points[0]
    student, distance = seen.shown(point), seen.distances(point)
    followed = sorted(point.point.matcher.matching[:, student].unique().tolist())
    followed.sort(key=lambda channel: float(distance[student, channel]))
    farthest = int(distance[student].argmax())
    rows = [photographs(seen), mapped(f"student {student}", point.normalised()[:, student])]
    for channel in [*followed, farthest]:
        kind = "matched" if channel in followed else "farthest"
        label = f"teacher {channel},\n{kind}: {float(distance[student, channel]):.2f}"
        rows.append(mapped(label, point.teacher[:, channel]))
    return lambda colours: draw_rows(colours, rows)


def draw_matching(seen: Seen) -> Any:
    """Draws the distances of a point, in the teacher's order and in that of the matching."""
    point = seen.points[0]
    distance, matching = seen.distances(point).numpy(), point.point.matcher.matching
    ordered = list(dict.fromkeys(matching.T.flatten().tolist()))
    ordered += [channel for channel in range(distance.shape[1]) if channel not in ordered]

    def draw(colours: Colours) -> Any:
        figure, axes = new_figure(8.2, 5.6, 2)
        for axis, order, how in (
            (axes[0, 0], list(range(distance.shape[1])), "in their own order"),
            (axes[1, 0], ordered, "in the order of the student channels that follow them"),
        ):
            shown = axis.imshow(distance[:, order], cmap="viridis_r", aspect="auto")
            for student, channels in enumerate(matching.T.tolist()):
                for channel in channels:
                    place = order.index(channel) - 0.5, student - 0.5
                    _mark(axis, place, colours["paper"], 4)
                    _mark(axis, place, colours["series2"], 2)
            axis.set(ylabel="student channel", xlabel=f"teacher channel: {how}")
            axis.set_xticks(range(len(order)), order, fontsize=9)
            axis.set_yticks(range(len(distance)))
            axis.grid(visible=False)
        figure.colorbar(shown, ax=axes[:, 0], label="distance: near is light", shrink=0.6)
        return figure

    return draw


def _mark(axis: Any, place: tuple[float, float], colour: str, width: float) -> None:
    from matplotlib.patches import Rectangle

    axis.add_patch(Rectangle(place, 1, 1, fill=False, ec=colour, linewidth=width))


def draw_reducers(seen: Seen) -> Any:
    """Draws what each reducer makes of the same teacher channels."""
    # In the middle of the networks many values are below zero, where AMP and SP differ.
    point = seen.points[len(seen.points) // 2]
    student = seen.shown(point)
    followed = sorted(point.point.matcher.matching[:, student].unique().tolist())
    grouped = point.teacher[:, followed, None]  # (B, G, 1, H, W)
    limit = maps.limit_of(grouped.numpy())
    rows = [photographs(seen)]
    rows += [mapped(f"teacher {c}", point.teacher[:, c], limit) for c in followed]
    winner = grouped[:, :, 0].abs().argmax(1).numpy()
    rows.append(("where each\nis stronger", _winners(winner)))
    torch.manual_seed(0)  # random drop draws
    for name, label in (("amp", "AMP"), ("sp", "SP: maximum"), ("rd", "RD: at random")):
        rows.append(mapped(label, mgd.REDUCERS[name].features(grouped)[:, 0], limit))
    return lambda colours: draw_rows(colours, rows)


def _winners(winner: Any) -> Any:
    """Colours each position by the number of the teacher channel that is stronger there."""
    palette = np.array(
        [[90, 100, 112, 255], [225, 196, 90, 255], [106, 81, 178, 255], [0, 128, 92, 255]], np.uint8
    )
    return palette[winner % len(palette)]


def draw_changes(seen: Seen) -> Any:
    """Draws how the matching changed while the student was trained."""
    groups = group_runs([seen.record])
    costs = curves.curves_of(groups, lambda record: record.matching_cost)
    churns = curves.curves_of(groups, lambda record: record.matching_churn)
    return lambda colours: curves.draw_costs(colours, costs, churns)


FIGURES: dict[str, Callable[[Seen], Any]] = {
    "method-channels.png": draw_channels,
    "method-pair.png": draw_pair,
    "method-matching.png": draw_matching,
    "method-reducers.png": draw_reducers,
    "method-changes.png": draw_changes,
}


@torch.no_grad()
def draw_all(run: Path, folder: Path) -> None:
    """Draws every figure of a run into a folder."""
    seen = Seen(run)
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        (folder / name).write_bytes(to_png(draw(seen)))


def main() -> None:
    """Makes a run, unless one is given, and draws the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cifar10", default="", help="folder with train and valid")
    parser.add_argument("--weights", default="", help="folder with given weights files")
    parser.add_argument("--run", type=Path, help="folder of a finished run to take instead")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="where to draw")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        draw_all(given.run or make_run(Path(root), given.cifar10, given.weights), given.out)


if __name__ == "__main__":
    main()
