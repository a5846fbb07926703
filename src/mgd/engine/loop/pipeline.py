"""Pipeline: a run's data, from files to normalised batches on this rank's device."""

import logging
import multiprocessing
import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mgd.data import load_splits
from mgd.data.check import drop_bad_images
from mgd.data.loading import Batch, EvalBatches, ImageDataset, TrainBatches, build_loader
from mgd.data.splits import Split, Splits
from mgd.data.transforms import Normalize, eval_transform, train_transform
from mgd.engine.loop.evaluation import Scores, evaluate
from mgd.engine.options.config import RunConfig
from mgd.engine.runtime.figures import whole_number
from mgd.errors import InputError, RunError

logger = logging.getLogger(__name__)

Loader = DataLoader[Batch]


@dataclass(frozen=True)
class Pipeline:
    """Loaders over this rank's share of each part."""

    splits: Splits
    train_batches: TrainBatches
    train: Loader
    valid: Loader
    test: Loader | None
    matching_images: Loader
    """Training images under evaluation transforms, in a fixed random order."""
    normalize: Normalize
    device: torch.device
    channels_last: bool
    bad_images: list[str]
    """Files left out with --skip-bad-images, and why."""

    @property
    def num_classes(self) -> int:
        """Number of classes of the data set."""
        return len(self.splits.classes)

    def batches(self, loader: Loader) -> Iterator[Batch]:
        """Yields uint8 batches; an unreadable image found by a worker is the user's error."""
        iterator = iter(loader)
        while True:
            try:
                images, labels = next(iterator)
            except StopIteration:
                return
            except InputError as error:
                # torch's frames hold the error that holds them, and the workers would outlive both.
                traceback.clear_frames(error.__traceback__)
                # A worker's error comes with its traceback as text; the reason is the last line.
                reason = str(error).strip().splitlines()[-1]
                raise InputError(reason.partition("InputError: ")[2] or reason) from error
            yield images, labels

    def prepare(self, batch: Batch) -> Batch:
        """Moves a batch to the device and normalises its images there."""
        images, labels = (part.to(self.device, non_blocking=True) for part in batch)
        images = self.normalize(images)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, labels

    def tracked_images(self) -> Iterator[Tensor]:
        """Yields the images that a matching is updated from, as the networks take them."""
        return (self.prepare(batch)[0] for batch in self.batches(self.matching_images))

    def score(self, network: nn.Module, loader: Loader) -> Scores:
        """Evaluates a network on one part of the data."""
        batches = self.batches(loader)
        return evaluate(network, batches, self.prepare, self.num_classes, self.device)

    def state_dict(self) -> dict[str, int]:
        """Returns how many training images there are."""
        return {"images": len(self.splits.train)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Warns where the training images are not those of the state."""
        then, now = whole_number(state, "images"), len(self.splits.train)
        if then != now:
            logger.warning(
                "the checkpoint was made with %d training images, there are %d now: the run goes "
                "on, but not as it would have without a stop",
                *(then, now),
            )

    def example(self) -> Tensor:
        """Returns two training images as the networks take them."""
        keys = range(min(2, len(self.splits.train)))
        dataset = self.matching_images.dataset
        images, labels = zip(*(dataset[(0, key)] for key in keys), strict=True)
        return self.prepare((torch.stack(images), torch.stack(labels)))[0]


@contextmanager
def telling_of_dead_workers() -> Iterator[None]:
    """Turns torch's error about a killed loader process, raised wherever the run is, into one line.

    Raises:
        RunError: In its place.
    """
    try:
        with _waiting_for_the_news():
            yield
    except RuntimeError as error:
        told: BaseException = error
        while isinstance(told, RunError) and told.__cause__:  # raised, say, while a file is written
            told = told.__cause__
        if "DataLoader worker" not in str(told):
            raise
        # The frames hold the loaders, and with them the workers that are left.
        for fault in (error, error.__context__):
            traceback.clear_frames(fault.__traceback__ if fault else None)
        raise RunError(
            f"a process that loads images died ({str(told).splitlines()[0].strip()}); if memory "
            "ran out lower --workers; go on from the last checkpoint with --resume auto"
        ) from error


@contextmanager
def _waiting_for_the_news() -> Iterator[None]:
    """Lets torch tell of a killed worker, whose connection breaks a moment before it is dead."""
    try:
        yield
    except (ConnectionError, EOFError) as error:
        workers = {worker.sentinel: worker for worker in multiprocessing.active_children()}
        gone = wait([*workers], timeout=10) if workers else []
        dead = [worker for sentinel, worker in workers.items() if sentinel in gone]
        for worker in dead:  # its files are closed, but it may not be dead yet
            worker.join()  # torch's own signal handler raises here, as a rule
        if dead:
            raise RuntimeError(f"DataLoader worker (pid {dead[0].pid}) is dead") from error
        raise


def _num_cores() -> int:
    """Returns how many cores this process may use, which `taskset` or a container may limit."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def build_pipeline(config: RunConfig, fabric: Fabric) -> Pipeline:
    """Finds the data, cuts its parts and builds the loaders.

    Raises:
        InputError: As `load_splits`, and for parts that cannot be cut.
    """
    options, seed = config.data, config.schedule.seed
    splits = load_splits(options.data, options.bit_depth)
    workers = min(options.workers, _num_cores())
    bad_images: list[str] = []
    if options.skip_bad_images:
        splits, bad_images = drop_bad_images(splits, workers)
    if options.holdout:
        splits = splits.hold_out(options.holdout, seed)
    if options.train_images:
        splits = splits.take(options.train_images, seed)
    augment = splits.augment if options.augment == "auto" else options.augment
    plain = eval_transform(options.size, augment)
    rank, ranks = fabric.global_rank, fabric.world_size
    # --batch-size is a node's; the sampler deals out the whole job's.
    batch_size = options.batch_size * config.devices.world_size
    # Without gradients twice as many images fit.
    share = max(1, 2 * batch_size // ranks)

    def in_order(split: Split, order: int | None = None) -> Loader:
        batches = EvalBatches(len(split), share, rank, ranks, order)
        return build_loader(ImageDataset(split, plain, seed), batches, workers)

    train_batches = TrainBatches(len(splits.train), batch_size, seed, rank, ranks)
    augmented = ImageDataset(splits.train, train_transform(options.size, augment), seed)
    return Pipeline(
        splits=splits,
        train_batches=train_batches,
        train=build_loader(augmented, train_batches, workers),
        valid=in_order(splits.valid),
        test=in_order(splits.test) if splits.test is not None else None,
        matching_images=in_order(splits.train, order=seed),
        normalize=Normalize().to(fabric.device),
        device=fabric.device,
        channels_last=config.devices.channels_last,
        bad_images=bad_images,
    )
