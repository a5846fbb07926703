"""The digits of scikit-learn: 1 797 real scans of handwritten digits, 8×8 pixels."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from mgd.data.splits import Splits, TensorSplit
from mgd.errors import InputError


def load_digits() -> Splits:
    """Loads the digits as 897 training, 300 validation and 600 test images.

    The split is fixed and stratified: each part has the same share of each digit. The grey values
    0 to 16 are scaled to 0 to 255 and repeated in three colour channels, which networks expect.

    Raises:
        InputError: If scikit-learn, which contains the data, is not installed.
    """
    images, labels = _scans()
    rest, test = _cut(np.arange(len(labels)), labels, 600)
    train, valid = _cut(rest, labels, 300)
    parts = [TensorSplit(images[part], labels[part].tolist()) for part in (train, valid, test)]
    return Splits(
        [str(digit) for digit in range(10)], parts[0], parts[1], parts[2], augment="shift"
    )


def write_few_labels(root: Path) -> None:
    """Writes the digits as PNG files: images of a teacher, and others of a student with few labels.

    | folder                        | images                                            |
    |-------------------------------|---------------------------------------------------|
    | `teacher/train/DIGIT`         | 500 with labels                                   |
    | `student/train/DIGIT`         | 200 others with labels                            |
    | `unlabelled`                  | the 497 others; their names do not tell the digit |
    | `teacher/valid`, `student/valid` | the 600 test images of `load_digits`           |

    The split is fixed and stratified.

    Raises:
        InputError: As `load_digits`.
    """
    images, labels = _scans()
    rest, test = _cut(np.arange(len(labels)), labels, 600)
    rest, unlabelled = _cut(rest, labels, 497)
    teacher, student = _cut(rest, labels, 200)
    for name, train in (("teacher", teacher), ("student", student)):
        for part, numbers in (("train", train), ("valid", test)):
            _write(images, numbers, (root / name / part / str(labels[i]) for i in numbers))
    _write(images, unlabelled, (root / "unlabelled" for _ in unlabelled))


def _scans() -> tuple[Tensor, NDArray[np.int64]]:
    """Returns uint8 images (N, 3, 8, 8) and their labels."""
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise InputError(
            "the digits data set needs the package scikit-learn; pip install "
            "'matching-guided-distillation[demo]', or give an image folder"
        ) from error
    scans, labels = load(return_X_y=True)
    grey = torch.from_numpy(np.rint(scans * (255 / 16)).astype(np.uint8)).view(-1, 1, 8, 8)
    return grey.expand(-1, 3, -1, -1), labels


def _cut(
    numbers: NDArray[np.int64], labels: NDArray[np.int64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cuts off a part of a size, with the same share of each class."""
    from sklearn.model_selection import train_test_split

    most, part = train_test_split(numbers, test_size=size, stratify=labels[numbers], random_state=0)
    return most, part


def _write(images: Tensor, numbers: NDArray[np.int64], folders: Iterable[Path]) -> None:
    for number, folder in zip(numbers, folders, strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        to_pil_image(images[number]).save(folder / f"{number:04}.png")
