"""Evaluation: accuracy and loss of one network, every image counted exactly once."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassStatScores

from mgd import ranks
from mgd.data.loading import Batch
from mgd.engine.loop.supply import Measured
from mgd.engine.tasks.classifier import Classifier
from mgd.errors import InputError
from mgd.inside import evaluating
from mgd.views import Preprocess

Item = TypeVar("Item")


@dataclass(frozen=True)
class Answers:
    """What a network takes the images of a part for, in the order of the part."""

    classes: tuple[int, ...]
    """Number of the likeliest class of each image."""
    probabilities: tuple[float, ...]
    """Its softmax over the run's classes, 0 to 1."""


@dataclass(frozen=True)
class Scores(Measured):
    """What an evaluation found. Accuracies are in percent."""

    loss: float
    """Mean cross-entropy of an image."""
    top1: float
    top5: float
    images: int
    images_per_second: float
    """Of this process, data loading included."""
    per_class: tuple[tuple[int, int], ...]
    """(right, all) images of each class."""
    confusion: tuple[tuple[int, int, int], ...] = ()
    """(class, answer, images) where it was counted; pairs without an image are left out."""
    answers: Answers | None = None
    """Of every image, over all ranks, where they were asked for."""

    @property
    def best(self) -> dict[str, float]:
        """The accuracies; top-1 chooses the epoch."""
        return {"top1": self.top1, "top5": self.top5}

    @property
    def as_student(self) -> dict[str, float]:
        """Loss and accuracies as those of an epoch."""
        return {"valid_loss": self.loss, "valid_top1": self.top1, "valid_top5": self.top5}

    @property
    def as_teacher(self) -> dict[str, float]:
        """The accuracies as those of the teacher."""
        return {"teacher_top1": self.top1, "teacher_top5": self.top5}


@torch.inference_mode()
def evaluate(
    classifier: Classifier,
    batches: Iterable[Batch],
    num_classes: int,
    device: torch.device,
    confusion: bool = False,
    answers: bool = False,
) -> Scores:
    """Evaluates a network over this rank's shard and adds the counts up over the ranks.

    Args:
        classifier: The network, which gives (B, num_classes); run in eval mode, mode given back.
        batches: uint8 images, cut as its view says, and labels, on the device.
        num_classes: K.
        device: Where the counts are kept.
        confusion: Whether to count which class is taken for which.
        answers: Whether to return the answer to each image. The ranks must have their images in
            turn, as `EvalBatches` deals them out.

    Raises:
        InputError: If the network does not have an output per class.
    """
    top_k = min(5, num_classes)
    loss = MeanMetric().to(device)
    counts = MulticlassStatScores(num_classes, average=None, validate_args=False).to(device)
    top5 = MulticlassAccuracy(num_classes, top_k, average="micro", validate_args=False).to(device)
    preprocess = Preprocess(classifier.view).to(device)
    start, pairs = time.perf_counter(), [torch.zeros(0, dtype=torch.long)]
    images_here, likeliest = 0, list[tuple[Tensor, Tensor]]()
    with evaluating(classifier.network):
        for images, labels in _in_step(classifier, batches, device):
            logits = classifier.logits(preprocess(images)).float()
            if logits.shape[1:] != (num_classes,):
                raise InputError(
                    f"{classifier.name} has outputs {tuple(logits.shape[1:])}, but the data has "
                    f"{num_classes} classes; give a network or weights for these classes"
                )
            losses = F.cross_entropy(logits, labels, reduction="none")
            loss.update(losses, torch.ones_like(losses))
            counts.update(logits, labels)
            top5.update(logits, labels)
            images_here += len(labels)
            if confusion:
                pairs.append((labels * num_classes + logits.argmax(1)).cpu())
            if answers:
                likeliest.append(_likeliest(logits))
    seconds = time.perf_counter() - start
    scores = counts.compute()
    right, support = scores[:, 0], scores[:, 4]
    total = int(support.sum())
    return Scores(
        loss=float(loss.compute()),
        top1=100 * float(right.sum()) / max(total, 1),
        top5=round(100 * float(top5.compute()), 4),  # torchmetrics counts in float32
        images=total,
        images_per_second=images_here / max(seconds, 1e-9),
        per_class=tuple(zip(right.tolist(), support.tolist(), strict=True)),
        confusion=_count(torch.cat(pairs), num_classes) if confusion else (),
        answers=_of_all_ranks(likeliest) if answers else None,
    )


@torch.inference_mode()
def answers_of(classifier: Classifier, batches: Iterable[Tensor], device: torch.device) -> Answers:
    """Returns what a network takes the images of all ranks for.

    Args:
        classifier: The network; run in eval mode, mode given back.
        batches: This rank's uint8 images, cut as its view says, on the device; the ranks have
            theirs in turn, as `EvalBatches` deals them out.
        device: Of the images.
    """
    preprocess = Preprocess(classifier.view).to(device)
    with evaluating(classifier.network):
        found = [
            _likeliest(classifier.logits(preprocess(images)).float())
            for images in _in_step(classifier, batches, device)
        ]
    return _of_all_ranks(found)


def _in_step(
    classifier: Classifier, batches: Iterable[Item], device: torch.device
) -> Iterator[Item]:
    """Yields this rank's batches; a network that needs all ranks at once then helps the others."""
    if not ranks.is_sharded(classifier.network):
        return iter(batches)
    size = classifier.view.size
    image = torch.zeros(1, classifier.view.num_channels, size, size, device=device)
    return ranks.keep_step(batches, lambda: classifier.network(image))


def _likeliest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the class with the highest of the scores (B, K), and its probability: each (B,)."""
    classes = logits.argmax(1, keepdim=True)  # as the accuracy has it, also where softmax is 1
    return classes[:, 0].cpu(), logits.softmax(1).gather(1, classes)[:, 0].cpu()


def _of_all_ranks(parts: Sequence[tuple[Tensor, Tensor]]) -> Answers:
    """Puts the answers of all ranks, which have their images in turn, into the order of the part.

    Args:
        parts: This rank's classes and probabilities, batch by batch.
    """
    own = [pair for part in parts for pair in zip(*(each.tolist() for each in part), strict=True)]
    shares = ranks.gather_objects(own)
    pairs = [pair for turn in zip_longest(*shares) for pair in turn if pair is not None]
    return Answers(tuple(found for found, _ in pairs), tuple(share for _, share in pairs))


def _count(pairs: Tensor, num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """Counts (class, answer) pairs, numbered class * K + answer, over all ranks."""
    everywhere = torch.cat(ranks.gather_objects(pairs))
    found, counts = everywhere.unique(return_counts=True)
    rows = zip(found.tolist(), counts.tolist(), strict=True)
    return tuple((*divmod(number, num_classes), count) for number, count in rows)
