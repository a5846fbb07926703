"""Check: which images of a data set can be read, found out before training."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.utils.data import DataLoader, Dataset

from mgd import ranks
from mgd.data.splits import Split, Splits, Subset
from mgd.errors import InputError

_AT_ONCE = 32


class _Faults(Dataset[str]):
    """Why each image of a split cannot be read; empty where it can."""

    def __init__(self, split: Split):
        self.split = split

    def __getitem__(self, index: int) -> str:
        try:
            self.split.image(index)
        except InputError as error:
            return str(error)
        return ""


def drop_bad_images(splits: Splits, workers: int) -> tuple[Splits, list[str]]:
    """Reads every image once and returns the data set without the bad ones, and their faults.

    A function of the files alone: neither the number of workers nor of ranks matters, and a
    resumed run finds the same unless the files changed. Each rank reads its share.

    Raises:
        InputError: If a class is left without training images, or a part without any.
    """
    parts: dict[str, Split] = {}
    faults: list[str] = []
    for name, split in (("train", splits.train), ("valid", splits.valid), ("test", splits.test)):
        if split is None:
            continue
        found = _faults(split, workers)
        faults += [fault for fault in found if fault]
        kept = [index for index, fault in enumerate(found) if not fault]
        parts[name] = Subset(split, kept) if len(kept) < len(split) else split
        _check_left(name, parts[name], splits.classes)
    # mypy takes what stands behind ** for the values of any field, `classes` too.
    return replace(splits, **parts), faults  # type: ignore[arg-type]


def _faults(split: Split, workers: int) -> list[str]:
    num_ranks = ranks.num_ranks()
    mine = range(ranks.rank(), len(split), num_ranks)
    loader = DataLoader(
        _Faults(split),
        sampler=mine,
        batch_size=_AT_ONCE,
        num_workers=workers,
        collate_fn=list,
        generator=torch.Generator(),  # else the networks would start from other weights
    )
    found = [fault for batch in loader for fault in batch]
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
