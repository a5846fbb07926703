"""Batches of a loader, where the error of a worker is the user's own."""

import traceback
from collections.abc import Iterator
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
