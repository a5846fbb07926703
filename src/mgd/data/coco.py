"""Data sets of boxes in COCO's JSON: one file a part, which names its images."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mgd.data.boxes import Box, BoxedImage, BoxSplit, BoxSplits, checked_box, checked_size
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
_OF_OTHERS = ("captions_", "image_info_", "panoptic_", "person_keypoints_", "stuff_")
"""What the names of COCO's files without the boxes of all objects begin with."""


def coco_files(root: Path) -> dict[str, Path]:
    """Returns the annotations of each part that a folder has.

    Either `annotations/instances_train*.json` and `annotations/instances_val*.json`, as COCO has
    them, or `train/_annotations.coco.json` and `valid/_annotations.coco.json`.

    Raises:
        InputError: If a part has several such files.
    """
    found = {}
    for part, names in _PARTS.items():
        beside = (root / name / file for name in names for file in _BESIDE)
        choices = _files_of(root, names) or [path for path in beside if path.is_file()]
        if len(choices) > 1:
            raise InputError(
                f"'{root}' has {len(choices)} files of the part `{part}`: "
                f"{', '.join(str(path.relative_to(root)) for path in choices)}; keep one of them"
            )
        if choices:
            found[part] = choices[0]
    return found


def _files_of(root: Path, names: Sequence[str]) -> list[Path]:
    """Returns the files of a part in `annotations`, those of COCO's own names if there are such."""
    paths = [path for path in sorted(root.glob("annotations/*.json")) if path.is_file()]
    named = [path for path in paths if any(name in path.name for name in names)]
    own = [path for path in named if path.name.startswith("instances_")]
    return own or [path for path in named if not path.name.startswith(_OF_OTHERS)]


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
    if not classes:
        raise InputError(
            f"'{files['train']}' has no 'categories', which name the classes; add them"
        )
    parts = {part: BoxSplit(list(each.images(classes)), bit_depth) for part, each in read.items()}
    test = parts.get("test")
    has_test = test is not None and test.num_boxes > 0
    return BoxSplits(classes, parts["train"], parts["valid"], test if has_test else None)


class _Part:
    """The annotations of one part."""

    def __init__(self, root: Path, part: str, path: Path):
        self.root, self.part, self.path = root, part, path
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"'{path}' cannot be read as JSON ({error}); repair it") from error
        self._images = self._by_id(content, "images")
        self._names = self._named(self._by_id(content, "categories"))
        self._boxes: dict[Any, list[tuple[int, Mapping[str, Any]]]] = {}
        known = self._by_id(content, "annotations").values()
        for number, entry in enumerate(known, start=1):
            image = entry.get("image_id")
            if not _is_id(image) or image not in self._images:
                raise InputError(
                    f"'{path}' annotation {number}: it is of image {image!r}, which is not in the "
                    "file; add the image, or remove the annotation"
                )
            self._boxes.setdefault(image, []).append((number, entry))

    def _by_id(self, content: Any, name: str) -> dict[Any, Mapping[str, Any]]:
        entries = content.get(name, []) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
            raise InputError(f"'{self.path}' has no list '{name}'; give annotations of COCO's form")
        found: dict[Any, Mapping[str, Any]] = {}
        for number, entry in enumerate(entries, start=1):
            key = entry.get("id")
            if not _is_id(key) or key in found:
                fault = f"has the id {key} of an earlier one" if _is_id(key) else "has no id"
                raise InputError(
                    f"'{self.path}' {name} number {number} {fault}; each needs its own id"
                )
            found[key] = entry
        return found

    def _named(self, categories: Mapping[Any, Mapping[str, Any]]) -> dict[Any, str]:
        """Returns the names of the categories by their ids, in the order of the ids."""
        found: dict[Any, str] = {}
        for number, (key, entry) in enumerate(categories.items(), start=1):
            name = entry.get("name")
            where = f"'{self.path}' categories number {number}"
            if not isinstance(name, str) or not name:
                raise InputError(f"{where} has no 'name'; add it")
            if name in found.values():
                raise InputError(
                    f"{where} has the name '{name}' of an earlier one; each needs its own name"
                )
            found[key] = name
        return {key: found[key] for key in sorted(found, key=lambda key: (str(type(key)), key))}

    @property
    def classes(self) -> list[str]:
        """Names of the categories, in the order of their ids."""
        return list(self._names.values())

    def images(self, classes: Sequence[str]) -> Iterator[BoxedImage]:
        """Yields the images with their boxes."""
        for number, (key, entry) in enumerate(self._images.items(), start=1):
            where = f"'{self.path}' image {number}"
            sides = (self._number(entry, side, where) for side in ("width", "height"))
            size = checked_size(sides, where)
            boxes = tuple(
                self._box(each, classes, size, f"'{self.path}' annotation {place}")
                for place, each in self._boxes.get(key, ())
            )
            yield BoxedImage(self._file(str(entry.get("file_name")), where), *size, boxes)

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
        category = entry.get("category_id")
        name = self._names.get(category) if _is_id(category) else None
        if name not in classes:
            fault = f"the category {category!r} is unknown"
            if name is not None:
                fault = f"the class '{name}' is unknown, since the training part does not name it"
            raise InputError(f"{where}: {fault}; known are {', '.join(classes)}")
        given = entry.get("bbox")
        if not isinstance(given, list) or len(given) != 4:
            raise InputError(f"{where}: 'bbox' is {given!r}, and needed are four numbers")
        left, top, width, height = (self._number({"bbox": each}, "bbox", where) for each in given)
        corners = (left, top, left + width, top + height)
        is_crowd = entry.get("iscrowd", 0)
        if is_crowd not in (0, 1):
            raise InputError(f"{where}: 'iscrowd' is {is_crowd!r}, and needed is 0 or 1")
        return checked_box(classes.index(name) + 1, corners, size, where, bool(is_crowd))

    def _number(self, entry: Mapping[str, Any], key: str, where: str) -> float:
        value = entry.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f"{where}: '{key}' is {value!r}, and needed is a number of pixels")
        try:
            return float(value)
        except OverflowError:  # JSON's whole numbers may have any length
            return math.inf


def _is_id(key: Any) -> bool:
    return isinstance(key, (int, float, str))
