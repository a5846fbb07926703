"""Running statistics: sums over batches, and so over ranks."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mgd.tensors.margin import negative_sums


class RunningSums(nn.Module):
    """Sums that are all in buffers, so device moves, checkpoints and broadcasts are free."""

    image_count: Tensor

    def __init__(self, **shapes: tuple[int, ...]):
        super().__init__()
        self._names = ("image_count", *shapes)
        for name, shape in {"image_count": (), **shapes}.items():
            self.register_buffer(name, torch.zeros(shape))

    def reset(self) -> None:
        """Forgets the statistics."""
        for buffer in self.statistics():
            buffer.zero_()

    def statistics(self) -> Iterator[Tensor]:
        """Yields the buffers that add up over batches, and so over ranks."""
        return (self.get_buffer(name) for name in self._names)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "RunningSums":
        """Moves devices but keeps float32 sums: bfloat16 cannot count beyond 256."""
        super()._apply(fn, recurse)
        for name in self._names:
            self._buffers[name] = self.get_buffer(name).float()
        return self

    def check_seen(self) -> None:
        """Checks that there is something to compute from.

        Raises:
            RuntimeError: If no images were seen.
        """
        if not self.image_count:
            raise RuntimeError(
                f"{type(self).__name__}: no images since reset(); update() it with features first"
            )


class RunningMargin(RunningSums):
    """`E[x | x < 0]` of each teacher channel, for points without a BatchNorm to read it from.

    Args:
        teacher_channels: T.
    """

    negative_sum: Tensor
    negative_count: Tensor

    def __init__(self, teacher_channels: int):
        super().__init__(negative_sum=(teacher_channels,), negative_count=(teacher_channels,))

    @torch.no_grad()
    def update(self, teacher: Float[Tensor, "batch teacher height width"]) -> None:
        """Adds a batch of pre-activation features to the statistics."""
        negative, count = negative_sums(teacher)
        self.negative_sum += negative
        self.negative_count += count
        self.image_count += len(teacher)

    def compute(self) -> Float[Tensor, " teacher"]:
        """Returns the margins (T,) over the images seen; 0 for a channel that is never negative.

        Raises:
            RuntimeError: If no images were seen.
        """
        self.check_seen()
        return self.negative_sum / self.negative_count.clamp_min(1)
