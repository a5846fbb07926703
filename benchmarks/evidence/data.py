"""Data of the runs: folders that are given or downloaded, folders of some classes or few labels."""

import random
import shutil
from pathlib import Path
from typing import Any

from torchvision.datasets import CIFAR10
from torchvision.transforms.functional import to_pil_image

from benchmarks.evidence.plan import data_name
from mgd.data import load_digits
from mgd.data.splits import Split


def prepare(
    matrix: dict[str, Any], names: set[str], given: dict[str, Any], root: Path
) -> dict[str, Path]:
    """Returns the folder of every data set that is needed, by its variable's name.

    Args:
        matrix: As read.
        names: Of the variables needed, with their `$`.
        given: Folders by the name of their data set, or None.
        root: Folder for the data that are made or downloaded.
    """
    folders = {}
    for experiment in matrix["experiments"].values():
        data = experiment["data"]
        name = data_name(data)
        if f"${name}" not in names:
            continue
        if isinstance(data, str):
            folders[name] = _whole(data, given, root)
        else:
            whole = _whole(data["of"], given, root)
            make = _few_labels if "labelled" in data else _part
            folders[name] = make(whole, data, root / name)
    return folders


def out_of_reach(matrix: dict[str, Any], given: dict[str, Any]) -> set[str]:
    """Returns the names of the data sets that were not given and cannot be downloaded."""
    sources = [experiment["data"] for experiment in matrix["experiments"].values()]
    names = {data if isinstance(data, str) else data["of"] for data in sources}
    return {name for name in names if name not in _MAKERS and not given.get(name)}


def _whole(name: str, given: dict[str, Any], root: Path) -> Path:
    if given.get(name):
        return Path(given[name]).resolve()
    folder = root / name
    if not folder.is_dir():
        unfinished = root / f"{name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        _MAKERS[name](unfinished)
        unfinished.rename(folder)
    return folder


def _part(whole: Path, data: dict[str, Any], folder: Path) -> Path:
    """Links some class folders of a data set into a folder of their own."""
    for part in ("train", "valid"):
        for name in map(str, data["classes"]):
            _link(folder / part / name, whole / part / name)
    return folder


def _few_labels(whole: Path, data: dict[str, Any], folder: Path) -> Path:
    """Links some training images of each class into `train`, and the others into `unlabelled`.

    The folder `unlabelled` has no class folders: nothing in it says what an image shows.
    """
    _link(folder / "valid", whole / "valid")
    for origin in sorted((whole / "train").iterdir()):
        images = sorted(origin.iterdir())
        random.Random(origin.name).shuffle(images)
        for number, image in enumerate(images):
            is_labelled = number < data["labelled"]
            place = Path("train", origin.name) if is_labelled else Path("unlabelled")
            _link(folder / place / f"{origin.name}-{image.name}", image)
    return folder


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(target)


def _write_digits(folder: Path) -> None:
    """Writes the embedded digits as PNG files; test images are not among them."""
    splits = load_digits()
    for part, split in (("train", splits.train), ("valid", splits.valid)):
        _write(split, splits.classes, folder / part)


def _write(split: Split, classes: list[str], folder: Path) -> None:
    for index, label in enumerate(split.labels):
        path = folder / classes[label] / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        to_pil_image(split.image(index)).save(path)


def _fetch_cifar10(folder: Path) -> None:
    """Downloads CIFAR-10 by torchvision and writes it as PNG files."""
    for part, is_train in (("train", True), ("valid", False)):
        images = CIFAR10(str(folder / "archive"), train=is_train, download=True)
        for index, (image, label) in enumerate(images):
            path = folder / part / images.classes[label] / f"{index:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    shutil.rmtree(folder / "archive")


_MAKERS = {"cifar10": _fetch_cifar10, "digits": _write_digits}
