"""Evaluation: accuracy and loss of one network, every image counted exactly once."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassStatScores

from mgd.data.loading import Batch
from mgd.errors import InputError
from mgd.inside import evaluating


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


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    batches: Iterable[Batch],
    prepare: Callable[[Batch], Batch],
    num_classes: int,
    device: torch.device,
) -> Scores:
    """Evaluates a network over this rank's shard and adds the counts up over the ranks.

    Args:
        network: (B, 3, H, W) -> (B, num_classes); run in eval mode, mode given back.
        batches: As the loader gives them.
        prepare: Moves a batch to the device and normalises it.
        num_classes: K.
        device: Where the counts are kept.

    Raises:
        InputError: If the network does not have an output per class.
    """
    top_k = min(5, num_classes)
    loss = MeanMetric().to(device)
    counts = MulticlassStatScores(num_classes, average=None, validate_args=False).to(device)
    top5 = MulticlassAccuracy(num_classes, top_k, average="micro", validate_args=False).to(device)
    start, images_here = time.perf_counter(), 0
    with evaluating(network):
        for batch in batches:
            images, labels = prepare(batch)
            logits: Tensor = network(images).float()
            if logits.shape[1:] != (num_classes,):
                raise InputError(
                    f"{type(network).__name__} has outputs {tuple(logits.shape[1:])}, but the data "
                    f"has {num_classes} classes; give a network or weights for these classes"
                )
            losses = F.cross_entropy(logits, labels, reduction="none")
            loss.update(losses, torch.ones_like(losses))
            counts.update(logits, labels)
            top5.update(logits, labels)
            images_here += len(labels)
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
    )
