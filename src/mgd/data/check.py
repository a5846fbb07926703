"""Finds the images of a data set that cannot be read, before training starts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from mgd import ranks
from mgd.data.splits import Split, Splits, Subset
from mgd.errors import InputError

_AT_ONCE = 32

Watch = Callable[[Iterable[Any], int], Iterable[Any]]
"""Passes on items, of which there are so many, and shows how far it is."""


def unwatched(items: Iterable[Any], number: int) -> Iterable[Any]:
    """Passes items on, and shows nothing."""
    return items


class _Faults(Dataset[str]):
    """For each image of a split, the reason why it cannot be read; empty if it can."""

    def __init__(self, split: Split):
        self.split = split

    def __getitem__(self, index: int) -> str:
        try:
            self.split.image(index)
        except InputError as error:
            return str(error)
        return ""


def drop_bad_images(
    splits: Splits, workers: int, watch: Watch = unwatched
) -> tuple[Splits, list[str]]:
    """Reads every image once, and leaves out those that cannot be read.

    Each rank reads its share of the images, and all ranks get the same result. The result depends
    on the files alone, not on the number of workers or ranks. So a resumed run leaves out the same
    images, unless the files changed.

    Args:
        splits: The data set.
        workers: Number of processes per rank that read images; 0 reads in this process.
        watch: Passes on the batches that are read.

    Returns:
        The data set without the bad images, and for each bad image a text that names the file and
        the reason.

    Raises:
        InputError: If a class has no training images left, or a split has no images left.
    """
    parts: dict[str, Split] = {}
    faults: list[str] = []
    for name in ("train", "valid", "test", "unlabelled"):
        split: Split | None = getattr(splits, name)
        if split is None:
            continue
        found = _faults(split, workers, watch)
        faults += [fault for fault in found if fault]
        kept = [index for index, fault in enumerate(found) if not fault]
        parts[name] = Subset(split, kept) if len(kept) < len(split) else split
        if len(split):  # without labels there is no `train`, and `valid` is still to be cut
            _check_left(name, parts[name], splits.classes)
    # mypy takes what stands behind ** for the values of any field, `classes` too.
    return replace(splits, **parts), faults  # type: ignore[arg-type]


def _faults(split: Split, workers: int, watch: Watch) -> list[str]:
    num_ranks = ranks.num_ranks()
    mine = range(ranks.rank(), len(split), num_ranks)
    loader = DataLoader(
        _Faults(split),
        sampler=mine,
        batch_size=_AT_ONCE,
        num_workers=workers,
        collate_fn=list,
        generator=torch.Generator(),  # keeps torch's generator, and so the first weights
    )
    found = [fault for batch in watch(loader, len(loader)) for fault in batch]
    shares = ranks.gather_objects(found)
    return [shares[index % num_ranks][index // num_ranks] for index in range(len(split))]


def _check_left(name: str, split: Split, classes: Sequence[str]) -> None:
    left = set(split.labels)
    if not left:
        raise InputError(f"no image of `{name}` can be read; repair or replace the files")
    for label, folder in enumerate(classes):
        if name == "train" and label not in left:
            raise InputError(
                f"no training image of class '{folder}' can be read; repair some or remove the "
                "class folder from both parts"
            )
