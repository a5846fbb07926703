"""ChannelMatcher: the running distance between two layers' channels, and their matching."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mgd import ranks
from mgd.method.running import RunningSums
from mgd.tensors.assignment import assign
from mgd.tensors.distance import channel_distance
from mgd.tensors.memory import memory_blocks, take_channels
from mgd.tensors.reducers import Reducer


@dataclass(frozen=True)
class MatchingReport:
    """What one update of a matching did."""

    cost_before: float
    """Mean distance of the pairs matched before, on the new statistics, in [0, 4]."""
    cost_after: float
    """The same for the new pairs; never larger with an exact solver."""
    churn: float
    """Share of teacher channels that changed their student channel, in [0, 1]."""
    dead_channels: int
    """Student channels that are zero on every image seen."""
    images: int
    """Images that the distances were measured on, over all ranks."""
    point: str = ""
    """Name of the point that the matching belongs to."""
    seconds: float = 0.0
    """Time of the whole update, all points."""


class ChannelMatcher(RunningSums):
    """Adds up channel distances over batches and solves them into a matching.

    All that it knows is in buffers: `distance_sum` (S, T), `image_count`, `matching` (G, S).

    Args:
        student_channels: S, at least 1.
        teacher_channels: T, at least 1.
        reducer: Decides G: 1 for sparse matching, T // S (at least 1) for the others.
        solver: A name in `mgd.SOLVERS`, as in `mgd.assign`.

    Example:
        >>> import torch, mgd
        >>> student = torch.randn(4, 2, 7, 7)
        >>> teacher = torch.cat([student[:, [1]], student[:, [0]]], dim=1)  # the channels swapped
        >>> matcher = mgd.ChannelMatcher(2, 2, mgd.REDUCERS["amp"])
        >>> matcher.update(student, teacher)
        >>> matcher.solve()
        tensor([[1, 0]])
        >>> torch.equal(matcher.select(teacher), student)
        True
    """

    distance_sum: Tensor
    matching: Tensor

    def __init__(
        self, student_channels: int, teacher_channels: int, reducer: Reducer, solver: str = "scipy"
    ):
        super().__init__(distance_sum=(student_channels, teacher_channels))
        self.reducer, self.solver = reducer, solver
        self.groups = 1 if reducer.sparse else max(1, teacher_channels // student_channels)
        first = torch.arange(self.groups * student_channels) % teacher_channels
        self.register_buffer("matching", first.view(student_channels, self.groups).T.contiguous())

    @torch.no_grad()
    def update(
        self,
        student: Float[Tensor, "batch student height width"],
        teacher: Float[Tensor, "batch teacher height width"],
    ) -> None:
        """Adds a batch of pre-activation features; the host does not wait for the device."""
        num_images = student.shape[0]
        self.distance_sum += channel_distance(student, teacher) * num_images
        self.image_count += num_images

    def compute(self) -> Float[Tensor, "student teacher"]:
        """Returns the mean distance (S, T) over the images seen, in [0, 4].

        Raises:
            RuntimeError: If no images were seen since `reset`.
        """
        self.check_seen()
        return self.distance_sum / self.image_count

    @torch.no_grad()
    def solve(self) -> Int64[Tensor, "group student"]:
        """Solves the assignment on the mean distance and keeps the matching.

        Raises:
            RuntimeError: If no images were seen since `reset`.
            InputError: For distances that are not finite.
        """
        self.matching.copy_(assign(self.compute(), self.groups, self.solver))
        return self.matching

    def rematch(self) -> MatchingReport:
        """Solves on every rank, keeps the matching of rank 0, and says what changed.

        The statistics must be the same on all ranks; then unusable distances end all of them.

        Raises:
            RuntimeError, InputError: As `solve`.
        """
        before, cost_before = self.matching.clone(), self.cost()
        ranks.share([self.solve()])
        return MatchingReport(
            cost_before=cost_before,
            cost_after=self.cost(),
            churn=_churn(before, self.matching),
            dead_channels=int(self.dead_channels()[0].sum()),
            images=int(self.image_count),
        )

    def cost(self) -> float:
        """Returns the mean distance, in [0, 4], of the pairs matched now."""
        return float(self.compute().T.gather(0, self.matching).mean())

    def dead_channels(self) -> tuple[Tensor, Tensor]:
        """Tells which student (S,) and teacher (T,) channels were zero on every image seen.

        Such a channel has distance 2 to all others.
        """
        is_dead = self.compute() == 2
        return is_dead.all(1), is_dead.all(0)

    def select(
        self, teacher: Float[Tensor, "batch teacher height width"]
    ) -> Float[Tensor, "batch student height width"]:
        """Reduces the matched teacher channels to one target per student channel."""
        if len(blocks := memory_blocks(teacher)) == 1:
            return self._reduce(teacher)
        return torch.cat([self._reduce(teacher[block]) for block in blocks])

    def _reduce(self, teacher: Tensor) -> Tensor:
        return self.reducer.reduce(take_channels(teacher, group) for group in self.matching)


def _churn(before: Int64[Tensor, "group student"], after: Int64[Tensor, "group student"]) -> float:
    """Compares sets: the order of a student channel's teacher channels means nothing."""
    kept = (before[:, None] == after[None]).any(0)
    return 1 - float(kept.float().mean())
