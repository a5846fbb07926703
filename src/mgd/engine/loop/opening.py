"""Opening: what a run says of its data and networks before it starts, and what it warns of."""

import math
import statistics
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence

from torch import nn

from mgd.data import seen_elsewhere
from mgd.data.splits import Split, Splits
from mgd.engine.loop.evaluation import Scores
from mgd.engine.runtime.sharding import held_bytes
from mgd.engine.tasks.classifier import Classifier
from mgd.engine.tasks.classifiers import Classifiers
from mgd.errors import InputError
from mgd.ranks import num_ranks

WIDTH = 80
"""Columns of a terminal that every line fits."""
_LOOKED_AT = 16
"""Images whose size is read, spread over the training images."""


def opening_lines(data: str, splits: Splits, classifiers: Classifiers) -> Iterator[str]:
    """Yields lines of at most 80 columns: the data, its classes, and how each network sees it.

    Args:
        data: Name of the data, as it was given.
        splits: The parts that the run uses.
        classifiers: Its networks.
    """
    parts = [f"{len(splits.train)} images to train"] if len(splits.train) else []
    if splits.unlabelled is not None:
        parts.append(f"{len(splits.unlabelled)} without labels to train")
    parts.append(f"{len(splits.valid)} to validate")
    if splits.test is not None:
        parts.append(f"{len(splits.test)} to test")
    yield from data_lines(data, parts, splits.classes)
    yield from network_lines("student", classifiers.student)
    if classifiers.teacher is not None:
        yield from network_lines("teacher", classifiers.teacher)


def data_lines(data: str, parts: Sequence[str], classes: Sequence[str]) -> Iterator[str]:
    """Yields the name of the data and its parts, and its classes, as many as fit a line."""
    yield from _lines("data", f"{data}: {', '.join(parts)}")
    yield _shortened(f"{'':9}{len(classes)} classes: {', '.join(classes)}")


def network_lines(title: str, classifier: Classifier) -> Iterator[str]:
    """Yields what a network is, where its weights come from, and how it sees an image."""
    yield from _lines(title, f"{classifier.name}, {classifier.weights}")
    yield from _lines("", f"sees {classifier.view} ({classifier.view_from})")
    if classifier.pruned and classifier.num_parameters:
        yield from _lines("", f"pruned; {held(classifier.network)}")
    elif title == "teacher":  # it is often the largest part of what a run needs
        yield from _lines("", held(classifier.network))
    if classifier.no_answers:
        yield from _lines("", f"only its features teach: {classifier.no_answers}")


def held(network: nn.Module) -> str:
    """Returns what a network holds in memory, with its buffers, and its number of parameters.

    Example:
        >>> from torch import nn
        >>> held(nn.Linear(1000, 500)), held(nn.Linear(2, 2))
        ('holds 2.0 MB: 500 500 parameters', 'holds less than 0.1 MB: 6 parameters')
    """
    parameters = sum(parameter.numel() for parameter in network.parameters())
    size = _megabytes(held_bytes(network)[1])
    return f"holds {size}: {parameters:,} parameters".replace(",", " ")


def sharded_line(network: nn.Module) -> str:
    """Returns what this process holds of a sharded teacher, of which `held` tells the whole."""
    here, whole = held_bytes(network)
    return (
        f"the teacher is sharded over {num_ranks()} processes: this one holds {_megabytes(here)}, "
        f"{here / whole:.0%} of it"
    )


def _megabytes(size: int) -> str:
    return "less than 0.1 MB" if size < 1e5 else f"{size / 1e6:.1f} MB"


def _lines(title: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{title:9}",
        subsequent_indent=" " * 9,
        break_on_hyphens=False,
    )


def _shortened(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1].rstrip(', ')}…"


