"""Running statistics: sums over batches, which add up over ranks as well."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mgd.tensors.margin import negative_sums


class RunningSums(nn.Module):
    """Sums that live in buffers, so that device moves and checkpoints include them.

    The life of such a statistic is `reset`, `update` once a batch, and `compute`. A subclass adds
    `update` and `compute`.

    Args:
        dtype: Of the sums; float32 holds a count of images up to 16 million.
        **shapes: Name and shape of each sum. `image_count` is always there.
    """

    image_count: Tensor

    def __init__(self, dtype: torch.dtype = torch.float32, **shapes: tuple[int, ...]):
        super().__init__()
        self._names, self._dtype = ("image_count", *shapes), dtype
        for name, shape in {"image_count": (), **shapes}.items():
            self.register_buffer(name, torch.zeros(shape, dtype=dtype))

    def reset(self) -> None:
        """Sets every sum to zero."""
        for buffer in self.statistics():
            buffer.zero_()

    def statistics(self) -> Iterator[Tensor]:
        """Yields the buffers that add up over batches and ranks."""
        return (self.get_buffer(name) for name in self._names)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "RunningSums":
        """Moves devices but keeps the sums' type: bfloat16 cannot count beyond 256."""
        super()._apply(fn, recurse)  # torch's own way to move a module has no public name
        for name in self._names:
            setattr(self, name, self.get_buffer(name).to(self._dtype))
        return self

    def check_seen(self) -> None:
        """Checks that there is something to compute from.

        Raises:
            RuntimeError: If no images were seen since `reset`.
        """
        if not self.image_count:
            raise RuntimeError(
                f"{type(self).__name__}: no images since reset(); update() it with features first"
            )


class RunningMargin(RunningSums):
    """Measures `E[x | x < 0]` of each teacher channel, where no BatchNorm tells it.

    Args:
        teacher_channels: T.

    Example:
        >>> import torch
        >>> from mgd.method.running import RunningMargin
        >>> margin = RunningMargin(teacher_channels=1)
        >>> margin.update(torch.tensor([-3.0, -1.0, 5.0]).view(1, 1, 1, 3))
        >>> margin.compute()
        tensor([-2.])
    """

    negative_sum: Tensor
    negative_count: Tensor

    def __init__(self, teacher_channels: int):
        super().__init__(negative_sum=(teacher_channels,), negative_count=(teacher_channels,))

    @torch.no_grad()
    def update(self, teacher: Float[Tensor, "batch teacher height width"]) -> None:
        """Adds a batch of pre-activation features, (B, T, H, W)."""
        negative, count = negative_sums(teacher)
        self.negative_sum += negative
        self.negative_count += count
        self.image_count += len(teacher)

    def compute(self) -> Float[Tensor, " teacher"]:
        """Returns the margins (T,) over the images seen; 0 for a channel that is never negative.

        Raises:
            RuntimeError: If no images were seen since `reset`.
        """
        self.check_seen()
        return self.negative_sum / self.negative_count.clamp_min(1)
