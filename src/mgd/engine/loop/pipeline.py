"""Pipeline: a run's data, from files to batches on this rank's device."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from mgd.data import load_label_free, load_splits, load_unlabelled
from mgd.data.balance import balanced_weights
from mgd.data.check import Watch, drop_bad_images, unwatched
from mgd.data.loading import Batch, EvalBatches, ImageDataset, TrainBatches, build_loader
from mgd.data.mixing import BatchMixing
from mgd.data.splits import Labelled, Split, Splits
from mgd.data.transforms import Augment, random_changes, train_transform
from mgd.engine.loop.batches import batches_of
from mgd.engine.loop.evaluation import Answers, Scores, answers_of, evaluate
from mgd.engine.loop.meter import AccuracyMeter
from mgd.engine.loop.supply import Supply
from mgd.engine.options.config import RunConfig
from mgd.engine.runtime.environment import num_cores
from mgd.engine.tasks.classifier import Classifier
from mgd.engine.tasks.classifiers import Classifiers
from mgd.engine.tasks.task import ClassifierTask, Task
from mgd.errors import InputError
from mgd.runfolder import CLASSIFIED
from mgd.views import View

Loader = DataLoader[Batch]
Part = Literal["valid", "test"]


class Pipeline(Supply):
    """A run's images: loaders over this rank's share of each part.

    Training images come as one crop for both networks, at the larger of their sizes; each
    network's `Preprocess` gives it its own view of the crop, on the device.

    Args:
        config: The run.
        fabric: Launched.
        splits: The data, cut into its parts, with the run's classes.
        classifiers: The networks that see them.
    """

    scores = CLASSIFIED

    def __init__(self, config: RunConfig, fabric: Fabric, splits: Splits, classifiers: Classifiers):
        options, seed = config.data, config.schedule.seed
        self.splits, self.device = splits, fabric.device
        self.teachers: Answers | None = None
        """The teacher's answers to `valid`, where these are its labels."""
        self._channels_last = config.devices.channels_last
        self._seed, self._workers = seed, num_workers(config)
        self._rank, self._ranks = fabric.global_rank, fabric.world_size
        # --batch-size is a node's; the sampler deals out the whole job's.
        batch_size = options.batch_size * config.devices.world_size
        # Without gradients twice as many images fit.
        self._share = max(1, 2 * batch_size // self._ranks)
        self._student, self._in_order = classifiers.student.view, dict[str, Loader]()
        crop = self._crop = classifiers.largest_view
        # As without a teacher, whatever size that needs.
        self.augment = random_changes(augmentation(config, splits), self._student.size)
        """The random changes of training images."""
        self.train_batches = _train_batches(config, splits, batch_size, self._rank, self._ranks)
        more = config.augmentation
        changes = train_transform(crop, self.augment, more.auto_augment, more.random_erase)
        augmented = ImageDataset(splits.trained_on, changes, seed)
        self.train = build_loader(augmented, self.train_batches, self._workers)
        alphas = more.mixup_alpha, more.cutmix_alpha
        self._mixing = BatchMixing(len(splits.classes), seed, *alphas)
        self.class_weights = self._class_weights(config)
        """Weights (K,) for the cross-entropy, on the device; `None` for equal ones."""
        self.matching_images = self._loader(splits.trained_on, crop, order=seed)
        """Training images as in evaluation, in a fixed random order."""

    def _class_weights(self, config: RunConfig) -> Tensor | None:
        if config.labels.class_weights == "none":
            return None
        weights = balanced_weights(self.splits.train.labels, self.num_classes)
        return weights.float().to(self.device)

    def _loader(self, split: Split, view: View, order: int | None = None) -> Loader:
        batches = EvalBatches(len(split), self._share, self._rank, self._ranks, order)
        dataset = ImageDataset(split, view.transform(), self._seed)
        return build_loader(dataset, batches, self._workers)

    def _part(self, part: Part, view: View) -> Loader:
        """Returns a part's loader; those of the student's view, which every epoch needs, stay."""
        split = self.splits.valid if part == "valid" else self.splits.test
        assert split is not None
        if view.cut != self._student.cut:
            return self._loader(split, view)
        if part not in self._in_order:
            self._in_order[part] = self._loader(split, view)
        return self._in_order[part]

    @property
    def is_label_free(self) -> bool:
        """Whether the labels of `valid` are the teacher's answers."""
        return self.teachers is not None

    @property
    def num_trained_on(self) -> int:
        """Number of the images to train on."""
        return len(self.splits.trained_on)

    @property
    def num_valid(self) -> int:
        """Number of the images that choose the epoch."""
        return len(self.splits.valid)

    @property
    def num_classes(self) -> int:
        """Number of classes of the run."""
        return len(self.splits.classes)

    def batches(self) -> Iterator[Batch]:
        """Yields this rank's share of the batches that `train_batches` is at."""
        return batches_of(self.train)

    def meter(self, terms: Sequence[str]) -> AccuracyMeter:
        """Returns what adds up the terms of the loss, and the right answers."""
        return AccuracyMeter(terms)

    def measure(self, task: Task) -> Scores:
        """Measures a task's student on `valid`."""
        assert isinstance(task, ClassifierTask)
        return self.score(task.classifiers.student, "valid")

    def prepare(self, batch: Batch, place: tuple[int, int] | None = None) -> Batch:
        """Moves a batch to the device, still uint8; its networks' views come later.

        Args:
            batch: From a loader.
            place: Epoch and number of a batch to train on, which is then mixed as the options say.
        """
        images, labels = (part.to(self.device, non_blocking=True) for part in batch)
        if place is not None:
            images, labels = self._mixing((images, labels), *place)
        if self._channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, labels

    def tracked_images(self) -> Iterator[Tensor]:
        """Yields the images that a matching is updated from."""
        return (self.prepare(batch)[0] for batch in batches_of(self.matching_images))

    def score(
        self,
        classifier: Classifier,
        part: Part,
        *,
        watch: Watch = unwatched,
        confusion: bool = False,
        answers: bool = False,
    ) -> Scores:
        """Evaluates a network on one part of the data, as the network sees its images."""
        loader = self._part(part, classifier.view)
        batches = watch(batches_of(loader), len(loader))
        moved = (self.prepare(batch) for batch in batches)
        return evaluate(classifier, moved, self.num_classes, self.device, confusion, answers)

    def gallery_images(self, number: int) -> tuple[Tensor, Sequence[str]]:
        """Returns validation images as the networks are given them, and their classes."""
        split = self.splits.valid
        number = min(number, len(split))
        # In the middle of as many equal parts: folders of classes come one after the other.
        chosen = [(2 * place + 1) * len(split) // (2 * number) for place in range(number)]
        transform = self._crop.transform()
        images = torch.stack([transform(split.image(index)) for index in chosen])
        labels = torch.tensor([split.labels[index] for index in chosen])
        return self.prepare((images, labels))[0], [self.splits.classes[n] for n in labels.tolist()]

    def label_valid_by(self, teacher: Classifier, watch: Watch = unwatched) -> None:
        """Takes the teacher's answers for the labels of `valid`: accuracy is then agreement."""
        loader = self._part("valid", teacher.view)
        moved = (self.prepare(batch)[0] for batch in watch(batches_of(loader), len(loader)))
        self.teachers = answers_of(teacher, moved, self.device)
        labelled = Labelled(self.splits.valid, list(self.teachers.classes))
        self.splits = replace(self.splits, valid=labelled)
        self._in_order.pop("valid", None)

    def example(self) -> Tensor:
        """Returns two training images, uint8, on the device."""
        keys = range(min(2, len(self.splits.trained_on)))
        dataset = self.matching_images.dataset
        images, labels = zip(*(dataset[(0, key)] for key in keys), strict=True)
        return self.prepare((torch.stack(images), torch.stack(labels)))[0]


HELD_OUT = 0.1
"""Share of the images that choose the epoch where no label does, unless --holdout says another."""


def load_data(config: RunConfig) -> Splits:
    """Finds a run's images; none is opened yet.

    Raises:
        InputError: As `load_splits`, `load_label_free` and `load_unlabelled`.
    """
    options = config.data
    if options.label_free:
        splits = load_label_free(options.data, options.bit_depth)
        return _labelled_alone(splits, options.data) if config.output.evaluate else splits
    splits = load_splits(options.data, options.bit_depth)
    if options.unlabelled and not config.output.evaluate:
        splits = replace(splits, unlabelled=load_unlabelled(options.unlabelled, options.bit_depth))
    return splits


def _labelled_alone(splits: Splits, data: str) -> Splits:
    """Returns the images that a label-free run can be measured on: those of `valid`."""
    if splits.test is None:
        raise InputError(
            f"the run was trained without labels, and '{data}' has no folder `valid` of classes to "
            "measure it on; give labelled images: mgd evaluate DATA --model RUN"
        )
    return Splits(splits.classes, train=splits.test, valid=splits.test)


def augmentation(config: RunConfig, splits: Splits) -> Augment:
    """Returns the random changes that the options ask for, or else those that suit the data."""
    return splits.augment if config.data.augment == "auto" else config.data.augment


def cut_splits(
    config: RunConfig, splits: Splits, classes: Sequence[str], watch: Watch = unwatched
) -> tuple[Splits, list[str]]:
    """Cuts a data set into the parts that a run uses.

    Args:
        config: The run.
        splits: As `load_splits` found them.
        classes: The run's, in their order.
        watch: Passes on what is read in the search for unreadable images.

    Returns:
        The parts; and the files left out with --skip-bad-images, and why.

    Raises:
        InputError: For parts that cannot be cut.
    """
    options, seed = config.data, config.schedule.seed
    bad_images: list[str] = []
    if options.skip_bad_images:
        splits, bad_images = drop_bad_images(splits, num_workers(config), watch)
    if options.label_free:
        if not config.output.evaluate:
            splits = splits.hold_out_unlabelled(options.holdout or HELD_OUT, seed)
    elif options.holdout:
        splits = splits.hold_out(options.holdout, seed)
    if options.train_images:
        splits = splits.take(options.train_images, seed)
    return splits.with_classes(classes), bad_images


def _train_batches(
    config: RunConfig, splits: Splits, batch_size: int, rank: int, ranks: int
) -> TrainBatches:
    unlabelled, chances = splits.unlabelled, None
    if config.labels.balanced_sampling:
        labels = torch.tensor(splits.train.labels)
        chances = balanced_weights(splits.train.labels, len(splits.classes))[labels]
    return TrainBatches(
        len(splits.train),
        batch_size,
        config.schedule.seed,
        rank,
        ranks,
        num_unlabelled=len(unlabelled) if unlabelled else 0,
        unlabelled_batch=config.data.unlabelled_batch or None,
        chances=chances,
        views=config.distillation.fixed_views,
    )


def num_workers(config: RunConfig) -> int:
    """Returns how many processes of a rank load images: at most one per core."""
    return min(config.data.workers, num_cores())