def enlarging_warning(split: Split, classifiers: Sequence[Classifier]) -> str:
    """Returns a warning where the images are enlarged more than twice; else an empty text.

    A network that sees small images at a large size takes many times the work, and learns nothing
    more from it.

    Args:
        split: The training images; a few are looked at.
        classifiers: The networks that see them.
    """
    sides = [min(size) for size in _some_sizes(split)]
    if not sides:
        return ""
    side = statistics.median(sides)
    large = [each for each in classifiers if each.view.size > 2 * side]
    if not large:
        return ""
    enlarged = "; ".join(
        f"{each.name} sees them at {each.view.size} px, {(each.view.size / side) ** 2:.0f} times "
        "the pixels"
        for each in large
    )
    return (
        f"the images are {side:.0f} px (median of {len(sides)}), and are enlarged more than twice: "
        f"{enlarged}; a smaller `size` or `teacher_size` is faster, and so is a network for small "
        "images, such as cifar_resnet20"
    )


def _some_sizes(split: Split) -> Iterator[tuple[int, int]]:
    step = max(1, len(split) // _LOOKED_AT)
    for index in range(0, len(split), step)[:_LOOKED_AT]:
        try:
            height, width = split.image(index).shape[-2:]
        except InputError:
            continue  # whoever loads the image will say so, with its name
        yield height, width


def duplicates_warning(splits: Splits) -> str:
    """Returns a warning where images without labels are measured on as well; else an empty text."""
    if splits.unlabelled is None:
        return ""
    held = [part for part in (splits.valid, splits.test) if part is not None]
    found = [pair for part in held for pair in seen_elsewhere(splits.unlabelled, part)]
    if not found:
        return ""
    return (
        f"images without labels that are also among those to measure on: {len(found)}, such as "
        f"'{found[0][0]}' and '{found[0][1]}'; the student is measured on what it has seen: remove "
        "one of the two"
    )


MOST_OF_THE_LOSS = 0.9
"""A part of the loss above this share leaves little to the others."""


def balance_lines(
    means: Mapping[str, float], label_terms: Collection[str] = ("ce",)
) -> Iterator[str]:
    """Yields what share of the loss each of its parts is, and a warning of one that is nearly all.

    A part that dwarfs the others decides alone what the student learns. That may be right: it is
    for the validation accuracy to say.

    Args:
        means: "loss", and each of its terms as "loss_TERM"; one part alone has nothing to say.
        label_terms: The terms that come from the labels.
    """
    parts: dict[str, float] = {}
    for name, mean in means.items():
        if name.startswith("loss_"):
            term = name.removeprefix("loss_")
            part = "labels" if term in label_terms else _PARTS.get(term, "features")
            parts[part] = parts.get(part, 0.0) + mean
    parts = {part: mean for part, mean in parts.items() if mean}  # no label, or a weight of 0
    total = sum(parts.values())
    if len(parts) < 2 or not total > 0:
        return
    shares = {part: value / total for part, value in parts.items()}
    yield "shares of the loss: " + ", ".join(f"{p} {100 * s:.0f} %" for p, s in shares.items())
    for part, share in shares.items():
        if share > MOST_OF_THE_LOSS:
            yield (
                f"the {part} are nearly all of the loss; compare other values of "
                f"{_WEIGHTS[part]} on validation images"
            )


_PARTS = {"kd": "logits"}
_WEIGHTS = {"labels": "--ce-weight", "logits": "--kd-weight", "features": "--feature-weight"}


def chance_warning(teacher: Classifier, scores: Scores) -> str:
    """Returns a warning where a teacher is no better than chance; else an empty text.

    Chance is the accuracy of always answering the most frequent class. Two standard errors are
    allowed for, as few images may be answered right by luck. All answers right is never chance.
    """
    chance = max(all_ for _, all_ in scores.per_class) / max(scores.images, 1)
    luck = 2 * math.sqrt(chance * (1 - chance) / max(scores.images, 1))
    if scores.top1 > min(100 * (chance + luck), 99.9):
        return ""
    return (
        f"WARNING: the teacher {teacher.name} ({teacher.weights}) is no better than chance: "
        f"Acc@1 {scores.top1:.1f}, where always the same class gives {100 * chance:.1f}. It has "
        "nothing to teach: check its weights, and the order of its classes"
    )
