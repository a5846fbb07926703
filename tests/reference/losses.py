"""Losses, one value at a time."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def partial_l2(student: Array, target: Array, margin: Array) -> Array:
    """(B, S, H, W), (B, S, H, W), (S,) -> (B,)."""
    losses = np.zeros(student.shape[0])
    for b, s, y, x in np.ndindex(student.shape):
        wanted = max(float(target[b, s, y, x]), float(margin[s]))
        given = float(student[b, s, y, x])
        if given > wanted or wanted > 0:
            losses[b] += (given - wanted) ** 2
    return losses


def partial_l2_gradient(student: Array, target: Array, margin: Array) -> Array:
    """Gradient of the sum over images to `student`, by central differences."""
    gradient = np.zeros_like(student)
    step = 1e-6
    for place in np.ndindex(student.shape):
        above, below = student.copy(), student.copy()
        above[place] += step
        below[place] -= step
        rise = partial_l2(above, target, margin).sum() - partial_l2(below, target, margin).sum()
        gradient[place] = rise / (2 * step)
    return gradient


def point_weights(num_points: int) -> Array:
    """The deepest point weighs 1, each one before it half as much."""
    weights = np.ones(num_points)
    for point in range(num_points - 2, -1, -1):
        weights[point] = weights[point + 1] / 2
    return weights
