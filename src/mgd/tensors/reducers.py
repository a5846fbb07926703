"""Reducers fold the G teacher channels matched to a student channel into one target.

The choices are those of Yue et al., "Matching Guided Distillation", ECCV 2020,
https://arxiv.org/abs/2008.09958. Sparse matching is the case G = 1. Every reducer is a fold
over the groups, so that a step reads each teacher value once and never builds the
(B, G, S, H, W) stack.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Maps = Float[Tensor, "batch student height width"]
Fold = Callable[[Tensor, Tensor, int], Tensor]
"""(kept so far, next group, number of groups with the next one) -> kept"""


def sparse(kept: Maps, candidate: Maps, count: int) -> Maps:
    """One teacher channel per student channel: there is nothing to fold."""
    raise ValueError(
        "reducer 'sm' takes one teacher channel per student channel, but the matching has "
        f"at least {count} groups; solve it with groups=1"
    )


def random_drop(kept: Maps, candidate: Maps, count: int) -> Maps:
    """Keeps one of the G at random for every image, channel and position.

    Reservoir sampling: the n-th candidate replaces the kept one with probability 1 / n, so
    all are equally likely without knowing G. Drawn in float32: bfloat16 has 256 levels only.
    """
    taken = torch.rand_like(kept, dtype=torch.float32) * count < 1
    return torch.lerp(kept, candidate, taken.to(kept.dtype))  # exact; `where` is slow on a CPU


def absolute_max(kept: Maps, candidate: Maps, count: int) -> Maps:
    """Keeps, at each position, the activation of largest magnitude, with its sign.

    Features are tapped before the ReLU, where a strong negative is as telling as a
    strong positive; a plain maximum would lose it. Of `x` and `-x` it keeps the positive.

    The sum of two numbers has the sign of the larger magnitude. Put this way it takes a quarter
    of the time of `where` on a CPU, which goes through its choices one by one.
    """
    return torch.maximum(kept.abs(), candidate.abs()).copysign_(kept + candidate)


def simple_max(kept: Maps, candidate: Maps, count: int) -> Maps:
    """Keeps the largest activation at each position."""
    return torch.maximum(kept, candidate)


def simple_avg(kept: Maps, candidate: Maps, count: int) -> Maps:
    """Keeps the running mean of the groups."""
    return torch.lerp(kept, candidate, 1 / count)


def _one_of(margins: Float[Tensor, "group student"]) -> Float[Tensor, " student"]:
    choice = torch.randint(margins.shape[0], (1, margins.shape[1]), device=margins.device)
    return margins.gather(0, choice)[0]


@dataclass(frozen=True)
class Reducer:
    """How G matched teacher channels become one target, and G margins one margin.

    Args:
        title: What tables and reports call it.
        fold: Takes what is kept so far, the next group and the number of groups with it, and
            returns what is kept from then on; maps are (B, S, H, W).
        fold_margin: (G, S) margins -> (S,).
        sparse: Whether it takes a single teacher channel per student channel (G = 1).

    Example:
        >>> grouped = torch.tensor([1.0, -3.0, 2.0]).view(1, 3, 1, 1, 1)  # three groups
        >>> [mgd.REDUCERS[name].features(grouped).item() for name in ("amp", "sp")]
        [-3.0, 2.0]
    """

    title: str
    fold: Fold
    fold_margin: Callable[[Tensor], Tensor]
    sparse: bool = False
    """Whether it takes a single teacher channel per student channel (G = 1)."""

    def reduce(self, groups: Iterable[Tensor]) -> Tensor:
        """Folds (B, S, H, W) maps, one per group, into one; `groups` may be a generator."""
        stream = iter(groups)
        kept = next(stream)
        for count, candidate in enumerate(stream, start=2):
            kept = self.fold(kept, candidate, count)
        return kept

    def features(
        self, grouped: Float[Tensor, "batch group student height width"]
    ) -> Float[Tensor, "batch student height width"]:
        """Folds a stack of matched teacher features; (B, G, S, H, W) -> (B, S, H, W)."""
        return self.reduce(grouped.unbind(1))

    def margin(self, margins: Float[Tensor, "group student"]) -> Float[Tensor, " student"]:
        """Folds the margins of the matched teacher channels; (G, S) -> (S,)."""
        return self.fold_margin(margins)


REDUCERS: dict[str, Reducer] = {
    "sm": Reducer("sparse matching", sparse, lambda margins: margins[0], sparse=True),
    "rd": Reducer("random drop", random_drop, _one_of),
    "amp": Reducer("absolute max pooling", absolute_max, lambda margins: margins.mean(0)),
    "sp": Reducer("simple max pooling", simple_max, lambda margins: margins.amax(0)),
    "avg": Reducer("simple average pooling", simple_avg, lambda margins: margins.mean(0)),
}
"""Name, as in `--mgd-reducer`, -> reducer."""
