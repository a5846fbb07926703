"""`mgd export`: writes a trained network, and keeps the file if it answers as the network does."""

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from torch import nn

from mgd.cli.given import images_of_run, words
from mgd.cli.parser import Parser, add_option
from mgd.cli.progress import passing_bar
from mgd.cli.proof_table import proof_lines
from mgd.cli.report import check_output
from mgd.engine.card import card_of_file, is_card
from mgd.engine.detection.detectors import detector_metadata, load_detector
from mgd.engine.export import (
    Images,
    check_difference,
    check_int8,
    images_of,
    prove,
    write_network,
)
from mgd.engine.options.config import OPTIONS, RunConfig
from mgd.engine.options.export import ExportConfig
from mgd.engine.options.option import options_of
from mgd.engine.tasks.trained import file_of, load_trained
from mgd.errors import InputError
from mgd.models import FORMATS, Format, Metadata, assume_metadata, is_exported, quantise_onnx
from mgd.models.metadata import beside, is_metadata
from mgd.runfolder import is_run, names, write_whole

_EXAMPLE = """examples:
  mgd export runs/first -o first.onnx
  mgd export runs/first --int8 -o small.onnx"""
_DESCRIPTION = """Writes a trained network for deployment, with its classes and its view of the
images. The written file is run on validation images, and kept if it answers as
the network does in PyTorch."""
_OF_BEST_EPOCH = (names.STUDENT, names.BEST_CHECKPOINT)
"""The files whose weights the model card of a run describes."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is exported, and where to."""

    source: Path
    """The file of weights."""
    arch: str
    """The network, where the file does not tell it."""
    path: Path
    """The file to write."""
    kind: Format
    config: ExportConfig


def export(arguments: Sequence[str]) -> None:
    """Writes a trained network for deployment, and proves the file on real images."""
    given = vars(_parser().parse_args(arguments))
    options = {item.name for item in options_of(ExportConfig)} & set(given)
    config = ExportConfig(**{name: given[name] for name in options})
    _check(config, options)
    source = file_of(Path(given["run"]))
    if is_exported(source):
        raise InputError(f"'{source}' is exported already; give its run folder or weights")
    if (detector := detector_metadata(source)) is not None:
        print("\n".join(_export_detector(source, detector.arch, given, config)))
        return
    path, kind = _target(source, given["output"], given["format"], config.int8)
    job = _Job(source=source, arch=given["arch"], path=path, kind=kind, config=config)
    network, metadata = load_trained(source, job.arch)
    metadata = metadata or assume_metadata(job.arch, source)
    print("\n".join(_make(job, network.cpu(), metadata, *_images(job, metadata))))


def _export_detector(
    source: Path, arch: str, given: dict[str, Any], config: ExportConfig
) -> list[str]:
    """Writes the weights of a detector; returns what to print.

    Raises:
        InputError: For a format of whole programs.
    """
    suffix = Path(given["output"] or "").suffix[1:]
    asked = given["format"] or suffix or "safetensors"
    if asked not in ("safetensors", "pth") or config.int8:
        raise InputError(
            f"a detector ({arch}) cannot be written as {'int8' if config.int8 else asked}: the "
            "programs that mgd export writes return scores of classes, and no boxes; give "
            "--format safetensors or pth, and load the weights into the same network"
        )
    name = given["output"] or str(source.with_suffix(f".{asked}"))
    if Path(name) == source:
        return [f"'{source}' holds the weights already"]
    path, kind = _target(source, name, given["format"], False)
    detector = load_detector(source)
    with TemporaryDirectory() as folder:
        written = write_network(detector.network, detector.metadata, Path(folder, path.name), kind)
        for each in written:
            write_whole(path.with_name(each.name), partial(_copy, each))
    files = [str(path.with_name(each.name)) for each in written]
    return ["nothing was proven: the file holds weights alone", *files]


def _parser() -> Parser:
    parser = Parser(prog="mgd export", description=_DESCRIPTION, epilog=_EXAMPLE)
    parser.add_argument(
        "run", metavar="RUN|FILE", help="run folder, whose best student is taken; or a file"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="safetensors, pth: the weights; pt2: torch.export program, any batch size; onnx: "
        "needs the packages onnx and onnxscript (default: that of --output, else pt2, and onnx "
        "with --int8)",
    )
    parser.add_argument("--arch", default="", help="network; needed where it is code")
    parser.add_argument(
        "-o",
        "--output",
        help="file; default: student.FORMAT, or student-int8.onnx, in the run folder or beside "
        "the file",
    )
    for item in options_of(ExportConfig):
        has_default = item.default not in ("", False)
        add_option(parser, item, item.text + f" (default: {item.default})" * has_default)
    return parser


def _check(config: ExportConfig, given: Collection[str]) -> None:
    """Checks that no flag is without effect."""
    idle = {"tolerance": "with --int8"} if config.int8 else {}
    if not config.int8:
        idle = dict.fromkeys(("calibration_images", "least_agreement"), "without --int8")
    if config.no_proof:
        unused = ("images", "tolerance", "least_agreement", *(() if config.int8 else ("data",)))
        idle |= dict.fromkeys(unused, "with --no-proof")
    for name in sorted(idle.keys() & set(given)):
        raise InputError(f"--{name.replace('_', '-')} has no effect {idle[name]}; leave it out")


