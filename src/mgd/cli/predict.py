"""`mgd predict`: the most likely classes of images, or the boxes on them."""

import argparse
import inspect
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mgd.cli.parser import Parser, add_option
from mgd.cli.predictions import Answers, BoxAnswers, ClassAnswers
from mgd.cli.report import check_output
from mgd.data import find_images
from mgd.engine.detection.detectors import detector_metadata
from mgd.engine.detection.finding import find_boxes
from mgd.engine.options.config import OPTIONS, DataConfig
from mgd.engine.predict import predict as run_prediction
from mgd.errors import InputError
from mgd.runfolder import write_whole

_CLASSES, _LEAST_SCORE = 5, 0.3
_OPTIONS = {
    "batch_size": "images at a time (default: 64)",
    "workers": "processes that read images (default: 0)",
    "bit_depth": "bits of the grey values in 16-bit files, 8 to 16 (default: auto)",
}
_EXAMPLE = """example:
  mgd predict holiday/*.jpg --model runs/first --format csv -o found.csv"""


def predict(arguments: Sequence[str]) -> None:
    """Names the most likely classes of images, or finds boxes with a detector.

    A class has its probability. A box has its class, its score, and its left,
    top, right and bottom edge in pixels.
    """
    parser = Parser(
        prog="mgd predict",
        usage="mgd predict IMAGES... --model RUN|FILE [options]",
        description=inspect.getdoc(predict),
        epilog=_EXAMPLE,
    )
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="files, folders or patterns")
    parser.add_argument(
        "--model",
        "-m",
        required=True,
        metavar="RUN|FILE",
        help="run folder, or a file: .safetensors, .ckpt, .pth, .onnx, .pt2; loading a .pt2 can "
        "run code in it: use none of a stranger's",
    )
    parser.add_argument("--arch", default="", metavar="NAME", help="where the file names none")
    parser.add_argument(
        "--top-k",
        "-k",
        type=int,
        metavar="N",
        help=f"classes an image (default: {_CLASSES}), or boxes at most (default: all)",
    )
    parser.add_argument(
        "--least-score",
        type=float,
        metavar="SHARE",
        help="boxes of which a detector is less sure are left out, from 0 to 1 (default: "
        f"{_LEAST_SCORE})",
    )
    parser.add_argument(
        "--format", choices=("table", "csv", "json"), default="table", help="(default: table)"
    )
    parser.add_argument("--output", "-o", metavar="FILE", help="default: the terminal")
    for name, text in _OPTIONS.items():
        add_option(parser, OPTIONS[name], text)
    given = parser.parse_args(arguments)
    if given.top_k is not None and given.top_k < 1:
        parser.error(f"--top-k {given.top_k} must be at least 1")
    if given.least_score is not None and not 0 <= given.least_score <= 1:
        parser.error(f"--least-score {given.least_score:g} must be from 0 to 1")
    options = {name: value for name, value in vars(given).items() if name in _OPTIONS}
    data = DataConfig(**{"batch_size": 64, "workers": 0, **options})
    if given.output:
        check_output(Path(given.output))
    _write(_answers(given, data), given.format, given.output)


def _answers(given: argparse.Namespace, data: DataConfig) -> Answers[Any]:
    """Runs what the file is of, a detector or a network that names classes."""
    files = find_images(given.images)
    shared: dict[str, Any] = {
        "batch_size": data.batch_size,
        "workers": data.workers,
        "bit_depth": data.bit_depth,
    }
    if detector_metadata(given.model) is not None:
        if given.arch:
            raise InputError(f"`arch` is not needed: '{given.model}' tells which detector it is of")
        least = _LEAST_SCORE if given.least_score is None else given.least_score
        boxes = find_boxes(files, given.model, least_score=least, most=given.top_k, **shared)
        return BoxAnswers(list(boxes))
    if given.least_score is not None:
        raise InputError(f"--least-score is for detectors, and '{given.model}' names classes")
    top_k = _CLASSES if given.top_k is None else given.top_k
    return ClassAnswers(list(run_prediction(files, given.model, given.arch, top_k=top_k, **shared)))


def _write(answers: Answers[Any], kind: str, output: str | None) -> None:
    text = {"table": answers.as_table, "csv": answers.as_csv, "json": answers.as_json}[kind]
    # A file's name may not be UTF-8: it keeps its bytes.
    if output:
        content = text().encode(errors="surrogateescape")
        write_whole(Path(output), lambda file: file.write(content))
        print(output)
    elif kind == "table":
        is_terminal = sys.stdout.isatty()
        columns = shutil.get_terminal_size().columns if is_terminal else sys.maxsize
        print(answers.as_table(columns), end="")
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(text().encode(errors="surrogateescape"))
        sys.stdout.buffer.flush()
