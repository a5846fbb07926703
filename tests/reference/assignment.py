"""Assignment by trying every possibility; for a handful of channels."""

import itertools
import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def best_cost(distance: Array, groups: int) -> float:
    """Returns the least total distance when each row owns `groups` columns of its own.

    Where rows outnumber columns (groups = 1), a column may serve ceil(S / T) rows.
    """
    num_rows, num_columns = distance.shape
    copies = math.ceil(groups * num_rows / num_columns)
    slots = [column for column in range(num_columns) for _ in range(copies)]
    least = math.inf
    for chosen in itertools.permutations(slots, groups * num_rows):
        total = 0.0
        for place, column in enumerate(chosen):
            total += float(distance[place % num_rows, column])
        least = min(least, total)
    return least
