"""The commands for after a run: report and export."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from mgd.cli.parser import Parser, is_code
from mgd.errors import InputError
from mgd.models import load_trained
from mgd.report import write_report
from mgd.runfolder import names, read_run, write_whole


def report(arguments: Sequence[str]) -> None:
    """Draws the table, curves and matchings of run folders into one HTML page."""
    parser = Parser(prog="mgd report", description=(report.__doc__ or "").strip())
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders")
    parser.add_argument(
        "-o", "--output", help=f"the page; default: {names.REPORT} in the run, or beside several"
    )
    given = parser.parse_args(arguments)
    runs = [read_run(folder) for folder in given.runs]
    home = runs[0].folder if len(runs) == 1 else runs[0].folder.parent
    path = Path(given.output) if given.output else home / names.REPORT
    _check_file(path)
    write_report(runs, path, f"Runs: {', '.join(run.name for run in runs)}")
    print(path)


def export(arguments: Sequence[str]) -> None:
    """Writes a run's student for deployment."""
    parser = Parser(prog="mgd export", description=(export.__doc__ or "").strip())
    parser.add_argument("run", metavar="RUN", help="run folder")
    parser.add_argument(
        "--format",
        choices=("pth", "pt2", "onnx"),
        default="pt2",
        help="pth: state dict; pt2: torch.export program, any batch size; onnx: needs the "
        "packages onnx and onnxscript (default: pt2)",
    )
    parser.add_argument("--arch", help="network; needed where the run's is package.module:callable")
    parser.add_argument("-o", "--output", help="file; default: student.FORMAT in the run folder")
    given = parser.parse_args(arguments)
    run = read_run(given.run)
    path = Path(given.output or run.folder / f"student.{given.format}")
    _check_file(path)
    arch = given.arch or str(run.options["arch"])
    if not given.arch and is_code(arch):
        raise InputError(f"the run's network '{arch}' is code; name it with --arch to run it")
    student = load_trained(arch, str(run.folder / names.STUDENT))
    _write(student.eval(), path, given.format, int(run.options["size"]))
    print(path)


def _check_file(path: Path) -> None:
    if not path.parent.is_dir():
        raise InputError(f"--output {path}: the folder '{path.parent}' does not exist; make it")
    if path.is_dir():
        raise InputError(f"--output {path} is a folder; name a file")


def _write(student: nn.Module, path: Path, kind: str, size: int) -> None:
    if kind == "pth":
        write_whole(path, lambda file: torch.save(student.state_dict(), file))
        return
    example = (torch.zeros(2, 3, size, size),)
    # torch 2.6 proves no batch without a largest one.
    batch = {0: torch.export.Dim("batch", max=2**31)}
    if kind == "pt2":
        program = torch.export.export(student, example, dynamic_shapes=(batch,))
        write_whole(path, lambda file: torch.export.save(program, file))
        return
    try:
        torch.onnx.export(student, example, str(path), dynamo=True, dynamic_shapes=(batch,))
    except ImportError as error:
        raise InputError(
            f"--format onnx: {error}; pip install onnx onnxscript, or use --format pt2"
        ) from error
