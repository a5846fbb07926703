"""Images whose class is not known: a few labels and many images, or no label at all."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mgd.data.decode import BitDepth
from mgd.data.folder import FolderSplit, find_images, labelled_part
from mgd.data.splits import Split, Splits, Subset
from mgd.errors import InputError


def load_unlabelled(folders: Sequence[str], bit_depth: BitDepth = "auto") -> Split:
    """Finds the images of folders of any depth. No image is opened yet.

    Args:
        folders: An image that lies in two of them is taken once.
        bit_depth: As in `load_splits`.

    Returns:
        The images, each with the label -1.

    Raises:
        InputError: If a folder is missing or has no images.
    """
    for folder in folders:
        if not Path(folder).is_dir():
            raise InputError(
                f"`unlabelled` (={folder}) is no folder; give one that has images in it, or in "
                "folders below"
            )
    return FolderSplit([(path, -1) for path in find_images(folders)], bit_depth)


def load_label_free(root: str, bit_depth: BitDepth = "auto") -> Splits:
    """Finds the images of a folder of which no class is known.

    Args:
        root: Any tree of images. Images are taken from the folder `train` in it, if there is one.
            A folder `valid` or `val` of class folders becomes the test part, and its images are
            not trained on.
        bit_depth: As in `load_splits`.

    Raises:
        InputError: If there are no images.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise InputError(f"data folder '{root}' does not exist; give a folder of images")
    valid = next((folder / name for name in ("valid", "val") if (folder / name).is_dir()), None)
    train = folder / "train"
    files = find_images([str(train if train.is_dir() else folder)])
    classes, test = labelled_part(valid, bit_depth) if valid is not None else ([], None)
    held = {str(Path(test.name(index))) for index in range(len(test))} if test else set()
    images = FolderSplit([(path, -1) for path in files if str(Path(path)) not in held], bit_depth)
    if not len(images):
        raise InputError(f"'{root}' has no images beside those in '{valid}'; add some to train on")
    nothing = Subset(images, [])
    return Splits(classes, train=nothing, valid=nothing, test=test, unlabelled=images)


def seen_elsewhere(images: Split, held: Split) -> list[tuple[str, str]]:
    """Finds files that are in two splits, under whatever names, by a hash of their content.

    Args:
        images: To train on.
        held: To measure on.

    Returns:
        The two names of each such file. Images that are no files are left out.
    """
    ours, theirs = list(_sized(images)), list(_sized(held))
    sizes = {size for size, _ in ours} & {size for size, _ in theirs}
    known = {_hash(path): path for size, path in theirs if size in sizes}
    hashes = ((path, _hash(path)) for size, path in ours if size in sizes)
    return [(path, known[content]) for path, content in hashes if content in known]


def _sized(split: Split) -> Iterable[tuple[int, str]]:
    for index in range(len(split)):
        if os.path.isfile(path := split.name(index)) and os.access(path, os.R_OK):
            yield os.path.getsize(path), path


def _hash(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).digest()
