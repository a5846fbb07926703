"""ChannelMatcher: the running distance between two layers' channels, and their matching."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mgd.method.running import RunningSums
from mgd.tensors.assignment import assign
from mgd.tensors.distance import channel_distance
from mgd.tensors.memory import memory_blocks, take_channels
from mgd.tensors.reducers import Reducer


class ChannelMatcher(RunningSums):
    """Adds up channel distances over batches and solves them into a matching.

    Everything it knows is in buffers: `distance_sum` (S, T), `image_count`, `matching` (G, S).

    Args:
        student_channels, teacher_channels: S and T.
        reducer: Decides G: 1 for sparse matching, T // S (at least 1) for the others.
        solver: As in `mgd.assign`.

    Example:
        >>> matcher.reset(); matcher.update(student, teacher); matcher.solve()
        >>> target = matcher.select(teacher)
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
        """Adds a batch of pre-activation features to the statistics, without leaving the device."""
        num_images = student.shape[0]
        self.distance_sum += channel_distance(student, teacher) * num_images
        self.image_count += num_images

    def compute(self) -> Float[Tensor, "student teacher"]:
        """Returns the mean distance (S, T) over the images seen.

        Raises:
            RuntimeError: If no images were seen.
        """
        self.check_seen()
        return self.distance_sum / self.image_count

    def solve(self) -> Int64[Tensor, "group student"]:
        """Solves the assignment on the mean distance and keeps the matching."""
        self.matching.copy_(assign(self.compute(), self.groups, self.solver))
        return self.matching

    def cost(self) -> float:
        """Returns the mean distance, in [0, 4], of the pairs matched now."""
        return float(self.compute().T.gather(0, self.matching).mean())

    def select(
        self, teacher: Float[Tensor, "batch teacher height width"]
    ) -> Float[Tensor, "batch student height width"]:
        """Reduces the matched teacher channels to one target per student channel."""
        if len(blocks := memory_blocks(teacher)) == 1:
            return self._fold(teacher)
        return torch.cat([self._fold(teacher[block]) for block in blocks])

    def _fold(self, teacher: Tensor) -> Tensor:
        return self.reducer.reduce(take_channels(teacher, group) for group in self.matching)
