"""Reducers, one value at a time. Random drop has no single right answer and is not here."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def _combine(values: list[float], name: str) -> float:
    if name == "sm":
        (only,) = values
        return only
    if name == "amp":
        strongest = values[0]
        for value in values[1:]:
            if abs(value) > abs(strongest):
                strongest = value
        return strongest
    if name == "sp":
        return max(values)
    if name == "avg":
        return sum(values) / len(values)
    raise KeyError(name)


def reduce_features(grouped: Array, name: str) -> Array:
    """(B, G, S, H, W) -> (B, S, H, W)."""
    batch, groups, student, height, width = grouped.shape
    reduced = np.zeros((batch, student, height, width))
    for b, s, y, x in np.ndindex(reduced.shape):
        reduced[b, s, y, x] = _combine([float(grouped[b, g, s, y, x]) for g in range(groups)], name)
    return reduced


def reduce_margins(margins: Array, name: str) -> Array:
    """(G, S) -> (S,); the margin of absolute max pooling is the mean of its group's."""
    kind = "avg" if name == "amp" else name
    return np.array([_combine([float(m) for m in column], kind) for column in margins.T])
