"""Data sets: image folders and the embedded digits."""

from pathlib import Path

from mgd.data.digits import load_digits
from mgd.data.folder import load_folder
from mgd.data.splits import Splits

DIGITS = "digits"


def load_splits(source: str | Path) -> Splits:
    """Loads a data set: the word `digits`, or a folder with `train` and `valid` inside.

    Args:
        source: `digits`, or the folder's path. A folder of that name in the current directory
            goes before the word.

    Returns:
        The classes, and the images of each part with their labels.

    Raises:
        InputError: As `load_folder`.

    Example:
        >>> from mgd.data import load_splits
        >>> digits = load_splits("digits")
        >>> len(digits.train), len(digits.valid), len(digits.test), digits.train.image(0).shape
        (897, 300, 600, torch.Size([3, 8, 8]))
    """
    if str(source) == DIGITS and not Path(source).is_dir():
        return load_digits()
    return load_folder(source)
