"""Loads images in batches, in an order and with an augmentation that can be reproduced.

The augmentation of an image depends on (seed, epoch, image number) alone. The number of workers,
the number of ranks, and a resume do not change it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2

from mgd.data.splits import Split
from mgd.errors import InputError

Key = tuple[int, int]
"""(view, image number). The view is the epoch, or with a fixed number of views that of the epoch;
where an epoch shows an image again, another number."""
Batch = tuple[Tensor, Tensor]
"""Images, uint8 (B, 3, H, W), and labels (B,)."""


class ImageDataset(Dataset[Batch]):
    """The transformed images of a split; the random changes are reproducible.

    Args:
        split: Where the images come from.
        transform: uint8 (3, H, W) -> uint8 (3, size, size). It takes its random numbers from
            torch's default generator.
        seed: Seed of the augmentation.
    """

    def __init__(self, split: Split, transform: v2.Transform, seed: int):
        self.split, self.transform, self.seed = split, transform, seed

    def __getitem__(self, key: Key) -> Batch:
        view, index = key
        image = self.split.image(index)
        with drawing_from(mix(self.seed, view, index)):
            return self.transform(image), torch.tensor(self.split.labels[index])


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Seeds torch's CPU generator and restores it afterwards.

    For transforms of torchvision, which take no generator.

    `torch.manual_seed` would take 0.4 ms per image.
    """
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


def mix(seed: int, epoch: int, index: int) -> int:
    """Hashes three numbers into one seed. Their sum would be the same for different numbers."""
    state = 0
    for number in (seed, epoch, index):
        state = ((state ^ number) * 0x9E3779B97F4A7C15 + 0x7F4A7C15) & (1 << 63) - 1
        state ^= state >> 31
    return state


