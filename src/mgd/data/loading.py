"""Loading: which image is seen when, by which rank, under which augmentation.

The augmentation of an image is a function of (seed, epoch, image number) alone: neither the
number of workers nor of ranks nor a resume changes what is seen.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2

from mgd.data.splits import Split
from mgd.errors import InputError

Key = tuple[int, int]
"""(epoch, image number)"""
Batch = tuple[Tensor, Tensor]
"""Images, uint8 (B, 3, H, W), and labels (B,)."""


class ImageDataset(Dataset[Batch]):
    """Transforms a split's images, reproducibly.

    Args:
        split: Where the images come from.
        transform: uint8 (3, H, W) -> uint8 (3, size, size); draws from torch's generator.
        seed: Of the augmentation.
    """

    def __init__(self, split: Split, transform: v2.Transform, seed: int):
        self.split, self.transform, self.seed = split, transform, seed

    def __getitem__(self, key: Key) -> Batch:
        epoch, index = key
        image = self.split.image(index)
        with _drawing_from(mix(self.seed, epoch, index)):
            return self.transform(image), torch.tensor(self.split.labels[index])


@contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """Seeds torch's CPU generator for a while; `torch.manual_seed` would take 0.4 ms an image."""
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


def mix(seed: int, epoch: int, index: int) -> int:
    """Hashes three numbers into one seed; sums of them would meet each other again."""
    state = 0
    for number in (seed, epoch, index):
        state = ((state ^ number) * 0x9E3779B97F4A7C15 + 0x7F4A7C15) & (1 << 63) - 1
        state ^= state >> 31
    return state


class TrainBatches(Sampler[list[Key]]):
    """Cuts each epoch's permutation into ceil(n / batch_size) batches of equal size, ±1.

    No image is left out, and no last batch is so small that its BatchNorm statistics or its
    weight in the epoch differ. Each rank takes its share of every batch.

    Args:
        num_images: n.
        batch_size: Over all ranks together; the largest that a batch gets.
        seed: Of the permutation, with the epoch.
        rank, ranks: Which share to take.

    Example:
        >>> from mgd.data.loading import TrainBatches
        >>> [len(batch) for batch in TrainBatches(num_images=10, batch_size=4, seed=0)]
        [4, 3, 3]
    """

    def __init__(self, num_images: int, batch_size: int, seed: int, rank: int = 0, ranks: int = 1):
        self.num_images, self.seed, self.rank, self.ranks = num_images, seed, rank, ranks
        self.num_batches = -(-num_images // batch_size)
        self.epoch = 0
        self.start = 0
        if num_images // self.num_batches < ranks:
            raise InputError(
                f"{num_images} training images in {self.num_batches} batches leave some of "
                f"{ranks} processes without an image; raise `batch_size` or lower `ranks`"
            )

    def __len__(self) -> int:
        return self.num_batches - self.start

    def at(self, epoch: int, start: int = 0) -> "TrainBatches":
        """Moves to an epoch, and to a batch inside it when a run is resumed there."""
        self.epoch, self.start = epoch, start
        return self

    def __iter__(self) -> Iterator[list[Key]]:
        generator = torch.Generator().manual_seed(mix(self.seed, self.epoch, self.num_images))
        order = torch.randperm(self.num_images, generator=generator)
        for batch in order.tensor_split(self.num_batches)[self.start :]:
            yield [(self.epoch, index) for index in batch[self.rank :: self.ranks].tolist()]

    def batch_size(self, batch: int) -> int:
        """Returns how many images a batch has over all ranks."""
        whole, rest = divmod(self.num_images, self.num_batches)
        return whole + (batch < rest)


class EvalBatches(Sampler[list[Key]]):
    """Cuts a split, in order, over the ranks: every image once, none twice.

    Args:
        num_images: Length of the split.
        batch_size: Per rank.
        rank, ranks: Which share to take.
        seed: If given, the order is a fixed permutation, so that a beginning is a fair sample.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        rank: int = 0,
        ranks: int = 1,
        seed: int | None = None,
    ):
        order = torch.arange(num_images)
        if seed is not None:
            order = torch.randperm(num_images, generator=torch.Generator().manual_seed(seed))
        self.batches = order[rank::ranks].split(max(1, batch_size))
        if not len(order[rank::ranks]):
            self.batches = ()

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in self.batches:
            yield [(0, index) for index in batch.tolist()]


def build_loader(
    dataset: ImageDataset, batches: TrainBatches | EvalBatches, workers: int
) -> DataLoader[Batch]:
    """Builds a loader over a sampler of batches; the workers live as long as the loader."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # else each epoch would draw from the run's
    )
