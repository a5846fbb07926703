"""ChannelMatcher: the running distance between two layers' channels, and their matching."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from mgd.assignment import assign
from mgd.distance import channel_distance
from mgd.margin import negative_sums
from mgd.reducers import Reducer


class ChannelMatcher(nn.Module):
    """Adds up channel distances over batches and solves them into a matching.

    Everything it knows is in buffers, so device moves, checkpoints and broadcasts are free:
    `distance_sum` (S, T), `image_count`, `matching` (G, S), and for measured margins
    `negative_sum`, `negative_count` (T,).

    Args:
        student_channels, teacher_channels: S and T.
        reducer: Decides G: 1 for sparse matching, T // S (at least 1) for the others.
        solver: As in `mgd.assign`.

    Example:
        >>> matcher.reset(); matcher.update(student, teacher); matcher.solve()
        >>> target = matcher.select(teacher)
    """

    distance_sum: Tensor
    image_count: Tensor
    negative_sum: Tensor
    negative_count: Tensor
    matching: Tensor

    def __init__(
        self, student_channels: int, teacher_channels: int, reducer: Reducer, solver: str = "scipy"
    ):
        super().__init__()
        self.reducer, self.solver = reducer, solver
        self.groups = 1 if reducer.sparse else max(1, teacher_channels // student_channels)
        first = torch.arange(self.groups * student_channels) % teacher_channels
        self.register_buffer("distance_sum", torch.zeros(student_channels, teacher_channels))
        self.register_buffer("image_count", torch.zeros(()))
        self.register_buffer("negative_sum", torch.zeros(teacher_channels))
        self.register_buffer("negative_count", torch.zeros(teacher_channels))
        self.register_buffer("matching", first.view(student_channels, self.groups).T.contiguous())

    def reset(self) -> None:
        """Forgets the statistics; the matching stays until the next `solve`."""
        for buffer in self.statistics():
            buffer.zero_()

    def statistics(self) -> Iterator[Tensor]:
        """Yields the buffers that add up over batches, and so over ranks."""
        yield from (self.distance_sum, self.image_count, self.negative_sum, self.negative_count)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ChannelMatcher":
        """Moves devices but keeps float32 sums: bfloat16 cannot count beyond 256."""
        super()._apply(fn, recurse)
        for name, buffer in self._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                self._buffers[name] = buffer.float()
        return self

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
        negative, count = negative_sums(teacher)
        self.negative_sum += negative
        self.negative_count += count

    def compute(self) -> Float[Tensor, "student teacher"]:
        """Returns the mean distance (S, T) over the images seen.

        Raises:
            RuntimeError: If no images were seen.
        """
        if not self.image_count:
            raise RuntimeError(
                "ChannelMatcher: no images since reset(); update() it with features first"
            )
        return self.distance_sum / self.image_count

    def measured_margin(self) -> Float[Tensor, " teacher"]:
        """Returns `E[x | x < 0]` of each teacher channel over the images seen."""
        return self.negative_sum / self.negative_count.clamp_min(1)

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
        return self.reducer.reduce(teacher.index_select(1, group) for group in self.matching)
