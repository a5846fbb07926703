"""The commands for after a run: report and export."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from mgd.cli.follow import follow
from mgd.cli.parser import Parser
from mgd.engine.loop.checkpoint import save_weights
from mgd.engine.tasks.trained import file_of, load_trained
from mgd.errors import InputError
from mgd.inside import logits_of
from mgd.models import (
    FORMATS,
    Metadata,
    assume_metadata,
    is_exported,
    to_onnx,
    to_pt2,
)
from mgd.models.metadata import beside, is_metadata
from mgd.report import write_report
from mgd.runfolder import (
    Run,
    is_evaluation,
    is_run,
    names,
    read_evaluation,
    read_run,
    write_whole,
)

logger = logging.getLogger(__name__)


def report(arguments: Sequence[str]) -> None:
    """Draws the table, curves and matchings of run folders into one HTML page."""
    parser = Parser(prog="mgd report", description=(report.__doc__ or "").strip())
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="run folders, and folders of evaluations"
    )
    parser.add_argument(
        "-o", "--output", help=f"the page; default: {names.REPORT} in the run, or beside several"
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="draw the page again with each epoch until the runs have ended; it reloads by itself",
    )
    given = parser.parse_args(arguments)
    # The page of an earlier time, which `runs/*` names as well, is no run.
    folders = [Path(folder) for folder in given.runs if Path(folder).name != names.REPORT]
    begun = [each for each in folders if is_run(each) and not (each / names.SUMMARY).exists()]
    if given.follow:  # which waits for the first epoch
        begun = []
    folders = [each for each in folders if each not in begun]
    if not folders:
        raise InputError(f"{', '.join(given.runs)}: no run with a finished epoch; give run folders")
    for folder in begun:
        logger.warning("'%s' has no finished epoch; left out", folder)
    home = folders[0] if len(folders) == 1 else folders[0].parent
    path = Path(given.output) if given.output else home / names.REPORT
    named = [folder.name for folder in folders]
    title = ", ".join(named) if len(named) < 4 else f"{named[0]} and {len(named) - 1} more"

    def draw(reloads: int) -> list[Run]:
        evaluations = [read_evaluation(folder) for folder in folders if is_evaluation(folder)]
        runs = [read_run(folder) for folder in folders if not is_evaluation(folder)]
        check_output(path)
        write_report(runs, path, f"Runs: {title}", evaluations=evaluations, reloads=reloads)
        return runs

    if given.follow:
        follow(folders, path, draw)
    else:
        draw(0)
        print(path)


def export(arguments: Sequence[str]) -> None:
    """Writes a trained network for deployment, with its classes and its view of the images."""
    parser = Parser(prog="mgd export", description=(export.__doc__ or "").strip())
    parser.add_argument(
        "run", metavar="RUN|FILE", help="run folder, whose best student is taken; or a file"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="safetensors, pth: the weights; pt2: torch.export program, any batch size; onnx: "
        "needs the packages onnx and onnxscript (default: that of --output, else pt2)",
    )
    parser.add_argument("--arch", default="", help="network; needed where it is code")
    parser.add_argument(
        "-o", "--output", help="file; default: student.FORMAT in the run folder, or beside the file"
    )
    given = parser.parse_args(arguments)
    file = file_of(Path(given.run))
    if is_exported(file):
        raise InputError(f"'{file}' is exported already; give its run folder or weights")
    path, kind = _target(file, given.output, given.format)
    network, metadata = load_trained(file, given.arch)
    metadata = metadata or assume_metadata(given.arch, file)
    for written in _write(network.cpu(), metadata, path, kind):
        print(written)


def _target(file: Path, output: str | None, kind: str | None) -> tuple[Path, str]:
    """Returns where to export a file of weights to, and the format.

    Raises:
        InputError: If that is no place for it, or would replace what the user did not name.
    """
    suffix = Path(output or "").suffix[1:]
    kind = kind or (suffix if suffix in FORMATS else "pt2")
    if output and suffix != kind and (kind != "pth" or suffix in (*FORMATS, "json")):
        raise InputError(
            f"--output {output}: readers know a {kind} file by its name; let it end in .{kind}, or "
            "choose another --format"
        )
    path = Path(output) if output else file.with_suffix(f".{kind}")
    check_output(path)
    if path.exists() and path.samefile(file):
        raise InputError(f"'{path}' is the file to export itself; give another --output")
    # In a run folder it is of an earlier export.
    if path.exists() and not output and not is_run(file.parent):
        raise InputError(f"'{path}' is there already; give --output {path} to replace it")
    if kind == "pth" and beside(path).exists() and not is_metadata(beside(path)):
        raise InputError(
            f"'{beside(path)}', where the classes and the view belong, is another file; give "
            "another --output"
        )
    return path, kind


def check_output(path: Path) -> None:
    """Checks that a file can be written there.

    Raises:
        InputError: If its folder is missing, or if it is a folder itself.
    """
    if not path.parent.is_dir():
        raise InputError(f"--output {path}: the folder '{path.parent}' does not exist; make it")
    if path.is_dir():
        raise InputError(f"--output {path} is a folder; name a file")


def _write(network: nn.Module, metadata: Metadata, path: Path, kind: str) -> list[Path]:
    """Writes a network, and its metadata beside it where the format cannot hold them."""
    if kind == "pth":
        text = json.dumps(metadata.to_plain(), indent=1).encode()
        write_whole(path, lambda file: torch.save(network.state_dict(), file))
        write_whole(beside(path), lambda file: file.write(text))
        return [path, beside(path)]
    if kind == "safetensors":
        save_weights(network, path, metadata)
    elif kind == "pt2":
        write_whole(path, lambda file: to_pt2(_Scores(network), metadata, file))
    else:
        write_whole(path, lambda file: to_onnx(_Scores(network), metadata, file))
    return [path]


class _Scores(nn.Module):
    """A network that returns its class scores (B, K) alone, whatever else it returns."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return logits_of(self.network(images))
