"""Evaluation: accuracy and loss of one network, every image counted exactly once."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassStatScores

from mgd import ranks
from mgd.data.loading import Batch
from mgd.engine.tasks.classifier import Classifier
from mgd.errors import InputError
from mgd.inside import evaluating
from mgd.views import Preprocess


@dataclass(frozen=True)
class Scores:
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


@torch.inference_mode()
def evaluate(
    classifier: Classifier,
    batches: Iterable[Batch],
    num_classes: int,
    device: torch.device,
    confusion: bool = False,
) -> Scores:
    """Evaluates a network over this rank's shard and adds the counts up over the ranks.

    Args:
        classifier: The network, which gives (B, num_classes); run in eval mode, mode given back.
        batches: uint8 images, cut as its view says, and labels, on the device.
        num_classes: K.
        device: Where the counts are kept.
        confusion: Whether to count which class is taken for which.

    Raises:
        InputError: If the network does not have an output per class.
    """
    top_k = min(5, num_classes)
    loss = MeanMetric().to(device)
    counts = MulticlassStatScores(num_classes, average=None, validate_args=False).to(device)
    top5 = MulticlassAccuracy(num_classes, top_k, average="micro", validate_args=False).to(device)
    preprocess = Preprocess(classifier.view).to(device)
    start, pairs = time.perf_counter(), [torch.zeros(0, dtype=torch.long)]
    images_here = 0
    with evaluating(classifier.network):
        for images, labels in batches:
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
    )


@torch.inference_mode()
def answers_of(
    classifier: Classifier, batches: Iterable[Tensor], device: torch.device
) -> list[int]:
    """Returns the class that a network takes each image for.

    Args:
        classifier: The network; run in eval mode, mode given back.
        batches: uint8 images, cut as its view says, on the device.
        device: Of the images.
    """
    preprocess = Preprocess(classifier.view).to(device)
    with evaluating(classifier.network):
        found = [classifier.logits(preprocess(images)).argmax(1).cpu() for images in batches]
    return torch.cat(found).tolist() if found else []


def _count(pairs: Tensor, num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """Counts (class, answer) pairs, numbered class * K + answer, over all ranks."""
    everywhere = torch.cat(ranks.gather_objects(pairs))
    found, counts = everywhere.unique(return_counts=True)
    rows = zip(found.tolist(), counts.tolist(), strict=True)
    return tuple((*divmod(number, num_classes), count) for number, count in rows)
