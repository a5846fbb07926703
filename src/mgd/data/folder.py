"""Data sets of image files: `train/CLASS/image` and `valid/CLASS/image` (or `val`)."""

import glob
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from mgd.data.boxes_by_place import has_boxes
from mgd.data.decode import BitDepth, decode
from mgd.data.splits import Split, Splits
from mgd.errors import InputError

logger = logging.getLogger(__name__)


_KEPT_BYTES = 16 * 1024
"""The largest image that is kept in memory once decoded: 64 x 64 px and a little more."""
_KEPT_BYTES_TOGETHER = 256 * 1024**2
"""How much all kept images of a split take at most, in each process that loads images."""


class FolderSplit(Split):
    """Image files with labels. An image is decoded only when it is asked for.

    Small images are decoded once and kept: opening such a file takes as long as all that is done
    with the image afterwards.

    Args:
        files: Path and class number of each image; -1 where there is none.
        bit_depth: How many bits the grey values in 16-bit files have; see `decode`.
    """

    def __init__(self, files: Sequence[tuple[str, int]], bit_depth: BitDepth = "auto"):
        self.files, self.bit_depth = files, bit_depth
        self.labels = [label for _, label in files]
        self._kept: dict[int, Tensor] = {}
        self._room = _KEPT_BYTES_TOGETHER

    def image(self, index: int) -> Tensor:
        """Decodes one image to uint8 RGB, (3, H, W).

        Raises:
            InputError: As `decode`; the message names the file.
        """
        if (kept := self._kept.get(index)) is not None:
            return kept
        image = decode(self.files[index][0], self.bit_depth)
        if image.nbytes <= min(_KEPT_BYTES, self._room):
            self._kept[index] = image
            self._room -= image.nbytes
        return image

    def name(self, index: int) -> str:
        """Returns the file's path."""
        return self.files[index][0]

    def mark(self, index: int) -> bytes:
        """Returns what tells the image from any other without a look inside the file.

        That is the file's path, its size and when it was last changed, and the bit depth.

        Raises:
            InputError: If the file is gone.
        """
        path = os.path.abspath(self.files[index][0])
        try:
            status = os.stat(path)
        except OSError as error:
            raise InputError(
                f"'{path}' cannot be read ({error}); add it, or leave it out"
            ) from error
        told = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{self.bit_depth}"
        return os.fsencode(told)


def load_folder(root: str | Path, bit_depth: BitDepth = "auto") -> Splits:
    """Finds the classes and images in a data folder. No image is opened yet.

    Args:
        root: A folder with `train` and `valid` (or `val`), each with one folder per class.
        bit_depth: How many bits the grey values in 16-bit files have; see `decode`.

    Raises:
        InputError: If `train` or `valid` is missing, if a class has no images, if `train` and
            `valid` have different classes, or if there is only one class.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(
            f"data folder '{root}' does not exist; give a folder with `train` and `valid` inside, "
            "or the word digits for the embedded data set"
        )
    classes, train = _find(root / "train")
    valid_classes, valid = _find(root / "valid" if (root / "valid").is_dir() else root / "val")
    if classes != valid_classes:
        only = sorted(set(classes) ^ set(valid_classes))
        side = "train" if only[0] in set(classes) else "valid"
        raise InputError(
            f"class '{only[0]}' is only in `{side}` of '{root}' ({len(only)} such classes); both "
            "parts need the same class folders: add or remove it"
        )
    if len(classes) == 1:
        raise InputError(
            f"'{root}' has only one class, '{classes[0]}', and a classifier needs two; put the "
            "images of each class into a folder of its own in `train` and in `valid`, such as "
            "train/cat and train/dog"
        )
    return Splits(classes, FolderSplit(train, bit_depth), FolderSplit(valid, bit_depth))


def labelled_part(part: Path, bit_depth: BitDepth = "auto") -> tuple[list[str], Split]:
    """Finds the classes and images of one part of a data folder, such as `valid`.

    Raises:
        InputError: If it has no class folders, or one of them has no images.
    """
    classes, files = _find(part)
    return classes, FolderSplit(files, bit_depth)


def find_images(places: Sequence[str]) -> list[str]:
    """Finds the image files that a user names, for example to predict their classes.

    A split of them has no labels: `FolderSplit([(path, -1) for path in find_images(places)])`.

    Args:
        places: Each an image file, a folder (all images in it and below), or a pattern such as
            'photos/*.jpg' or '**/*.png', whose `**` stands for any folders.

    Returns:
        The paths in the order of the places; those of one place are sorted. An image found twice
        is there once.

    Raises:
        InputError: If there is no image at a place.
    """
    found: dict[tuple[int, int, str], str] = {}
    for place in places:
        at_place = list(_images_at(place))
        if not at_place:
            fault = "is no image and holds none" if os.path.exists(place) else "matches no image"
            raise InputError(
                f"'{place}' {fault}; give an image file, a folder of images, or a pattern such as "
                f"'photos/*.jpg'; the names of images end in {', '.join(IMG_EXTENSIONS)}"
            )
        for path in at_place:
            folder, name = os.path.split(path)
            found.setdefault((*_identity(folder or "."), name), path)
    return list(found.values())


def _images_at(place: str) -> Iterator[str]:
    """Yields the paths of the images at a place; a folder that a pattern matches is searched."""
    for path in [place] if os.path.exists(place) else sorted(glob.glob(place, recursive=True)):
        if os.path.isdir(path):
            yield from (os.path.join(*image) for image in sorted(_images(path, set())))
        elif path.lower().endswith(IMG_EXTENSIONS):
            yield path


def _find(part: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """Returns the class names of one part, sorted, and its images with their class numbers."""
    if not part.is_dir():
        _check_has_no_boxes(part.parent)
        raise InputError(
            f"'{part.parent}' has no folder `{part.name}`; needed are `train` and `valid` (or "
            "`val`), each with one folder of images per class"
        )
    classes = sorted(entry.name for entry in os.scandir(part) if entry.is_dir())
    if not classes:
        _check_has_no_boxes(part.parent)
        raise InputError(
            f"'{part}' has no class folders; put the images of each class into a folder of its own"
        )
    files: list[tuple[str, int]] = []
    for label, name in enumerate(classes):
        found = list(_images(str(part / name), {_identity(str(part))}))
        if not found:
            raise InputError(
                f"class folder '{part / name}' holds no images ({', '.join(IMG_EXTENSIONS)}); "
                "add some or remove the folder"
            )
        # Sorted by folder and then by name, so that image numbers are the same on every machine.
        files += [(os.path.join(*place), label) for place in sorted(found)]
    return classes, files


def _check_has_no_boxes(root: Path) -> None:
    if has_boxes(root):
        raise InputError(
            f"'{root}' has images with boxes, and no folder of images per class; train a detector "
            "on them with mgd train-detector or mgd distill-detector"
        )


def _images(folder: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """Yields (folder, name) of the images in a folder and its subfolders, each folder once.

    Symbolic links are followed, because data sets are often made of them. A link to a folder above
    itself would otherwise be followed about forty times, and repeat every image as often.
    """
    identity = _identity(folder)
    if identity in seen:
        logger.warning("'%s' links to a folder that was read already; left out", folder)
        return
    seen.add(identity)
    below = []
    for entry in os.scandir(folder):
        if entry.is_dir():
            below.append(entry.path)
        elif entry.name.lower().endswith(IMG_EXTENSIONS):
            yield folder, entry.name
    for path in sorted(below):
        yield from _images(path, seen)


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
