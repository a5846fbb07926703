"""The digits of scikit-learn: 1 797 real scans of handwritten digits, 8×8 pixels."""

import numpy as np
import torch

from mgd.data.splits import Splits, TensorSplit
from mgd.errors import InputError


def load_digits() -> Splits:
    """Loads the digits as 897 training, 300 validation and 600 test images.

    The split is fixed and stratified: each part has the same share of each digit. The grey values
    0 to 16 are scaled to 0 to 255 and repeated in three colour channels, which networks expect.

    Raises:
        InputError: If scikit-learn, which contains the data, is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise InputError(
            "the digits data set needs the package scikit-learn; pip install "
            "'matching-guided-distillation[demo]', or give an image folder"
        ) from error
    scans, labels = load(return_X_y=True)
    grey = torch.from_numpy(np.rint(scans * (255 / 16)).astype(np.uint8)).view(-1, 1, 8, 8)
    images = grey.expand(-1, 3, -1, -1)
    rest, test = train_test_split(
        np.arange(len(labels)), test_size=600, stratify=labels, random_state=0
    )
    train, valid = train_test_split(rest, test_size=300, stratify=labels[rest], random_state=0)
    parts = [TensorSplit(images[part], labels[part].tolist()) for part in (train, valid, test)]
    return Splits(
        [str(digit) for digit in range(10)], parts[0], parts[1], parts[2], augment="shift"
    )
