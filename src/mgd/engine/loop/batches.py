"""Batches of a loader, where what is wrong with one is the user's error."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader

from mgd.errors import InputError


def batches_of(loader: DataLoader[Any]) -> Iterator[tuple[Any, Any]]:
    """Yields batches; an unreadable image found by a worker is the user's error."""
    iterator = iter(loader)
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except InputError as error:
            # torch's frames hold the error that holds them, and the workers would outlive both.
            traceback.clear_frames(error.__traceback__)
            # A worker's error comes with its traceback as text; the reason is the last line.
            reason = str(error).strip().splitlines()[-1]
            raise InputError(reason.partition("InputError: ")[2] or reason) from error
        images, targets = batch
        yield images, targets


@contextmanager
def telling_of_too_few_images() -> Iterator[None]:
    """Turns what BatchNorm raises for a single value per channel into what the user can do.

    A network whose last maps are one pixel gives it that for a batch of one image.

    Raises:
        InputError: In its place.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            "a BatchNorm of the student gets one value per channel, since a batch has one image "
            "on each process and the last maps are one pixel; raise --batch-size to at least 2 "
            "for each process, or --size"
        ) from error
