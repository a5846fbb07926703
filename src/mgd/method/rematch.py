"""Update the matching from training images, on a schedule."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mgd.errors import InputError
from mgd.method.distiller import Distiller
from mgd.method.point import MatchedPoint


@dataclass(frozen=True)
class MatchingReport:
    """What one update did at one point."""

    point: str
    cost_before: float
    """Mean distance of the pairs matched before, on the new statistics, in [0, 4]."""
    cost_after: float
    """The same for the new pairs; never larger with an exact solver."""
    churn: float
    """Share of teacher channels that changed their student channel, in [0, 1]."""
    dead_channels: int
    """Student channels that are zero on every image seen."""
    images: int
    seconds: float
    """Time of the whole update, all points."""


@dataclass(frozen=True)
class RematchSchedule:
    """Says before which epochs the matching is solved again.

    Args:
        every_epochs: Solve before epoch 0 and every so many epochs; 0 means only once.
    """

    every_epochs: int = 1

    def due(self, epoch: int) -> bool:
        """Tells whether to update before this epoch, counted from 0; never after the last."""
        return epoch == 0 or (self.every_epochs > 0 and epoch % self.every_epochs == 0)


@torch.no_grad()
def update_matching(
    distiller: Distiller, loader: Iterable[Any], max_images: int = 20_000
) -> list[MatchingReport]:
    """Measures channel distances over training images and solves every point's matching anew.

    Statistics start afresh; both networks run in eval mode. Under torch.distributed each rank
    gives its own shard: the sums are added over the ranks and all take rank 0's matching.
    Margins that are measured from features are renewed too.

    Args:
        distiller: Not wrapped in DataParallel or DDP.
        loader: Batches of images, or tuples that start with images, under evaluation transforms.
        max_images: Stop after this many, over all ranks together.

    Returns:
        One report per matched point, in order; none for a baseline, whose margins alone, where
        they are measured, are renewed.

    Raises:
        InputError: If the loader gives no images, or fewer than one is asked for.

    Example:
        >>> for report in mgd.update_matching(distiller, loader): print(report.cost_after)
    """
    start = time.perf_counter()
    if max_images < 1:
        raise InputError(f"update_matching: `max_images` (={max_images}) must be at least 1")
    distiller.matching_is_solved = True
    if not distiller.needs_images:
        return []
    statistics = list(distiller.running_sums())
    device = statistics[0].image_count.device
    for sums in statistics:
        sums.reset()
    for images in _at_most(_share_of_this_rank(max_images), loader):
        distiller.observe(images.to(device, non_blocking=True))
    add_over_ranks(distiller)
    if not all(sums.image_count for sums in statistics):
        raise InputError("update_matching: the loader gave no images")
    return solve_matching(distiller, start)


@torch.no_grad()
def solve_matching(distiller: Distiller, start: float | None = None) -> list[MatchingReport]:
    """Solves every point's matching on the statistics that are there, and renews the margins.

    For statistics from `distiller.observe`, or from training steps with `distiller.tracking`.

    Args:
        distiller: Whose statistics are the same on all ranks.
        start: When the update began, by `time.perf_counter()`; default: now.

    Returns:
        One report per matched point, in order.
    """
    start = time.perf_counter() if start is None else start
    distiller.update_margins()
    return [_solve(point, start) for point in distiller.matched_points()]


def add_over_ranks(distiller: Distiller) -> None:
    """Gives every rank the statistics of all ranks together."""
    if dist.is_initialized():
        for sums in distiller.running_sums():
            for statistic in sums.statistics():
                dist.all_reduce(statistic)


def _at_most(budget: int, loader: Iterable[Any]) -> Iterator[Tensor]:
    if budget == 0:
        return
    for batch in loader:
        images = batch if isinstance(batch, Tensor) else batch[0]
        yield images[:budget]
        budget -= len(images)
        if budget <= 0:
            return


def _share_of_this_rank(images: int) -> int:
    if not dist.is_initialized():
        return images
    share, rest = divmod(images, dist.get_world_size())
    return share + (dist.get_rank() < rest)


def _solve(point: MatchedPoint, start: float) -> MatchingReport:
    matcher = point.matcher
    before, cost_before = matcher.matching.clone(), matcher.cost()
    matcher.solve()  # on every rank, so that unusable distances end all of them
    if dist.is_initialized():
        dist.broadcast(matcher.matching, src=0)
    return MatchingReport(
        point=point.pair.name,
        cost_before=cost_before,
        cost_after=matcher.cost(),
        churn=_churn(before, matcher.matching),
        dead_channels=int((matcher.compute() == 2).all(1).sum()),
        images=int(matcher.image_count),
        seconds=time.perf_counter() - start,
    )


def _churn(before: Tensor, after: Tensor) -> float:
    """Compares sets: the order of a student channel's teacher channels means nothing."""
    kept = (before[:, None] == after[None]).any(0)
    return 1 - float(kept.float().mean())
