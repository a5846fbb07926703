"""Evaluations: what a measurement found, in a folder of its own that is never overwritten."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mgd.errors import InputError
from mgd.runfolder import names
from mgd.runfolder.files import read_json, telling_of
from mgd.runfolder.writing import write_table, write_whole


@dataclass(frozen=True, kw_only=True)
class MeasuredNetwork:
    """What one network came to. Accuracies are in percent."""

    role: str
    """"student" or "teacher"."""
    arch: str
    weights: str
    """The file that was measured, or what else its weights are."""
    sha256: str
    """Of that file; empty where there is none."""
    view: str
    """How it saw the images."""
    top1: float
    top5: float
    loss: float
    """Mean cross-entropy of an image."""
    images: int


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What an evaluation found: one or two networks on the same images."""

    folder: Path
    data: str
    networks: list[MeasuredNetwork]


Counts = Sequence[tuple[int, int]]
"""(right, all) images of each class."""
Confusion = Sequence[tuple[int, int, int]]
"""(class, answer, images) of each pair that has images."""


def free_folder(parent: Path, name: str) -> Path:
    """Makes a new folder of a name, with a number behind it where the name is taken.

    Raises:
        InputError: If it cannot be made.
    """
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(
                f"cannot write to '{folder}' ({error}); choose another --output"
            ) from error
        return folder
    raise AssertionError("numbers do not end")


def write_evaluation(
    evaluation: Evaluation,
    classes: Sequence[str],
    counts: Sequence[Counts],
    confusions: Sequence[Confusion],
) -> None:
    """Writes an evaluation: a JSON file with its figures, and two CSV files about the classes.

    Args:
        evaluation: What was found; its folder is there.
        classes: Names, in the order of their numbers.
        counts: Of each network.
        confusions: Of each network.

    Raises:
        RunError: If a file cannot be written.
    """
    folder = evaluation.folder
    plain = {"data": evaluation.data, "networks": [asdict(each) for each in evaluation.networks]}
    text = json.dumps(plain, indent=1).encode()
    write_whole(folder / names.EVALUATION, lambda file: file.write(text))
    roles = [each.role for each in evaluation.networks]
    _write_per_class(folder / names.PER_CLASS, roles, classes, counts)
    rows = [
        {"network": role, "class": classes[label], "answer": classes[answer], "images": images}
        for role, confusion in zip(roles, confusions, strict=True)
        for label, answer, images in confusion
    ]
    write_table(folder / names.CONFUSION, ["network", "class", "answer", "images"], rows)


def _write_per_class(
    path: Path, roles: Sequence[str], classes: Sequence[str], counts: Sequence[Counts]
) -> None:
    """Writes the number of images of each class, and each network's top-1 on them, in percent."""
    rows = []
    for name, *cells in zip(classes, *counts, strict=True):
        shares = {
            f"{role}_top1": f"{100 * right / all_:.2f}"
            for role, (right, all_) in zip(roles, cells, strict=True)
            if all_
        }
        rows.append({"class": name, "images": cells[0][1], **shares})
    write_table(path, ["class", "images", *(f"{role}_top1" for role in roles)], rows)


def is_evaluation(folder: Path) -> bool:
    """Tells whether a folder holds an evaluation."""
    return (folder / names.EVALUATION).is_file()


def read_evaluation(folder: str | Path) -> Evaluation:
    """Reads the figures of an evaluation.

    Raises:
        InputError: If the file is missing or damaged.
    """
    folder = Path(folder)
    path = folder / names.EVALUATION
    with telling_of(path):
        content = read_json(path)
        try:
            networks = [MeasuredNetwork(**values) for values in content["networks"]]
            if not networks:
                raise TypeError("no network")
            for each in networks:
                _check(each)
            return Evaluation(folder=folder, data=str(content["data"]), networks=networks)
        except (KeyError, TypeError) as error:
            raise ValueError(f"it holds no evaluation ({error})") from error


def _check(network: MeasuredNetwork) -> None:
    for name in ("top1", "top5", "loss", "images"):
        value = getattr(network, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"'{name}' is {value!r}, no number")
    for name in ("role", "arch", "weights", "sha256", "view"):
        if not isinstance(getattr(network, name), str):
            raise TypeError(f"'{name}' is {getattr(network, name)!r}, no text")
