"""Data sets: folders of images, and the digits of scikit-learn."""

from pathlib import Path

from mgd.data.digits import load_digits
from mgd.data.folder import load_folder
from mgd.data.splits import Splits

DIGITS = "digits"


def load_splits(source: str | Path) -> Splits:
    """Loads a data set.

    Args:
        source: The word `digits` for the digits of scikit-learn, or the path of a folder with
            `train` and `valid` inside. A folder named `digits` takes precedence over the word.

    Args:
        source: `digits`, or the folder's path. A folder of that name in the current directory
            goes before the word.

    Returns:
        The classes, and the images of each part with their labels.

    Raises:
        InputError: As `load_folder` and `load_digits`.
    """
    if str(source) == DIGITS and not Path(source).is_dir():
        return load_digits()
    return load_folder(source)
