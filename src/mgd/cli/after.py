"""The commands for after a run: report and export."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from mgd.cli.parser import Parser
from mgd.engine.loop.checkpoint import save_weights
from mgd.errors import InputError
from mgd.models import (
    FORMATS,
    Metadata,
    assume_metadata,
    is_exported,
    load_network,
    to_onnx,
    to_pt2,
)
from mgd.models.metadata import beside
from mgd.report import write_report
from mgd.runfolder import (
    is_evaluation,
    is_run,
    names,
    read_evaluation,
    read_run,
    write_whole,
)


def report(arguments: Sequence[str]) -> None:
    """Draws the table, curves and matchings of run folders into one HTML page."""
    parser = Parser(prog="mgd report", description=(report.__doc__ or "").strip())
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="run folders, and folders of evaluations"
    )
    parser.add_argument(
        "-o", "--output", help=f"the page; default: {names.REPORT} in the run, or beside several"
    )
    given = parser.parse_args(arguments)
    # The page of an earlier time, which `runs/*` names as well, is no run.
    folders = [Path(folder) for folder in given.runs if Path(folder).name != names.REPORT]
    evaluations = [read_evaluation(folder) for folder in folders if is_evaluation(folder)]
    runs = [read_run(folder) for folder in folders if not is_evaluation(folder)]
    home = folders[0] if len(folders) == 1 else folders[0].parent
    path = Path(given.output) if given.output else home / names.REPORT
    check_output(path)
    title = ", ".join(folder.name for folder in folders)
    write_report(runs, path, f"Runs: {title}", evaluations=evaluations)
    print(path)


def export(arguments: Sequence[str]) -> None:
    """Writes a trained network for deployment, with its classes and its view of the images."""
    parser = Parser(prog="mgd export", description=(export.__doc__ or "").strip())
    parser.add_argument("run", metavar="RUN|FILE", help="run folder, or a file of weights")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="pt2",
        help="safetensors, pth: the weights; pt2: torch.export program, any batch size; onnx: "
        "needs the packages onnx and onnxscript (default: pt2)",
    )
    parser.add_argument("--arch", default="", help="network; needed where it is code")
    parser.add_argument("-o", "--output", help="file; default: student.FORMAT in the run folder")
    given = parser.parse_args(arguments)
    source = Path(given.run)
    file = source / names.STUDENT if is_run(source) else source
    if is_exported(file):
        raise InputError(f"'{file}' is exported already; give its run folder or weights")
    path = Path(given.output or file.with_name(f"student.{given.format}"))
    check_output(path)
    if path.exists() and path.samefile(file):
        raise InputError(f"--output {path} is the file to export; name another")
    network, metadata = load_network(file, given.arch)
    metadata = metadata or assume_metadata(given.arch, file)
    for written in _write(network.cpu(), metadata, path, given.format):
        print(written)


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
        write_whole(path, lambda file: to_pt2(network, metadata, file))
    else:
        write_whole(path, lambda file: to_onnx(network, metadata, file))
    return [path]
