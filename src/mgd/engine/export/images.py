"""The real images that a proof and a calibration are made on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from mgd.data.loading import EvalBatches, ImageDataset, build_loader
from mgd.data.splits import Split, Subset, renumbered
from mgd.engine.loop.batches import batches_of
from mgd.engine.loop.pipeline import cut_splits, load_data
from mgd.engine.options.config import RunConfig
from mgd.views import Preprocess, View

_AT_ONCE = 32


@dataclass(frozen=True)
class Images:
    """A random part of a data set, always the same, as a network sees it."""

    source: str
    """Name of the data set."""
    split: Split
    """The class of each is a number of the network's outputs; -1 where none is known."""
    view: View

    def __len__(self) -> int:
        return len(self.split)

    @property
    def batches(self) -> int:
        """Number of batches."""
        return -(-len(self) // _AT_ONCE)

    def __iter__(self) -> Iterator[Tensor]:
        """Yields float32 (B, C, size, size)."""
        show = Preprocess(self.view)
        dataset = ImageDataset(self.split, self.view.transform(), 0)
        loader = build_loader(dataset, EvalBatches(len(self), _AT_ONCE), workers=0)
        return (show(images) for images, _ in batches_of(loader))


def images_of(
    config: RunConfig, classes: Sequence[str], view: View, valid: int, train: int = 0
) -> tuple[Images, Images]:
    """Returns images that a network was chosen on, and images that it was trained on.

    Args:
        config: Of the run, as far as it says which images are its own.
        classes: The network's, in the order of its outputs; where there are none, it has those of
            the data.
        view: How it sees an image.
        valid: How many to take, at most.
        train: How many to take, at most.

    Raises:
        InputError: If they cannot be found.
    """
    splits = load_data(config)
    splits, _ = cut_splits(config, splits, splits.classes)
    known = list(classes or splits.classes)
    numbers = [known.index(name) if name in known else -1 for name in splits.classes] + [-1]

    def some(split: Split, number: int) -> Images:
        indices = chosen(len(split), number, config.schedule.seed)
        return Images(config.data.data, renumbered(Subset(split, indices), numbers), view)

    # Without labels, `test` is the only part that has some.
    has_labels = config.data.label_free and splits.test is not None
    held = splits.test if has_labels and splits.test is not None else splits.valid
    return some(held, valid), some(splits.trained_on, train)


def chosen(length: int, number: int, seed: int) -> list[int]:
    """Returns random numbers of images, always the same.

    Files are sorted by class, so that the first of them would be of one class.

    Args:
        length: How many images there are.
        number: How many to choose, at most.
        seed: Of the choice.

    Example:
        >>> sorted(chosen(3, 5, seed=0)), chosen(3, 0, seed=0)
        ([0, 1, 2], [])
    """
    batches = EvalBatches(length, number, seed=seed) if number else ()
    return [index for _, index in next(iter(batches), [])]
