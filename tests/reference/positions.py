"""Losses over positions and weights from boxes, one value at a time."""

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def position_kl(student: Array, target: Array, temperature: float, weights: Array) -> Array:
    """(B, C, H, W), (B, C, H, W), T, (B, H, W) -> (B,): T^2 KL, the mean over channels."""
    losses = np.zeros(student.shape[0])
    for b, c in np.ndindex(student.shape[:2]):
        places = [place for place in np.ndindex(student.shape[2:]) if weights[b][place] > 0]
        shares = []
        for maps in (target, student):
            powers = [weights[b][p] * math.exp(maps[b, c][p] / temperature) for p in places]
            shares.append([power / sum(powers) for power in powers])
        divergence = sum(p * math.log(p / q) for p, q in zip(*shares, strict=True))
        losses[b] += temperature**2 * divergence / student.shape[1]
    return losses


def weighted_mean(values: Array, weights: Array) -> Array:
    """(B, C, H, W), (B, H, W) -> (B,): the mean over channels and positions."""
    means = np.zeros(len(values))
    for b, c, y, x in np.ndindex(values.shape):
        means[b] += values[b, c, y, x] * weights[b, y, x]
    means /= values.shape[1] * weights.sum((1, 2))
    return means


def box_weights(
    boxes: Array, scores: Array, scale: tuple[float, float], size: tuple[int, int], outside: float
) -> Array:
    """(N, 4) in pixels, (N,) -> (rows, columns): the best score among the boxes on a position.

    `scale` is how many positions a pixel has, down and across.
    """
    weights = np.full(size, outside)
    for row, column in np.ndindex(*size):
        for (left, top, right, bottom), score in zip(boxes, scores, strict=True):
            down = top * scale[0] < row + 1 and bottom * scale[0] > row
            across = left * scale[1] < column + 1 and right * scale[1] > column
            if down and across:
                weights[row, column] = max(weights[row, column], score)
    return weights
