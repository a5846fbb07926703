"""`mgd compare`: what networks cost and how accurate they are, side by side."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch

from mgd.cli.compare_entries import Entry, find_entries
from mgd.cli.compare_table import comparison_lines
from mgd.cli.parser import Parser
from mgd.cli.progress import passing_bar
from mgd.engine.compare import Candidate, build_candidate, load_candidate, measure_costs
from mgd.errors import InputError, import_extra
from mgd.models import is_code
from mgd.report.comparison import draw_comparison
from mgd.runfolder import ComparedNetwork, Comparison, names, write_comparison, write_whole

logger = logging.getLogger(__name__)

_EXAMPLE = """example:
  mgd compare runs/teacher runs/student-seed* -o compared
  mgd compare resnet50 mobilenet_v2 timm:mobilenetv3_small_100"""


def compare(arguments: Sequence[str]) -> None:
    """Compares networks: parameters, multiply-adds, file size, latency, accuracy."""
    given = _parser().parse_args(arguments)
    for name in ("rounds", "threads"):
        if getattr(given, name) is not None and getattr(given, name) < 1:
            raise InputError(f"--{name} {getattr(given, name)} must be at least 1")
    if given.classes < 0:
        raise InputError(f"--classes {given.classes} must be at least 1, or 0 for the default")
    device = _device(given.device)
    folder = _folder(given.output)
    with _threads(given.threads):
        entries = find_entries(given.networks)
        found = _measure(entries, given, device)
        comparison = Comparison(
            networks=found,
            device=_name_of(device),
            threads=torch.get_num_threads(),
            rounds=given.rounds,
            torch=torch.__version__,
        )
    print("\n".join(comparison_lines(comparison)))
    if folder is not None:
        _write(folder, comparison)


def _parser() -> Parser:
    parser = Parser(
        prog="mgd compare",
        usage="mgd compare RUN|FILE|NAME... [options]",
        description=(compare.__doc__ or "").strip(),
        epilog=_EXAMPLE,
    )
    parser.add_argument(
        "networks",
        nargs="+",
        metavar="RUN|FILE|NAME",
        help="run folders, with which their teachers come; files of weights or exported networks "
        "(loading a .pt2 can run code in it: use none of a stranger's); names of networks",
    )
    parser.add_argument(
        "--arch", default="", metavar="NAME", help="network of the files that name none"
    )
    parser.add_argument(
        "--classes",
        type=int,
        default=0,
        metavar="N",
        help="classes of networks by name (default: as the first run or file, else as published, "
        "else 1000)",
    )
    parser.add_argument(
        "--rounds", type=int, default=10, metavar="N", help="times to time each (default: 10)"
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads on the CPU (default: torch's own number)"
    )
    parser.add_argument(
        "--device", default="cpu", metavar="NAME", help="cpu, cuda or cuda:N (default: cpu)"
    )
    parser.add_argument(
        "--output",
        "-o",
        metavar="FOLDER",
        help=f"where to write {names.COMPARISON}, {names.COMPARISON_TABLE} and a picture, light "
        "and dark; default: the terminal alone",
    )
    return parser


def _device(name: str) -> torch.device:
    """Returns the device of a name.

    Raises:
        InputError: If it is not there.
    """
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()) or name == "cpu:":
        raise InputError(f"--device {name} is unknown; give cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device {name} is not there: PyTorch sees {torch.cuda.device_count()} CUDA GPUs; "
            "give cpu, or check CUDA_VISIBLE_DEVICES and the driver"
        )
    return torch.device(name)


def _name_of(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)


def _folder(output: str | None) -> Path | None:
    """Makes the output's folder before the work, which would be lost if it could not be made."""
    if not output:
        return None
    import_extra("matplotlib", "report", "the picture of --output")
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {output} cannot be made ({error}); name another") from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"--output {output} cannot be written to; name another folder")
    return folder


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _measure(entries: Sequence[Entry], given: Any, device: torch.device) -> list[ComparedNetwork]:
    """Loads the networks and measures them."""
    loaded = _load(entries, given.arch, given.classes)
    found = measure_costs(
        list(loaded.values()),
        rounds=given.rounds,
        device=device,
        watch=passing_bar("timing in rounds"),
    )
    costs = dict(zip(loaded, found, strict=True))
    return [
        entry.compared(costs.get(entry.name), loaded[entry.name].classifier.name)
        if entry.name in loaded
        else entry.compared(None, "")
        for entry in entries
    ]


def _load(entries: Sequence[Entry], arch: str, num_classes: int) -> dict[str, Candidate]:
    """Loads networks by the names of their entries: files first, which tell how many classes.

    A teacher that only a run names, and that cannot be had, is left out with a warning.
    """
    loaded: dict[str, Candidate] = {}
    for entry in sorted(entries, key=lambda entry: entry.file is None):
        try:
            if entry.file is not None:
                candidate = load_candidate(
                    entry.file, arch if entry.is_given else entry.arch, entry.size
                )
                num_classes = num_classes or candidate.classes
            elif entry.is_given or not is_code(entry.arch):
                candidate = build_candidate(entry.arch, num_classes or entry.classes, entry.size)
            else:
                raise InputError("a run does not say which code to run; give it by name as well")
        except InputError as error:
            if entry.is_given:
                raise
            logger.warning("%s is not measured: %s", entry.name, error)
            continue
        loaded[entry.name] = candidate
    return {entry.name: loaded[entry.name] for entry in entries if entry.name in loaded}


def _write(folder: Path, comparison: Comparison) -> None:
    for path in write_comparison(folder, comparison):
        print(path)
    pictures = draw_comparison(comparison.networks)
    for name, content in zip(names.COMPARISON_PICTURES, pictures, strict=False):
        write_whole(folder / name, partial(_put, content))
        print(folder / name)
    if not pictures:
        print("no picture: no network has an accuracy, which runs alone know")


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)
