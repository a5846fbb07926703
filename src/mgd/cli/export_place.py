"""Where `mgd export` writes to, and what it never replaces unasked."""

from pathlib import Path

from mgd.cli.report import check_output
from mgd.engine.card import is_card
from mgd.errors import InputError
from mgd.models import FORMATS, Format
from mgd.models.metadata import beside, is_metadata
from mgd.runfolder import is_run, names

_OF_BEST_EPOCH = (names.STUDENT, names.BEST_CHECKPOINT)
"""The files whose weights the model card of a run describes."""


def target(
    file: Path, output: str | None, kind: Format | None, default: Format, int8: bool
) -> tuple[Path, Format]:
    """Returns where to export a file of weights to, and the format.

    Args:
        file: The file of weights.
        output: Where the user wants it, if he says it.
        kind: The format, if he says it.
        default: The format that neither of both tells.
        int8: Whether it is to be quantised.

    Raises:
        InputError: If that is no place for it, or would replace what the user did not name.
    """
    suffix = Path(output or "").suffix[1:]
    named = next((each for each in FORMATS if each == suffix), None)
    kind = kind or named or default
    if int8 and kind != "onnx":
        raise InputError(f"--int8 is for onnx files alone; give --format onnx, not {kind}")
    if output and suffix != kind and (kind != "pth" or suffix in (*FORMATS, "json")):
        raise InputError(
            f"--output {output}: readers know a {kind} file by its name; let it end in .{kind}, or "
            "choose another --format"
        )
    unnamed = file.with_name(f"{file.stem}-int8.onnx") if int8 else file.with_suffix(f".{kind}")
    path = Path(output) if output else unnamed
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
    card = card_beside(file, path)
    if card is not None and card.exists() and not is_card(card):
        raise InputError(
            f"'{card}', where the model card belongs, is another file; give another --output"
        )
    return path, kind


def card_beside(file: Path, path: Path) -> Path | None:
    """Returns where the card of a run goes; None where there is none, or where it lies already."""
    has_card = file.name in _OF_BEST_EPOCH and (file.parent / names.CARD).is_file()
    if not has_card or not is_run(file.parent) or path.parent.samefile(file.parent):
        return None
    return path.with_name(f"{path.name}.md")
