"""`mgd predict`: the most likely classes of images."""

import csv
import io
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from mgd.cli.lines import printable
from mgd.cli.parser import Parser, add_option
from mgd.cli.report import check_output
from mgd.data import find_images
from mgd.engine.options.config import OPTIONS, DataConfig
from mgd.engine.predict import Prediction
from mgd.engine.predict import predict as run_prediction
from mgd.runfolder import write_whole

_LEAST = 40
"""Columns that classes need beside the name of their image."""
_OPTIONS = {
    "batch_size": "images at a time (default: 64)",
    "workers": "processes that read images (default: 0)",
    "bit_depth": "bits of the grey values in 16-bit files, 8 to 16 (default: auto)",
}
_EXAMPLE = """example:
  mgd predict holiday/*.jpg --model runs/first --format csv -o found.csv"""


def predict(arguments: Sequence[str]) -> None:
    """Names the most likely classes of images, with their probabilities."""
    parser = Parser(
        prog="mgd predict",
        usage="mgd predict IMAGES... --model RUN|FILE [options]",
        description=(predict.__doc__ or "").strip(),
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
        "--top-k", "-k", type=int, default=5, metavar="N", help="classes an image (default: 5)"
    )
    parser.add_argument(
        "--format", choices=("table", "csv", "json"), default="table", help="(default: table)"
    )
    parser.add_argument("--output", "-o", metavar="FILE", help="default: the terminal")
    for name, text in _OPTIONS.items():
        add_option(parser, OPTIONS[name], text)
    given = parser.parse_args(arguments)
    if given.top_k < 1:
        parser.error(f"--top-k {given.top_k} must be at least 1")
    options = {name: value for name, value in vars(given).items() if name in _OPTIONS}
    data = DataConfig(**{"batch_size": 64, "workers": 0, **options})
    if given.output:
        check_output(Path(given.output))
    predictions = run_prediction(
        find_images(given.images),
        given.model,
        given.arch,
        top_k=given.top_k,
        batch_size=data.batch_size,
        workers=data.workers,
        bit_depth=data.bit_depth,
    )
    _write(list(predictions), given.format, given.output)


def _write(predictions: Sequence[Prediction], kind: str, output: str | None) -> None:
    text = {"table": _as_table, "csv": _as_csv, "json": _as_json}[kind]
    # A file's name may not be UTF-8: it keeps its bytes.
    if output:
        content = text(predictions).encode(errors="surrogateescape")
        write_whole(Path(output), lambda file: file.write(content))
        print(output)
    elif kind == "table":
        is_terminal = sys.stdout.isatty()
        columns = shutil.get_terminal_size().columns if is_terminal else sys.maxsize
        print(_as_table(predictions, columns), end="")
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(text(predictions).encode(errors="surrogateescape"))
        sys.stdout.buffer.flush()


def _as_table(predictions: Sequence[Prediction], columns: int = sys.maxsize) -> str:
    """Writes an image a line, or more where its classes do not fit beside its name."""
    names = [printable(each.image) for each in predictions]
    widest = max(map(len, names), default=0)
    is_beside = widest + _LEAST <= columns
    indent = " " * (widest + 2 if is_beside else 4)
    lines = []
    for name, each in zip(names, predictions, strict=True):
        # textwrap breaks a line at ordinary spaces alone, and leaves non-breaking ones.
        shares = (
            f"{printable(found)} {100 * share:.1f} %".replace(" ", "\xa0")
            for found, share in each.classes
        )
        start = f"{name:{widest}}  " if is_beside else indent
        classes = textwrap.wrap(
            "  ".join(shares),
            columns,
            initial_indent=start,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += classes if is_beside else [name, *classes]
    return "".join(f"{line}\n" for line in lines).replace("\xa0", " ")


def _as_csv(predictions: Sequence[Prediction]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    places = range(1, _most(predictions) + 1)
    writer.writerow(
        ["image", *(f"{what}_{n}" for n in places for what in ("class", "probability"))]
    )
    for each in predictions:
        cells = (cell for name, share in each.classes for cell in (name, f"{share:.6f}"))
        writer.writerow([each.image, *cells])
    return text.getvalue()


def _as_json(predictions: Sequence[Prediction]) -> str:
    rows = [
        {
            "image": each.image,
            "classes": [{"class": name, "probability": share} for name, share in each.classes],
        }
        for each in predictions
    ]
    return json.dumps(rows, indent=1) + "\n"


def _most(predictions: Sequence[Prediction]) -> int:
    return max((len(each.classes) for each in predictions), default=0)
