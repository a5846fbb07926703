"""Reducers make one target of the G teacher channels that are matched to a student channel.

The choices are those of Yue et al., "Matching Guided Distillation", ECCV 2020,
https://arxiv.org/abs/2008.09958. Sparse matching is the case G = 1. Every reducer takes the groups
one after the other and keeps one intermediate result. So it reads each teacher value once, and
never needs the memory of a (B, G, S, H, W) tensor.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from operator import itemgetter

import torch
from jaxtyping import Float
from torch import Tensor

Maps = Float[Tensor, "batch student height width"]
Combine = Callable[[Tensor, Tensor, int], Tensor]
"""One step: (result so far, next group, number of groups including it) -> new result."""


def sparse(kept: Maps, candidate: Maps, count: int) -> Maps:
    """Refuses a second group: sparse matching has one teacher channel per student channel.

    Raises:
        ValueError: Always.
    """
    raise ValueError(
        "reducer 'sm' takes one teacher channel per student channel, but the matching has "
        f"at least {count} groups; solve it with groups=1"
    )


def random_drop(kept: Maps, candidate: Maps, count: int) -> Maps:
    """Keeps one of the G values at random, for each image, channel and position.

    This is reservoir sampling: the n-th value replaces the kept one with probability 1 / n. So all
    are equally likely, and G need not be known. The random numbers are float32, because bfloat16
    has too few digits.
    """
    taken = torch.rand_like(kept, dtype=torch.float32) * count < 1
    return torch.lerp(kept, candidate, taken.to(kept.dtype))  # exact; `where` is slow on a CPU


def absolute_max(kept: Maps, candidate: Maps, count: int) -> Maps:
    """Keeps, at each position, the value of largest magnitude, with its sign.

    Features are tapped before the ReLU. There a large negative value says as much as a large
    positive one, and a plain maximum would lose it. Of `x` and `-x` it keeps the positive value.
    """
    # The sum of two numbers has the sign of the larger magnitude. On a CPU this takes a quarter of
    # the time of `where`.
    return torch.maximum(kept.abs(), candidate.abs()).copysign_(kept + candidate)


def simple_max(kept: Maps, candidate: Maps, count: int) -> Maps:
    """Keeps the largest value at each position."""
    return torch.maximum(kept, candidate)


def simple_avg(kept: Maps, candidate: Maps, count: int) -> Maps:
    """Keeps the mean of the groups so far."""
    return torch.lerp(kept, candidate, 1 / count)


def _one_of(margins: Float[Tensor, "group student"]) -> Float[Tensor, " student"]:
    choice = torch.randint(margins.shape[0], (1, margins.shape[1]), device=margins.device)
    return margins.gather(0, choice)[0]


@dataclass(frozen=True)
class Reducer:
    """How G matched teacher channels become one target, and their G margins one margin."""

    title: str
    """Name to show to a reader."""
    combine: Combine
    """One step of reducing features: the result so far and the next group -> the new result."""
    combine_margin: Callable[[Tensor], Tensor]
    """Reduces margins: (G, S) -> (S,). No lambda, which `torch.save(distiller)` cannot write."""
    sparse: bool = False
    """Whether there is a single teacher channel per student channel (G = 1)."""

    def reduce(self, groups: Iterable[Tensor]) -> Tensor:
        """Reduces the features of all groups to one target (B, S, H, W).

        Args:
            groups: Features (B, S, H, W) of each group, at least one; may be a generator.
        """
        stream = iter(groups)
        kept = next(stream)
        for count, candidate in enumerate(stream, start=2):
            kept = self.combine(kept, candidate, count)
        return kept

    def features(
        self, grouped: Float[Tensor, "batch group student height width"]
    ) -> Float[Tensor, "batch student height width"]:
        """Reduces matched teacher features in one tensor; (B, G, S, H, W) -> (B, S, H, W)."""
        return self.reduce(grouped.unbind(1))

    def margin(self, margins: Float[Tensor, "group student"]) -> Float[Tensor, " student"]:
        """Reduces the margins of the matched teacher channels; (G, S) -> (S,)."""
        return self.combine_margin(margins)


REDUCERS: dict[str, Reducer] = {
    "sm": Reducer("sparse matching", sparse, itemgetter(0), sparse=True),
    "rd": Reducer("random drop", random_drop, _one_of),
    "amp": Reducer("absolute max pooling", absolute_max, partial(torch.mean, dim=0)),
    "sp": Reducer("simple max pooling", simple_max, partial(torch.amax, dim=0)),
    "avg": Reducer("simple average pooling", simple_avg, partial(torch.mean, dim=0)),
}
"""Name, as in `--mgd-reducer`, -> reducer."""