class TrainBatches(Sampler[list[Key]]):
    """Training batches: a random order of the images, cut into batches of equal size.

    Images without a label may join them. They are numbered after those with one, and every batch
    has some of both. By default each image is seen once an epoch, so that the shares of a batch
    are those of the data; `unlabelled_batch` sets another share.

    The sizes of the batches differ by 1 at most. So no image is left out, and there is no small
    last batch, whose BatchNorm statistics would be noisy. Each rank takes its share of every batch.

    Args:
        num_images: n, images with a label.
        batch_size: Largest size of a batch, over all ranks together: of all its images or, with
            `unlabelled_batch`, of those with a label.
        seed: Seed of the order, together with the number of the epoch.
        rank: Number of this process, from 0.
        ranks: Number of processes.
        num_unlabelled: Images without a label.
        unlabelled_batch: How many of them join every batch. An epoch then has as many batches as
            those with a label need, and goes on where the epoch before stopped.
        chances: Relative probability (n,) of each image with a label. An epoch then draws n of
            them with replacement, and each time that it shows an image again it changes it anew.
            `None` shows each once.
        views: How many views of each image there are: epoch e shows view e mod `views`. 0: another
            in every epoch.

    Raises:
        InputError: If some rank would have no image of a batch.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        *,
        num_unlabelled: int = 0,
        unlabelled_batch: int | None = None,
        chances: Tensor | None = None,
        views: int = 0,
    ):
        self.num_images, self.num_unlabelled = num_images, num_unlabelled
        self.seed, self.rank, self.ranks = seed, rank, ranks
        self.chances, self.views = chances, views
        self.unlabelled_batch = unlabelled_batch if num_unlabelled and num_images else None
        all_images = num_images + num_unlabelled
        counted = all_images if self.unlabelled_batch is None else num_images
        self.num_batches = -(-counted // batch_size)
        self.epoch = 0
        self.start = 0
        if all_images // self.num_batches < ranks:
            raise InputError(
                f"{all_images} training images in {self.num_batches} batches leave some of "
                f"{ranks} processes without an image; raise `batch_size` or lower `ranks`"
            )

    def __len__(self) -> int:
        return self.num_batches - self.start

    def at(self, epoch: int, start: int = 0) -> "TrainBatches":
        """Moves to an epoch, and within it to batch number `start`, for a run that is resumed."""
        self.epoch, self.start = epoch, start
        return self

    def __iter__(self) -> Iterator[list[Key]]:
        labelled = self._labelled().tensor_split(self.num_batches)
        unlabelled = self._unlabelled().split(
            [self.batch_size(n) - self.labelled(n) for n in range(self.num_batches)]
        )
        for number in range(self.start, self.num_batches):
            without = self.num_images + unlabelled[number]
            batch = torch.cat([labelled[number], _first_looks(without)])[self.rank :: self.ranks]
            yield [(self._look(again), index) for index, again in batch.tolist()]

    def _look(self, again: int) -> int:
        """Returns what the random changes depend on, beside the image; the view at first."""
        view = self.epoch % self.views if self.views else self.epoch
        return mix(view, again, 0) if again else view

    def _labelled(self) -> Tensor:
        """Returns the epoch's images with a label in order: (n, 2), number and earlier looks."""
        if self.chances is None:
            return _first_looks(_order(self.num_images, self.seed, self.epoch))
        generator = torch.Generator().manual_seed(mix(self.seed, self.epoch, self.num_images))
        drawn = self.chances.multinomial(self.num_images, replacement=True, generator=generator)
        return torch.stack([drawn, _earlier(drawn)], dim=1)

    def _unlabelled(self) -> Tensor:
        """Returns the numbers of the epoch's images without a label, in order, from 0."""
        count, seed = self.num_unlabelled, self.seed + 1
        if self.unlabelled_batch is None:
            return _order(count, seed, self.epoch)
        # One pass over them after the other, each in an order of its own.
        in_epoch = self.num_batches * self.unlabelled_batch
        first_pass, start = divmod(self.epoch * in_epoch, count)
        passes = range(first_pass, first_pass - (start + in_epoch) // -count)
        return torch.cat([_order(count, seed, each) for each in passes])[start : start + in_epoch]

    def labelled(self, number: int) -> int:
        """Returns the number of images with a label of a batch, over all ranks."""
        return _share(self.num_images, self.num_batches, number)

    def batch_size(self, number: int) -> int:
        """Returns the number of images of a batch, over all ranks."""
        if self.unlabelled_batch is not None:
            return self.labelled(number) + self.unlabelled_batch
        # Cut as a whole: two parts cut by themselves would both have their larger shares first.
        return _share(self.num_images + self.num_unlabelled, self.num_batches, number)


def _order(count: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(mix(seed, epoch, count))
    return torch.randperm(count, generator=generator)


def _first_looks(numbers: Tensor) -> Tensor:
    return torch.stack([numbers, torch.zeros_like(numbers)], dim=1)


def _earlier(numbers: Tensor) -> Tensor:
    """Returns how often each number stands earlier in a list."""
    ordered, places = numbers.sort(stable=True)
    earlier = torch.empty_like(numbers)
    earlier[places] = torch.arange(len(numbers)) - torch.searchsorted(ordered, ordered)
    return earlier


def _share(count: int, parts: int, number: int) -> int:
    """Returns the size of one of the parts that `Tensor.tensor_split` makes."""
    whole, rest = divmod(count, parts)
    return whole + (number < rest)


class EvalBatches(Sampler[list[Key]]):
    """Evaluation batches: every image once, divided over the ranks.

    Args:
        num_images: Length of the split.
        batch_size: Images per batch on each rank.
        rank: Number of this process, from 0.
        ranks: Number of processes.
        seed: `None` keeps the order of the split. A seed gives a fixed random order, so that the
            first images are a random sample of the split.
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
    dataset: Dataset[Any],
    batches: TrainBatches | EvalBatches,
    workers: int,
    join: Callable[[Any], Any] | None = None,
) -> DataLoader[Any]:
    """Builds a loader of batches.

    Args:
        dataset: The images.
        batches: The order.
        workers: Number of processes that load images; 0 loads in this process. They live as long
            as the loader.
        join: Makes a batch of examples; by default their tensors are stacked.
    """
    return DataLoader(
        dataset,
        collate_fn=join,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # keeps torch's default generator as it is
    )
