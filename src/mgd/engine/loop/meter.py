"""Meters of an epoch: means of the loss terms, and how fast it goes."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from mgd import ranks
from mgd.data.mixing import largest_class
from mgd.method.running import RunningSums

Batch = TypeVar("Batch")


class TermMeter(RunningSums):
    """Running means of the loss terms; the host does not wait for them.

    The sums are kept in float64, since an epoch may have millions of images.

    Args:
        terms: Names of the loss terms.
        counts: Names of more sums, each of one number.
    """

    sums: Tensor

    def __init__(self, terms: Iterable[str], counts: Iterable[str] = ()):
        names = [f"loss_{name}" for name in terms]
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(counts, ())
        super().__init__(dtype=torch.float64, sums=(len(names),), **shapes)
        self.names = names

    @torch.no_grad()
    def update(self, terms: Tensor, output: Any, targets: Any) -> None:
        """Adds a batch.

        Args:
            terms: Weighted terms of the loss (n, B).
            output: What the task's `losses` returned beside them.
            targets: What is known of the images.
        """
        self.sums += terms.detach().double().sum(1)
        self.image_count += terms.shape[1]

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Goes back to a state on rank 0 alone, whose sums are those of all ranks."""
        result = super().load_state_dict(state_dict, strict, assign)
        if ranks.rank() != 0:
            self.reset()
        return result

    def gather(self) -> None:
        """Moves all ranks' sums to rank 0, which writes the checkpoint."""
        ranks.sum_on_first(self.statistics())

    def compute(self) -> dict[str, float]:
        """Returns the means over all ranks' images: "loss", the terms, and what was counted.

        The loss is the sum of its terms. Without an image, where every step so far was skipped, the
        means are NaN.
        """
        total = torch.cat([statistic.flatten() for statistic in self.statistics()])
        ranks.sum_over_ranks([total])
        count, *sums = total.tolist()
        sums, counts = sums[: len(self.names)], sums[len(self.names) :]
        means = [value / count if count else math.nan for value in sums]
        terms = dict(zip(self.names, means, strict=True))
        return {"loss": sum(terms.values()), **terms, **self.counted(*counts)}

    def counted(self, *counts: float) -> dict[str, float]:
        """Returns columns of an epoch made from the counts, in the order of their names."""
        return {}


class AccuracyMeter(TermMeter):
    """The same, with the training accuracy: "train_top1" in percent.

    Args:
        terms: Names of the loss terms.
    """

    num_right: Tensor
    num_labelled: Tensor

    def __init__(self, terms: Iterable[str]):
        super().__init__(terms, ("num_right", "num_labelled"))

    @torch.no_grad()
    def update(self, terms: Tensor, output: Tensor, targets: Tensor) -> None:
        """Adds a batch: weighted terms (n, B), logits (B, K) and labels as `largest_class` takes.

        Of a mixed image the class with the largest share is the right one.
        """
        super().update(terms, output, targets)
        labels = largest_class(targets)
        self.num_right += (output.argmax(1) == labels).sum()
        self.num_labelled += (labels >= 0).sum()

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Goes back to a state; see `TermMeter`."""
        # Version 0.2.0 had no images without a label.
        state_dict = {"num_labelled": state_dict.get("image_count"), **state_dict}
        return super().load_state_dict(state_dict, strict, assign)

    def counted(self, *counts: float) -> dict[str, float]:
        """Returns the accuracy; NaN without an image with a label."""
        right, labelled = counts
        return {"train_top1": 100 * right / labelled if labelled else math.nan}


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
        """Returns images per second and the share of time spent waiting so far, in [0, 1]."""
        seconds = max(time.perf_counter() - self._begin, 1e-9)
        waited = round(self._waited / seconds, 4)
        return {"images_per_s": round(self.images / seconds, 1), "data_wait": waited}