def _target(file: Path, output: str | None, kind: Format | None, int8: bool) -> tuple[Path, Format]:
    """Returns where to export a file of weights to, and the format.

    Raises:
        InputError: If that is no place for it, or would replace what the user did not name.
    """
    suffix = Path(output or "").suffix[1:]
    named = next((each for each in FORMATS if each == suffix), None)
    kind = kind or named or ("onnx" if int8 else "pt2")
    if int8 and kind != "onnx":
        raise InputError(f"--int8 is for onnx files alone; give --format onnx, not {kind}")
    if output and suffix != kind and (kind != "pth" or suffix in (*FORMATS, "json")):
        raise InputError(
            f"--output {output}: readers know a {kind} file by its name; let it end in .{kind}, or "
            "choose another --format"
        )
    default = file.with_name(f"{file.stem}-int8.onnx") if int8 else file.with_suffix(f".{kind}")
    path = Path(output) if output else default
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
    card = _card_beside(file, path)
    if card is not None and card.exists() and not is_card(card):
        raise InputError(
            f"'{card}', where the model card belongs, is another file; give another --output"
        )
    return path, kind


def _card_beside(file: Path, path: Path) -> Path | None:
    """Returns where the card of a run goes; None where there is none, or where it lies already."""
    has_card = file.name in _OF_BEST_EPOCH and (file.parent / names.CARD).is_file()
    if not has_card or not is_run(file.parent) or path.parent.samefile(file.parent):
        return None
    return path.with_name(f"{path.name}.md")


def _images(job: _Job, metadata: Metadata) -> tuple[Images | None, Images | None]:
    """Returns the images to prove on and those to calibrate with, as far as they are needed.

    A file outside a run folder names no images: it is proven where --data gives some.
    """
    config = job.config
    if config.no_proof and not config.int8:
        return None, None
    use = "calibrate --int8" if config.no_proof else "prove the file"
    instead = "leave out --int8" if config.int8 else "write it unproven with --no-proof"
    numbers = (0 if config.no_proof else config.images, config.calibration_images * config.int8)
    try:
        run = _run_config(job.source, config.data)
        if run is None and not config.int8:
            return None, None
        if run is None:
            raise InputError(f"'{job.source}' lies in no run folder, and names no data")
        valid, train = images_of(run, metadata.classes, metadata.view, *numbers)
    except InputError as error:
        raise InputError(
            f"no images to {use} on: {error}; name their folder with --data DIR, or {instead}"
        ) from error
    return (valid if len(valid) else None), (train if len(train) else None)


def _run_config(file: Path, data: str) -> RunConfig | None:
    """Returns the options that say which images a file's network was chosen on."""
    values = images_of_run(file) if is_run(file.parent) else {}
    parser = Parser("mgd export")
    for name in values:
        add_option(parser, OPTIONS[name], "")
    source = data or str(values.get("data", ""))
    values = vars(parser.parse_args([*words(values)]))
    # Which of the training images a run took does not matter here.
    values.pop("train_images", None)
    if values.get("label_free"):  # which only runs with a teacher are
        values["distiller"] = "kd"
    return RunConfig().replace(**{**values, "data": source}) if source else None


def _make(
    job: _Job, network: nn.Module, metadata: Metadata, valid: Images | None, train: Images | None
) -> list[str]:
    """Writes the files elsewhere, proves them, and puts them in place; returns what to print."""
    path, config = job.path, job.config
    with TemporaryDirectory() as folder:
        made = Path(folder, path.name)
        if train is None:
            written = write_network(network, metadata, made, job.kind)
            tried = [made]
        else:
            float32 = Path(folder, "float32", "float32.onnx")
            float32.parent.mkdir()
            write_network(network, metadata, float32, job.kind)
            quantise_onnx(float32, passing_bar("calibrating")(train, train.batches), made)
            written, tried = [made], [float32, made]
        lines = [_unproven(job)]
        if valid is not None:
            try:
                watch = passing_bar("proving")
                proof = prove(network, job.source, tried, valid, job.arch, watch=watch)
            except InputError as error:  # of a file that lies there for a moment alone
                raise InputError(str(error).replace(str(made), str(path))) from error
            if config.int8:
                check_int8(proof, path, config.least_agreement)
            else:
                check_difference(proof, path, config.tolerance)
            lines = list(proof_lines(proof))
        for each in written:
            write_whole(path.with_name(each.name), partial(_copy, each))
    files = [path.with_name(each.name) for each in written]
    if (card := _card_beside(job.source, path)) is not None:
        text = card_of_file(job.source.parent, path.name, lines)
        write_whole(card, lambda target: target.write(text.encode()))
        files.append(card)
    return [*lines, *map(str, files)]


def _copy(source: Path, target: BinaryIO) -> None:
    with source.open("rb") as content:
        shutil.copyfileobj(content, target)


def _unproven(job: _Job) -> str:
    if job.config.no_proof:
        return "nothing was proven, since --no-proof was given"
    return (
        f"nothing was proven: '{job.source}' lies in no run folder, and names no images; --data "
        "DIR does"
    )
