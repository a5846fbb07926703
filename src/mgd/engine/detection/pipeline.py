"""Pipeline of a run of detectors: from files to batches on this rank's device."""

from collections.abc import Iterator, Sequence
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from mgd.data.boxes import (
    BoxDataset,
    BoxSplit,
    BoxSplits,
    Target,
    as_lists,
    random_box_changes,
)
from mgd.data.check import Watch, unwatched
from mgd.data.loading import EvalBatches, TrainBatches, build_loader
from mgd.engine.detection.detectors import Detector
from mgd.engine.detection.precision import Precisions, measure
from mgd.engine.detection.tasks import DetectorTask
from mgd.engine.loop.batches import batches_of
from mgd.engine.loop.meter import TermMeter
from mgd.engine.loop.pipeline import Part, num_workers
from mgd.engine.loop.supply import Supply
from mgd.engine.options.config import RunConfig
from mgd.engine.tasks.task import Task
from mgd.runfolder import DETECTED

Batch = tuple[list[Tensor], list[Target]]


class BoxPipeline(Supply):
    """A run's images with boxes: loaders over this rank's share of each part.

    Images keep their own sizes, so that a batch is a list of them. Detectors resize them.

    Args:
        config: The run.
        fabric: Launched.
        splits: The data.
    """

    scores = DETECTED

    def __init__(self, config: RunConfig, fabric: Fabric, splits: BoxSplits):
        options, seed = config.data, config.schedule.seed
        self.splits, self.device = splits, fabric.device
        self._seed, self._workers = seed, num_workers(config)
        self._rank, self._ranks = fabric.global_rank, fabric.world_size
        batch_size = options.batch_size * config.devices.world_size
        self._share = max(1, batch_size // self._ranks)
        self.train_batches = TrainBatches(
            len(splits.train), batch_size, seed, self._rank, self._ranks
        )
        changes = None if options.augment == "none" else random_box_changes()
        self.train = build_loader(
            BoxDataset(splits.train, changes, seed), self.train_batches, self._workers, as_lists
        )
        self.matching_images = self._loader(splits.train, order=seed)
        """Training images as in evaluation, in a fixed random order."""
        self._loaders: dict[Part, DataLoader[Any]] = {}

    def _loader(self, split: BoxSplit, order: int | None = None) -> DataLoader[Any]:
        batches = EvalBatches(len(split), self._share, self._rank, self._ranks, order)
        return build_loader(BoxDataset(split, None, self._seed), batches, self._workers, as_lists)

    @property
    def num_trained_on(self) -> int:
        """Number of the images to train on."""
        return len(self.splits.train)

    @property
    def num_valid(self) -> int:
        """Number of the images that choose the epoch."""
        return len(self.splits.valid)

    def part(self, part: Part) -> BoxSplit:
        """Returns the images of a part that is there."""
        split = self.splits.valid if part == "valid" else self.splits.test
        assert split is not None
        return split

    def batches(self) -> Iterator[Batch]:
        """Yields this rank's share of the batches that `train_batches` is at."""
        return batches_of(self.train)

    def prepare(self, batch: Batch, place: tuple[int, int] | None = None) -> Batch:
        """Moves a batch to the device: images from 0 to 1, and the boxes to be trained on."""
        images, targets = batch
        return self._moved(images), [self._trained_on(target) for target in targets]

    def _moved(self, images: Sequence[Tensor]) -> list[Tensor]:
        return [image.to(self.device, non_blocking=True).float() / 255 for image in images]

    def _trained_on(self, target: Target) -> Target:
        kept = ~target["crowd"]
        return {name: target[name][kept].to(self.device) for name in ("boxes", "labels")}

    def meter(self, terms: Sequence[str]) -> TermMeter:
        """Returns what adds up the terms of the loss."""
        return TermMeter(terms)

    def measure(self, task: Task) -> Precisions:
        """Measures a task's student on `valid`."""
        assert isinstance(task, DetectorTask)
        return self.score(task.detectors.student, "valid")

    def score(
        self, detector: Detector, part: Part, *, watch: Watch = unwatched, keep: bool = False
    ) -> Precisions:
        """Measures a detector on one part of the data."""
        if part not in self._loaders:
            self._loaders[part] = self._loader(self.part(part))
        loader = self._loaders[part]
        batches = watch(batches_of(loader), len(loader))
        return measure(
            detector, ((self._moved(images), targets) for images, targets in batches), keep
        )

    def tracked_images(self) -> Iterator[Batch]:
        """Yields the images that a matching is updated from."""
        return (self.prepare(batch) for batch in batches_of(self.matching_images))

    def example(self) -> list[Tensor]:
        """Returns two training images on the device."""
        split = self.splits.train
        return self._moved([split.image(index) for index in range(min(2, len(split)))])
