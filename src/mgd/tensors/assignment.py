"""Assignment: which teacher channels each student channel follows, given channel distances."""

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

    It solves a rectangular linear assignment (Yue et al., ECCV 2020, section 3.2): the rows of
    the student are repeated G times, and every teacher channel is used at most once. So all T
    channels are considered, also when T is not a multiple of S. If the student is wider than the
    teacher (S > T), each student channel gets one teacher channel, and each teacher channel is
    used at most ceil(S / T) times.

    Args:
        distance: (S, T), finite; from `channel_distance`.
        groups: G, the number of teacher channels per student channel, from 1 to T // S. `None`
            means T // S, at least 1.
        solver: A name in `SOLVERS`. "scipy" and "ortools" find the least total distance;
            "ortools" needs the extra of that name. "original" does so without the last T mod S
            teacher channels, as the authors' code. "random" ignores the distances and draws from
            torch's generator, for control experiments.

    Returns:
        The matching: teacher channel numbers (G, S), on the device of `distance`, in ascending
        order for each student channel.

    Raises:
        InputError: If a distance is not finite, `groups` is out of range, or the solver is
            unknown.

    Example:
        >>> import torch, mgd
        >>> distance = torch.tensor([[0.1, 2.0, 0.3, 2.0], [2.0, 0.2, 2.0, 0.4]])
        >>> mgd.assign(distance)  # 2 student channels, 4 teacher channels
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
        # Every column is used, so a constant taken from a column changes no choice. With the
        # smallest entry of each column subtracted, the solver is faster.
        cost = cost - cost.min(axis=0)
    return np.asarray(linear_sum_assignment(cost)[1], dtype=np.int64)


def _solve_ortools(cost: Cost) -> Columns:
    """Solves on integers: a cost of 1 becomes 2**30, so about nine digits are kept."""
    try:
        from ortools.graph.python.linear_sum_assignment import SimpleLinearSumAssignment
    except ImportError as error:
        raise InputError(
            "assign: solver 'ortools' needs the package ortools; "
            "pip install 'matching-guided-distillation[ortools]' or use solver 'scipy'"
        ) from error
    rows, columns = cost.shape
    # OR-Tools needs a square matrix: added rows of cost 0 take the columns that are left over.
    square = np.zeros((columns, columns), dtype=np.int64)
    square[:rows] = np.rint((cost - cost.min()) * 2**30)
    left, right = np.indices(square.shape, dtype=np.int32)
    problem = SimpleLinearSumAssignment()
    problem.add_arcs_with_cost(left.ravel(), right.ravel(), square.ravel())
    if problem.solve() != problem.OPTIMAL:
        raise RuntimeError(f"OR-Tools found no assignment for a cost of shape {cost.shape}")
    return np.array([problem.right_mate(row) for row in range(rows)], dtype=np.int64)


def _solve_original(cost: Cost) -> Columns:
    """Leaves out the last T mod S teacher channels, as the authors' code."""
    rows, columns = cost.shape
    return _solve_scipy(cost[:, : columns - columns % rows])


def _solve_random(cost: Cost) -> Columns:
    """Draws from torch's generator, whose state is set by seeds and saved in checkpoints."""
    return torch.randperm(cost.shape[1])[: cost.shape[0]].numpy()


SOLVERS: dict[str, Callable[[Cost], Columns]] = {
    "scipy": _solve_scipy,
    "ortools": _solve_ortools,
    "original": _solve_original,
    "random": _solve_random,
}
"""Name -> (cost of each row and column) -> the column of each row; see `assign`."""
