"""Update the matching from training images, on a schedule."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mgd import ranks
from mgd.errors import InputError
from mgd.inside import IMAGE_KEYS, Images, described, find_images
from mgd.method.distiller import Distiller
from mgd.method.matcher import MatchingReport


@dataclass(frozen=True)
class RematchSchedule:
    """Says before which epochs, or before which steps, the matching is solved again.

    Args:
        every_epochs: Solve before epoch 0 and every so many epochs; 0 means only once.
        every_steps: Solve before step 0 and every so many steps of the whole training; 0 leaves it
            to the epochs. With steps the epochs count no more, but for the first.

    Raises:
        InputError: For a negative number.

    Example:
        >>> from mgd import RematchSchedule
        >>> [epoch for epoch in range(6) if RematchSchedule(every_epochs=2).due(epoch)]
        [0, 2, 4]
        >>> by_steps = RematchSchedule(every_steps=500)
        >>> [step for step in range(2000) if by_steps.due_step(step)]
        [0, 500, 1000, 1500]
    """

    every_epochs: int = 1
    every_steps: int = 0

    def __post_init__(self) -> None:
        for name in ("every_epochs", "every_steps"):
            if getattr(self, name) < 0:
                raise InputError(f"`{name}` (={getattr(self, name)}) must be at least 0")

    def due(self, epoch: int) -> bool:
        """Tells whether to update before this epoch, counted from 0; never after the last."""
        every = 0 if self.every_steps else self.every_epochs
        return epoch == 0 or (every > 0 and epoch % every == 0)

    def due_step(self, step: int) -> bool:
        """Tells whether to update before this step, counted from 0 over the whole training."""
        return self.every_steps > 0 and step % self.every_steps == 0


@torch.no_grad()
def update_matching(
    distiller: Distiller, loader: Iterable[Any], max_images: int = 20_000
) -> list[MatchingReport]:
    """Measures channel distances over training images and solves every point's matching anew.

    Statistics start afresh; both networks run in eval mode. Under torch.distributed each rank
    gives its own share of the images: the sums are added over the ranks and all take rank 0's
    matching. Margins that are measured from features are renewed too.

    Args:
        distiller: Not wrapped in DataParallel or DDP.
        loader: Batches under evaluation transforms, images as `mgd.Distiller` takes them: a
            tensor or a list of images, a tuple or list that starts with it, or a mapping that has
            it under `image`, `images`, `pixel_values` or `x` (the first of these).
        max_images: Stop after this many, over all ranks together; at least 1.

    Returns:
        One report per matched point, in order. A baseline has none; its margins, where they are
        measured, are renewed.

    Raises:
        InputError: If the loader gives no images, or batches of another kind, or fewer than one
            image is asked for.

    Example:
        >>> import torch, mgd
        >>> teacher = mgd.create_model("cifar_resnet8", num_classes=10)
        >>> student = mgd.create_model("cifar_resnet8_x0_5", num_classes=10)
        >>> loader = [(torch.randn(4, 3, 32, 32), torch.zeros(4))] * 3
        >>> with mgd.Distiller(teacher, student, loader[0][0]) as distiller:
        ...     for report in mgd.update_matching(distiller, loader, max_images=10):
        ...         print(report.point, report.images)
        layer1.0.relu -> layer1.0.relu 10
        layer2.0.relu -> layer2.0.relu 10
        layer3.0.relu -> layer3.0.relu 10
    """
    start = time.perf_counter()
    if max_images < 1:
        raise InputError(f"update_matching: `max_images` (={max_images}) must be at least 1")
    statistics = list(distiller.points.running_sums())
    if not statistics:
        distiller.mark_matched()
        return []
    device = statistics[0].image_count.device
    for sums in statistics:
        sums.reset()
    for images in _at_most(_share_of_this_rank(max_images), loader):
        distiller.observe(_moved(images, device))
    add_over_ranks(distiller)
    if not all(sums.image_count for sums in statistics):
        raise InputError("update_matching: the loader gave no images")
    reports = distiller.solve_matching()
    return [replace(report, seconds=time.perf_counter() - start) for report in reports]


def add_over_ranks(distiller: Distiller) -> None:
    """Gives every rank the statistics of all ranks together."""
    sums = distiller.points.running_sums()
    ranks.sum_over_ranks(tensor for each in sums for tensor in each.statistics())


def _moved(images: Images, device: torch.device) -> Images:
    if isinstance(images, Tensor):
        return images.to(device, non_blocking=True)
    return [image.to(device, non_blocking=True) for image in images]


def _at_most(budget: int, loader: Iterable[Any]) -> Iterator[Images]:
    if budget == 0:
        return
    for batch in loader:
        images = _images_in(batch)
        yield images[:budget]
        budget -= len(images)
        if budget <= 0:
            return


def _images_in(batch: Any) -> Images:
    images = find_images(batch)
    if images is None:
        raise InputError(
            f"update_matching: the loader gives {described(batch)}; needed are batches of images, "
            "tuples that start with them, or mappings that have them under "
            f"{', '.join(IMAGE_KEYS)}"
        )
    return images


def _share_of_this_rank(images: int) -> int:
    share, rest = divmod(images, ranks.num_ranks())
    return share + (ranks.rank() < rest)
