"""Margins by numerical integration of the density, not by the closed formula."""

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def margin_of_normal(sigma: float, mu: float, steps: int = 20_000) -> float:
    """Returns `E[x | x < 0]` of a normal variable, or -3 sigma where it is hardly ever negative."""
    sigma = abs(sigma)
    if sigma == 0:
        return min(mu, 0.0)
    low = min(mu, 0.0) - 12 * sigma
    width = -low / steps
    mass = moment = 0.0
    for step in range(steps):
        x = low + (step + 0.5) * width
        density = math.exp(-(((x - mu) / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi))
        mass += density * width
        moment += x * density * width
    return moment / mass if mass > 0.001 else -3 * sigma


def margin_from_features(features: Array) -> Array:
    """(B, T, H, W) -> (T,): the mean of the negative values, zero where there are none."""
    margins = np.zeros(features.shape[1])
    for channel in range(features.shape[1]):
        negative = [float(x) for x in features[:, channel].ravel() if x < 0]
        margins[channel] = sum(negative) / len(negative) if negative else 0.0
    return margins
