"""Data sets: image folders and the embedded digits."""

from pathlib import Path

from mgd.data.digits import load_digits
from mgd.data.folder import load_folder
from mgd.data.splits import Splits

DIGITS = "digits"


def load_splits(source: str | Path) -> Splits:
    """Loads a data set: the word `digits`, or a folder with `train` and `valid` inside.

    Raises:
        InputError: As `load_folder`.
    """
    if str(source) == DIGITS and not Path(source).is_dir():
        return load_digits()
    return load_folder(source)
