"""`mgd export`: writes a trained network, and keeps the file if it answers as the network does."""

import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, TypeVar

from torch import nn

from mgd.cli.export_place import card_beside, target
from mgd.cli.given import images_of_run, words
from mgd.cli.parser import Parser, add_option
from mgd.cli.progress import passing_bar
from mgd.cli.proof_table import box_proof_lines, proof_lines
from mgd.engine.card import card_of_file
from mgd.engine.detection.detectors import Detector, detector_metadata, load_detector
from mgd.engine.detection.exporting import check_format, write_detector
from mgd.engine.detection.proof import BoxImages, box_images_of, check_boxes, prove_boxes
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
from mgd.runfolder import is_run, write_whole

_EXAMPLE = """examples:
  mgd export runs/first -o first.onnx
  mgd export runs/first --int8 -o small.onnx"""
_DESCRIPTION = """Writes a trained network for deployment, with its classes and its view of the
images. The written file is run on validation images, and kept if it answers as
the network does in PyTorch."""
Found = TypeVar("Found")


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
    is_of_boxes = detector_metadata(source) is not None
    default: Format = "onnx" if config.int8 or is_of_boxes else "pt2"
    path, kind = target(source, given["output"], given["format"], default, config.int8)
    job = _Job(source=source, arch=given["arch"], path=path, kind=kind, config=config)
    print("\n".join(_put(job, _detector(job) if is_of_boxes else _classifier(job))))


_Make = Callable[[Path], tuple[Sequence[Path], Iterable[str]]]
"""Writes a file at a path, and proves it; returns all files, and what to print."""


def _classifier(job: _Job) -> _Make:
    """Returns what exports a classifier."""
    network, metadata = load_trained(job.source, job.arch)
    known = metadata or assume_metadata(job.arch, job.source)
    config = job.config
    numbers = 0 if config.no_proof else config.images, config.calibration_images * config.int8

    def find(run: RunConfig) -> tuple[Images, Images]:
        return images_of(run, known.classes, known.view, *numbers)

    valid, train = _images(job, find) or (None, None)
    return partial(_make, job, network.cpu(), known, valid or None, train or None)


def _detector(job: _Job) -> _Make:
    """Returns what exports a detector."""
    detector = load_detector(job.source, job.arch)
    check_format(detector.name, job.kind, job.config.int8)
    images = _images(job, lambda run: box_images_of(run, job.config.images))
    return partial(_make_detector, job, detector, images)


def _parser() -> Parser:
    parser = Parser(prog="mgd export", description=_DESCRIPTION, epilog=_EXAMPLE)
    parser.add_argument(
        "run", metavar="RUN|FILE", help="run folder, whose best student is taken; or a file"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="safetensors, pth: the weights; pt2: torch.export program, any batch size; onnx: "
        "needs the packages onnx and onnxscript; of a detector a program from one image to its "
        "boxes (default: that of --output, else pt2, and onnx with --int8 and of a detector)",
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


def _images(job: _Job, find: Callable[[RunConfig], Found]) -> Found | None:
    """Returns the images to prove on and those to calibrate with, if some are needed.

    A file outside a run folder names no images: it is proven where --data gives some.

    Args:
        job: What is exported.
        find: Finds the images, for the options of a run.
    """
    config = job.config
    if config.no_proof and not config.int8:
        return None
    use = "calibrate --int8" if config.no_proof else "prove the file"
    instead = "leave out --int8" if config.int8 else "write it unproven with --no-proof"
    try:
        run = _run_config(job.source, config.data)
        if run is None and not config.int8:
            return None
        if run is None:
            raise InputError(f"'{job.source}' lies in no run folder, and names no data")
        return find(run)
    except InputError as error:
        raise InputError(
            f"no images to {use} on: {error}; name their folder with --data DIR, or {instead}"
        ) from error


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


def _put(job: _Job, make: _Make) -> list[str]:
    """Makes the files elsewhere, and puts them in place; returns what to print."""
    path = job.path
    with TemporaryDirectory() as folder:
        made = Path(folder, path.name)
        try:
            written, found = make(made)
        except InputError as error:  # of a file that lies there for a moment alone
            raise InputError(str(error).replace(str(made), str(path))) from error
        for each in written:
            write_whole(path.with_name(each.name), partial(_copy, each))
    lines = list(found) or [_unproven(job)]
    files = [path.with_name(each.name) for each in written]
    if (card := card_beside(job.source, path)) is not None:
        text = card_of_file(job.source.parent, path.name, lines)
        write_whole(card, lambda target: target.write(text.encode()))
        files.append(card)
    return [*lines, *map(str, files)]


def _make(
    job: _Job,
    network: nn.Module,
    metadata: Metadata,
    valid: Images | None,
    train: Images | None,
    path: Path,
) -> tuple[Sequence[Path], Iterable[str]]:
    config = job.config
    if train is None:
        written = write_network(network, metadata, path, job.kind)
        tried = [path]
    else:
        float32 = path.with_name("float32") / "float32.onnx"
        float32.parent.mkdir()
        write_network(network, metadata, float32, job.kind)
        quantise_onnx(float32, passing_bar("calibrating")(train, train.batches), path)
        written, tried = [path], [float32, path]
    if valid is None:
        return written, ()
    proof = prove(network, job.source, tried, valid, job.arch, watch=passing_bar("proving"))
    if config.int8:
        check_int8(proof, job.path, config.least_agreement)
    else:
        check_difference(proof, job.path, config.tolerance)
    return written, proof_lines(proof)


def _make_detector(
    job: _Job, detector: Detector, images: BoxImages | None, path: Path
) -> tuple[Sequence[Path], Iterable[str]]:
    network, most = detector.network.eval(), job.config.tolerance
    written = write_detector(detector, path, job.kind)
    if images is None:
        return written, ()
    proof = prove_boxes(network, job.source, path, images, most, watch=passing_bar("proving"))
    check_boxes(proof, job.path, most)
    return written, box_proof_lines(proof)


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
