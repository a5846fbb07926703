"""Assignment: from channel distances to the teacher channels that each student channel follows."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mgd.errors import InputError

Cost = npt.NDArray[np.float64]
Columns = npt.NDArray[np.int64]


def assign(
    distance: Float[Tensor, "student teacher"], groups: int | None = None, solver: str = "scipy"
) -> Int64[Tensor, "group student"]:
    """Gives each student channel its teacher channels, at the least total distance.

    A rectangular linear assignment (Yue et al., ECCV 2020, section 3.2): the student rows are
    repeated G times and every teacher channel is used at most once, so all T channels are
    considered even when T is not a multiple of S. A student wider than its teacher (S > T)
    gets one teacher channel each, and each teacher channel at most ceil(S / T) students.

    Args:
        distance: (S, T), finite; from `channel_distance`.
        groups: G, teacher channels per student channel, at most T // S. `None` means
            T // S, at least 1.
        solver: A name in `SOLVERS`: "scipy" (default), "ortools" (the extra of that name),
            "original" (leaves out the last T mod S teacher channels, as the original code) or
            "random" (ignores the distances: the control experiment of the method).

    Returns:
        (G, S) teacher channel numbers on the device of `distance`, ascending within a student
        channel.

    Raises:
        InputError: For a distance that is not finite, groups out of range or an unknown solver.

    Example:
        >>> distance = torch.tensor([[0.1, 0.9, 0.2, 1.0], [0.8, 0.1, 0.3, 0.4]])
        >>> mgd.assign(distance)  # student channel 0 follows teacher channels 0 and 2
        tensor([[0, 1],
                [2, 3]])
    """
    num_student, num_teacher = distance.shape
    if groups is None:
        groups = max(1, num_teacher // num_student)
    if groups < 1 or (groups > 1 and groups * num_student > num_teacher):
        raise InputError(
            f"assign: `groups` (={groups}) must be from 1 to {max(1, num_teacher // num_student)}: "
            f"{num_student} student channels share {num_teacher} teacher channels"
        )
    if solver not in SOLVERS:
        raise InputError(f"assign: unknown solver '{solver}'; choose one of {', '.join(SOLVERS)}")
    cost = distance.detach().cpu().double().numpy()
    if not np.isfinite(cost).all():
        raise InputError(
            f"assign: {int((~np.isfinite(cost)).sum())} of {cost.size} distances are NaN or "
            "infinite; look for NaN in the features of the two networks"
        )
    rows = np.tile(cost, (groups, 1))
    copies = -(-len(rows) // num_teacher)  # more than 1 only for S > T
    columns = SOLVERS[solver](np.tile(rows, (1, copies))) % num_teacher
    matching = np.sort(columns.reshape(groups, num_student), axis=0)
    return torch.from_numpy(matching).to(distance.device)


def _solve_scipy(cost: Cost) -> Columns:
    from scipy.optimize import linear_sum_assignment

    if cost.shape[0] == cost.shape[1]:
        # Where every column is taken, what its entries have in common changes no choice; without
        # it the solver's searches end sooner.
        cost = cost - cost.min(axis=0)
    return np.asarray(linear_sum_assignment(cost)[1], dtype=np.int64)


def _solve_ortools(cost: Cost) -> Columns:
    """Solves on integers: costs are scaled to 2**30 steps per unit, about nine digits."""
    try:
        from ortools.graph.python.linear_sum_assignment import SimpleLinearSumAssignment
    except ImportError as error:
        raise InputError(
            "assign: solver 'ortools' needs the package ortools; "
            "pip install 'matching-guided-distillation[ortools]' or use solver 'scipy'"
        ) from error
    rows, columns = cost.shape
    # OR-Tools wants a square problem: rows that cost nothing take the channels left over.
    square = np.zeros((columns, columns), dtype=np.int64)
    square[:rows] = np.rint((cost - cost.min()) * 2**30)
    left, right = np.indices(square.shape, dtype=np.int32)
    problem = SimpleLinearSumAssignment()
    problem.add_arcs_with_cost(left.ravel(), right.ravel(), square.ravel())
    if problem.solve() != problem.OPTIMAL:
        raise RuntimeError(f"OR-Tools found no assignment for a cost of shape {cost.shape}")
    return np.array([problem.right_mate(row) for row in range(rows)], dtype=np.int64)


def _solve_original(cost: Cost) -> Columns:
    """Leaves out the last channels, so that every student channel has as many candidates."""
    rows, columns = cost.shape
    return _solve_scipy(cost[:, : columns - columns % rows])


def _solve_random(cost: Cost) -> Columns:
    """Draws from torch's generator, so that seeds and checkpoints cover it."""
    return torch.randperm(cost.shape[1])[: cost.shape[0]].numpy()


SOLVERS: dict[str, Callable[[Cost], Columns]] = {
    "scipy": _solve_scipy,
    "ortools": _solve_ortools,
    "original": _solve_original,
    "random": _solve_random,
}
"""Name -> (cost of each row and column) -> the column of each row; see `assign`."""
