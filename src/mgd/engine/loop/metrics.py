"""Evaluation: accuracy and loss of one network, every image counted exactly once."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
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


class TermMeter:
    """Running means of the loss terms and the training accuracy, without waiting for the device.

    Args:
        terms: Names of the loss terms.
        device: Where the sums are kept.
    """

    def __init__(self, terms: Iterable[str], device: torch.device):
        self.names = ["loss", *(f"loss_{name}" for name in terms), "train_top1"]
        # A sum per term, right answers and images; "loss" is the sum of the terms.
        self.sums = torch.zeros(len(self.names), dtype=torch.float64, device=device)

    def reset(self) -> None:
        """Forgets all."""
        self.sums.zero_()

    @torch.no_grad()
    def update(self, terms: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch: weighted terms (n, B), logits (B, K) and labels (B,)."""
        right = (logits.argmax(1) == labels).sum()
        count = torch.full_like(right, len(labels))
        self.sums += torch.stack([*terms.detach().double().sum(1), right, count])

    def gather(self) -> None:
        """Moves all ranks' sums to rank 0, which writes the checkpoint."""
        if dist.is_initialized():
            dist.reduce(self.sums, dst=0)
            if dist.get_rank() != 0:
                self.reset()

    def compute(self) -> dict[str, float]:
        """Returns the means over all ranks' images, accuracy in percent."""
        sums = self.sums.clone()
        if dist.is_initialized():
            dist.all_reduce(sums)
        *terms, right, count = sums.tolist()
        # Without an image, where every step so far was skipped, there is no mean.
        means = [value / count if count else math.nan for value in [*terms, right]]
        return dict(zip(self.names, [sum(means[:-1]), *means[:-1], 100 * means[-1]], strict=True))


class Pace:
    """How fast an epoch goes, and how much of its time is spent waiting for data."""

    def __init__(self) -> None:
        self.images = 0
        self._begin, self._waited = time.perf_counter(), 0.0

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Passes batches on and adds up the time until each is there."""
        before = time.perf_counter()
        for batch in batches:
            self._waited += time.perf_counter() - before
            yield batch
            before = time.perf_counter()

    def row(self) -> dict[str, float]:
        """Returns images a second and the share of time spent waiting so far."""
        seconds = max(time.perf_counter() - self._begin, 1e-9)
        waited = round(self._waited / seconds, 4)
        return {"images_per_s": round(self.images / seconds, 1), "data_wait": waited}


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
