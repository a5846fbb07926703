"""Data sets of boxes in the layout of Pascal VOC: JPEGImages, Annotations and ImageSets/Main."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from mgd.data.boxes import Box, BoxedImage, BoxSplit, BoxSplits, checked_box, checked_size
from mgd.data.decode import BitDepth
from mgd.errors import InputError

LISTS = Path("ImageSets", "Main")
"""Where the images of each part are listed, one name a line."""
_VALID = ("val", "valid")


def is_voc(root: Path) -> bool:
    """Tells whether a folder has the layout."""
    return (root / LISTS).is_dir() and (root / "Annotations").is_dir()


def load_voc(root: Path, bit_depth: BitDepth = "auto") -> BoxSplits:
    """Reads the annotations of all parts. No image is opened yet.

    The classes are those of the training images, sorted by name. The corners of VOC count pixels
    from 1 and both belong to the box: left and top are lowered by 1. Objects that are marked as
    difficult are neither trained on nor measured, as VOC has it.

    Args:
        root: The folder.
        bit_depth: How many bits the grey values in 16-bit files have; see `decode`.

    Raises:
        InputError: For a missing list, image or annotation, a name that is listed twice, or a box
            that cannot be used; it names file and number.
    """
    valid = next((name for name in _VALID if (root / LISTS / f"{name}.txt").is_file()), "val")
    names = {part: _listed(root, part) for part in ("train", valid)}
    if (root / LISTS / "test.txt").is_file():
        names["test"] = _listed(root, "test")
    trees = {part: [_tree(root, name) for name in found] for part, found in names.items()}
    training = zip(names["train"], trees["train"], strict=True)
    classes = sorted({found for name, tree in training for found in _classes(root, name, tree)})
    if not classes:
        raise InputError(
            f"no image in '{root / LISTS / 'train.txt'}' has an object; images without objects are "
            "used, but some must have objects"
        )
    parts = {
        part: BoxSplit(
            [
                _image(root, name, tree, classes)
                for name, tree in zip(names[part], trees[part], strict=True)
            ],
            bit_depth,
        )
        for part in names
    }
    return BoxSplits(classes, parts["train"], parts[valid], parts.get("test"))


def _listed(root: Path, part: str) -> list[str]:
    """Returns the names of the images of a part."""
    path = root / LISTS / f"{part}.txt"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"'{path}' cannot be read ({error}); needed are train.txt and val.txt, with the name "
            "of an image in each line"
        ) from error
    found: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not (name := line.strip()):
            continue
        if name in found:
            raise InputError(
                f"'{path}' line {number}: '{name}' is there in line {found[name]} already; keep "
                "one of the two"
            )
        found[name] = number
    if not found:
        raise InputError(f"'{path}' lists no image; write the name of one in each line")
    return list(found)


def _tree(root: Path, name: str) -> ElementTree.Element:
    path = _annotation(root, name)
    try:
        return ElementTree.parse(path).getroot()
    except FileNotFoundError as error:
        raise InputError(
            f"'{path}' is missing, the annotation of a listed image; add it, without an object "
            "where there is none on the image"
        ) from error
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read as XML ({error}); repair it") from error


def _annotation(root: Path, name: str) -> Path:
    return root / "Annotations" / f"{name}.xml"


def _objects(
    root: Path, name: str, tree: ElementTree.Element
) -> Iterator[tuple[str, ElementTree.Element]]:
    """Yields the objects on an image, each with its place for an error."""
    for number, entry in enumerate(tree.iter("object"), start=1):
        yield f"'{_annotation(root, name)}' object {number}", entry


def _classes(root: Path, name: str, tree: ElementTree.Element) -> Iterator[str]:
    return (_class(entry, where) for where, entry in _objects(root, name, tree))


def _class(entry: ElementTree.Element, where: str) -> str:
    name = (entry.findtext("name") or "").strip()
    if not name:
        raise InputError(f"{where}: it has no 'name', which says its class; add it")
    return name


def _image(root: Path, name: str, tree: ElementTree.Element, classes: Sequence[str]) -> BoxedImage:
    where = f"'{_annotation(root, name)}'"
    sides = (_pixels(tree, f"size/{side}", where) for side in ("width", "height"))
    size = checked_size(sides, where)
    boxes = tuple(_box(entry, classes, size, place) for place, entry in _objects(root, name, tree))
    return BoxedImage(_file(root, name, tree.findtext("filename") or ""), *size, boxes)


def _file(root: Path, name: str, told: str) -> str:
    """Returns the file of an image: that of its name, or else the one that the annotation tells.

    Files that were renamed or numbered anew still have their former names in the annotations.
    """
    folder = root / "JPEGImages"
    choices = [f"{name}{extension}" for extension in IMG_EXTENSIONS]
    choices += [Path(told).name] if told else []
    for choice in choices:
        if (folder / choice).is_file():
            return str(folder / choice)
    raise InputError(
        f"'{_annotation(root, name)}' is an annotation without an image: '{folder}' has no file "
        f"'{choices[0]}'; add the image, or take the name out of the lists"
    )


def _box(
    entry: ElementTree.Element, classes: Sequence[str], size: tuple[int, int], where: str
) -> Box:
    name = _class(entry, where)
    if name not in classes:
        raise InputError(
            f"{where}: the class '{name}' is unknown, since no training image has it; known are "
            f"{', '.join(classes)}"
        )
    left, top, right, bottom = (
        _pixels(entry, f"bndbox/{edge}", where) for edge in ("xmin", "ymin", "xmax", "ymax")
    )
    is_difficult = (entry.findtext("difficult") or "0").strip() == "1"
    corners = (left - 1, top - 1, right, bottom)
    return checked_box(classes.index(name) + 1, corners, size, where, is_difficult)


def _pixels(entry: ElementTree.Element, path: str, where: str) -> float:
    text = entry.findtext(path)
    try:
        return float(text or "")
    except ValueError as error:
        raise InputError(
            f"{where}: '{path}' is {text!r}, and needed is a number of pixels; correct it"
        ) from error
