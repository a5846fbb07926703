"""Data sets: folders of images, and the digits of scikit-learn."""

from pathlib import Path

from mgd.data.decode import BitDepth
from mgd.data.digits import load_digits, write_few_labels
from mgd.data.folder import find_images, load_folder
from mgd.data.splits import Splits
from mgd.data.unlabelled import load_label_free, load_unlabelled, seen_elsewhere

__all__ = [
    "DIGITS",
    "Splits",
    "find_images",
    "load_digits",
    "load_folder",
    "load_label_free",
    "load_splits",
    "load_unlabelled",
    "seen_elsewhere",
    "write_few_labels",
]

DIGITS = "digits"


def load_splits(source: str | Path, bit_depth: BitDepth = "auto") -> Splits:
    """Loads a data set.

    Args:
        source: The word `digits` for the digits of scikit-learn, or the path of a folder with
            `train` and `valid` inside. A folder named `digits` takes precedence over the word.
        bit_depth: How many bits the grey values in 16-bit image files have; see `decode`.

    Returns:
        The classes, and the images of each part with their labels.

    Raises:
        InputError: As `load_folder` and `load_digits`.
    """
    if str(source) == DIGITS and not Path(source).is_dir():
        return load_digits()
    return load_folder(source, bit_depth)
