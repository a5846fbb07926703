"""Data sets of boxes in COCO's JSON: one file a part, which names its images."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mgd.data.boxes import Box, BoxedImage, BoxSplit, BoxSplits, checked_box
from mgd.data.decode import BitDepth
from mgd.errors import InputError

_PARTS: dict[str, tuple[str, ...]] = {
    "train": ("train",),
    "valid": ("val", "valid"),
    "test": ("test",),
}
"""What the names of files and folders of a part begin with."""
_BESIDE = ("_annotations.coco.json", "annotations.json")
"""The file where each part is a folder with images and annotations."""


def coco_files(root: Path) -> dict[str, Path]:
    """Returns the annotations of each part that a folder has.

    Either `annotations/instances_train*.json` and `annotations/instances_val*.json`, as COCO has
    them, or `train/_annotations.coco.json` and `valid/_annotations.coco.json`.
    """
    found = {}
    for part, names in _PARTS.items():
        choices = [
            *(path for name in names for path in sorted(root.glob(f"annotations/*{name}*.json"))),
            *(root / name / file for name in names for file in _BESIDE),
        ]
        first = next((path for path in choices if path.is_file()), None)
        if first is not None:
            found[part] = first
    return found


def load_coco(root: Path, bit_depth: BitDepth = "auto") -> BoxSplits:
    """Reads the annotations of all parts. No image is opened yet.

    The classes are the categories of the training part, in the order of their ids. Groups of
    objects (`iscrowd`) are neither trained on nor measured. A test part without annotations, as
    that of COCO itself, is left out.

    Args:
        root: The folder.
        bit_depth: How many bits the grey values in 16-bit files have; see `decode`.

    Raises:
        InputError: For a missing file, an id that is there twice, or a box that cannot be used; it
            names file and number.
    """
    files = coco_files(root)
    for part in ("train", "valid"):
        if part not in files:
            raise InputError(
                f"'{root}' has no annotations of the part `{part}`; needed are "
                "annotations/instances_train*.json and annotations/instances_val*.json"
            )
    read = {part: _Part(root, part, path) for part, path in files.items()}
    classes = read["train"].classes
    parts = {part: BoxSplit(list(each.images(classes)), bit_depth) for part, each in read.items()}
    test = parts.get("test")
    has_test = test is not None and test.num_boxes > 0
    return BoxSplits(classes, parts["train"], parts["valid"], test if has_test else None)


class _Part:
    """The annotations of one part."""

    def __init__(self, root: Path, part: str, path: Path):
        self.root, self.part, self.path = root, part, path
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"'{path}' cannot be read as JSON ({error}); repair it") from error
        self._images = self._by_id(content, "images")
        self._categories = self._by_id(content, "categories")
        self._boxes: dict[Any, list[tuple[int, Mapping[str, Any]]]] = {}
        known = self._by_id(content, "annotations").values()
        for number, entry in enumerate(known, start=1):
            if entry.get("image_id") not in self._images:
                raise InputError(
                    f"'{path}' annotation {number}: it is of image {entry.get('image_id')}, which "
                    "is not in the file; add the image, or remove the annotation"
                )
            self._boxes.setdefault(entry["image_id"], []).append((number, entry))

    def _by_id(self, content: Any, name: str) -> dict[Any, Mapping[str, Any]]:
        entries = content.get(name, []) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
            raise InputError(f"'{self.path}' has no list '{name}'; give annotations of COCO's form")
        found: dict[Any, Mapping[str, Any]] = {}
        for number, entry in enumerate(entries, start=1):
            key = entry.get("id")
            if not isinstance(key, (int, str)) or key in found:
                fault = "has no id" if not isinstance(key, (int, str)) else f"has the id {key} of"
                other = "" if key not in found else " an earlier one"
                raise InputError(
                    f"'{self.path}' {name} number {number} {fault}{other}; each needs its own id"
                )
            found[key] = entry
        return found

    @property
    def classes(self) -> list[str]:
        """Names of the categories, in the order of their ids."""
        return [str(self._categories[key].get("name")) for key in sorted(self._categories)]

    def images(self, classes: Sequence[str]) -> Iterator[BoxedImage]:
        """Yields the images with their boxes."""
        for number, (key, entry) in enumerate(self._images.items(), start=1):
            where = f"'{self.path}' image {number}"
            width, height = (int(self._number(entry, side, where)) for side in ("width", "height"))
            boxes = tuple(
                self._box(each, classes, (width, height), f"'{self.path}' annotation {place}")
                for place, each in self._boxes.get(key, ())
            )
            yield BoxedImage(self._file(str(entry.get("file_name")), where), width, height, boxes)

    def _file(self, name: str, where: str) -> str:
        stem = self.path.stem.removeprefix("instances_")
        folders = [self.root / stem, self.path.parent]
        folders += [self.root / each for each in _PARTS[self.part]]
        folders += [self.root / "images" / stem, self.root / "images", self.root]
        for folder in folders:
            if (folder / name).is_file():
                return str(folder / name)
        raise InputError(
            f"{where}: there is no file '{name}' in '{folders[0]}' or in '{self.root / 'images'}'; "
            "add the image, or remove it and its annotations from the file"
        )

    def _box(
        self, entry: Mapping[str, Any], classes: Sequence[str], size: tuple[int, int], where: str
    ) -> Box:
        category = self._categories.get(entry.get("category_id"))
        name = str(category.get("name")) if category else ""
        if name not in classes:
            raise InputError(
                f"{where}: the category {entry.get('category_id')} is unknown; known are "
                f"{', '.join(classes)}"
            )
        given = entry.get("bbox")
        if not isinstance(given, list) or len(given) != 4:
            raise InputError(f"{where}: 'bbox' is {given!r}, and needed are four numbers")
        left, top, width, height = (self._number({"bbox": each}, "bbox", where) for each in given)
        corners = (left, top, left + width, top + height)
        return checked_box(
            classes.index(name) + 1, corners, size, where, bool(entry.get("iscrowd"))
        )

    def _number(self, entry: Mapping[str, Any], key: str, where: str) -> float:
        value = entry.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f"{where}: '{key}' is {value!r}, and needed is a number of pixels")
        return float(value)
