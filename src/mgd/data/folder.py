"""Data sets of image files: `train/CLASS/image` and `valid/CLASS/image` (or `val`)."""

import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2.functional import pil_to_tensor

from mgd.data.splits import Split, Splits
from mgd.errors import InputError

logger = logging.getLogger(__name__)


class FolderSplit(Split):
    """Image files with labels. An image is decoded only when it is asked for.

    Args:
        files: Path and class number of each image.
    """

    def __init__(self, files: list[tuple[str, int]]):
        self.files = files
        self.labels = [label for _, label in files]

    def image(self, index: int) -> Tensor:
        """Decodes one image to uint8 RGB, (3, H, W).

        Raises:
            InputError: If the file cannot be read as an image; the message names the file.
        """
        path = self.files[index][0]
        try:
            with warnings.catch_warnings():
                # An image above Pillow's size limit may be a decompression bomb: make it an error.
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path) as image:
                    pixels: Tensor = pil_to_tensor(_to_rgb(image))
                    return pixels
        except (
            UnidentifiedImageError,
            OSError,
            ValueError,
            SyntaxError,
            Image.DecompressionBombError,
            Image.DecompressionBombWarning,
        ) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"cannot read image '{path}' ({reason}); repair or remove the file"
            ) from error

    def name(self, index: int) -> str:
        """Returns the file's path."""
        return self.files[index][0]


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow would not scale 16-bit grey values, but set all above 255 to white.
        return image.convert("I").point(lambda value: value / 256).convert("L").convert("RGB")
    if image.mode in ("P", "PA", "LA", "La", "RGBa"):
        image = image.convert("RGBA")
    return image.convert("RGB")


def load_folder(root: str | Path) -> Splits:
    """Finds the classes and images in a data folder. No image is opened yet.

    Args:
        root: A folder with `train` and `valid` (or `val`), each with one folder per class.

    Raises:
        InputError: If `train` or `valid` is missing, if a class has no images, or if `train` and
            `valid` have different classes.
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
    return Splits(classes, FolderSplit(train), FolderSplit(valid))


def _find(part: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """Returns the class names of one part, sorted, and its images with their class numbers."""
    if not part.is_dir():
        raise InputError(
            f"'{part.parent}' has no folder `{part.name}`; needed are `train` and `valid` (or "
            "`val`), each with one folder of images per class"
        )
    classes = sorted(entry.name for entry in os.scandir(part) if entry.is_dir())
    if not classes:
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
