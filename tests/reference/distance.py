"""Channel distance, one pair of channels and one image at a time."""

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def channel_distance(student: Array, teacher: Array) -> Array:
    """(B, S, H, W), (B, T, H, W) -> (S, T): mean over images of 2 - 2 cos."""
    distance = np.zeros((student.shape[1], teacher.shape[1]))
    for s in range(student.shape[1]):
        for t in range(teacher.shape[1]):
            total = 0.0
            for image in range(student.shape[0]):
                total += 2 - 2 * _cosine(student[image, s], teacher[image, t])
            distance[s, t] = total / student.shape[0]
    return distance


def _cosine(left: Array, right: Array) -> float:
    product = left_square = right_square = 0.0
    for a, b in zip(left.ravel(), right.ravel(), strict=True):
        product += float(a * b)
        left_square += float(a * a)
        right_square += float(b * b)
    if left_square == 0 or right_square == 0:
        return 0.0
    return product / math.sqrt(left_square) / math.sqrt(right_square)
