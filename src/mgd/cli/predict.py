"""`mgd predict`: the most likely classes of images."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mgd.cli.after import check_output
from mgd.cli.parser import Parser
from mgd.data import find_images
from mgd.engine.predict import Prediction
from mgd.engine.predict import predict as run_prediction
from mgd.runfolder import write_whole

_EXAMPLE = """example:
  mgd predict holiday/*.jpg --model runs/first --format csv -o answers.csv"""


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
        help="run folder, or a file: .safetensors, .ckpt, .pth, .pt2, .onnx",
    )
    parser.add_argument("--arch", default="", metavar="NAME", help="where the file names none")
    parser.add_argument(
        "--top-k", "-k", type=int, default=5, metavar="N", help="classes an image (default: 5)"
    )
    parser.add_argument(
        "--format", choices=("table", "csv", "json"), default="table", help="(default: table)"
    )
    parser.add_argument("--output", "-o", metavar="FILE", help="default: the terminal")
    parser.add_argument(
        "--batch-size", "-b", type=int, default=64, metavar="N", help="images at a time"
    )
    parser.add_argument(
        "--workers", "-j", type=int, default=0, metavar="N", help="processes that read images"
    )
    given = parser.parse_args(arguments)
    for name, least in (("top_k", 1), ("batch_size", 1), ("workers", 0)):
        if getattr(given, name) < least:
            flag = name.replace("_", "-")
            parser.error(f"--{flag} {getattr(given, name)} must be at least {least}")
    if given.output:
        check_output(Path(given.output))
    predictions = run_prediction(
        find_images(given.images),
        given.model,
        given.arch,
        top_k=given.top_k,
        batch_size=given.batch_size,
        workers=given.workers,
    )
    _write(list(predictions), given.format, given.output)


def _write(predictions: Sequence[Prediction], kind: str, output: str | None) -> None:
    if kind == "table" and not output:
        Console(width=None if sys.stdout.isatty() else 200).print(_table(predictions))
        return
    text = {"table": _as_text, "csv": _as_csv, "json": _as_json}[kind](predictions)
    if output:
        # A file's name may not be UTF-8: it keeps its bytes.
        content = text.encode(errors="surrogateescape")
        write_whole(Path(output), lambda file: file.write(content))
        print(output)
    else:
        print(text, end="")


def _table(predictions: Sequence[Prediction]) -> Table:
    table = Table("image", *(f"{place}." for place in range(1, _most(predictions) + 1)), box=None)
    for each in predictions:
        cells = (f"{name} {100 * share:.1f} %" for name, share in each.classes)
        table.add_row(each.image, *cells)
    return table


def _as_text(predictions: Sequence[Prediction]) -> str:
    console = Console(width=200, file=io.StringIO())
    with console.capture() as captured:
        console.print(_table(predictions))
    return captured.get()


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
