"""Meters of an epoch: means of the loss terms, and how fast it goes."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from mgd import ranks
from mgd.data.loading import Batch
from mgd.data.mixing import largest_class
from mgd.method.running import RunningSums


class TermMeter(RunningSums):
    """Running means of the loss terms and the training accuracy; the host does not wait for them.

    The sums are kept in float64, since an epoch may have millions of images.

    Args:
        terms: Names of the loss terms.
    """

    sums: Tensor
    num_right: Tensor
    num_labelled: Tensor

    def __init__(self, terms: Iterable[str]):
        names = [f"loss_{name}" for name in terms]
        super().__init__(dtype=torch.float64, sums=(len(names),), num_right=(), num_labelled=())
        self.names = names

    @torch.no_grad()
    def update(self, terms: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch: weighted terms (n, B), logits (B, K) and labels as `largest_class` takes.

        Of a mixed image the class with the largest share is the right one.
        """
        labels = largest_class(labels)
        self.sums += terms.detach().double().sum(1)
        self.num_right += (logits.argmax(1) == labels).sum()
        self.num_labelled += (labels >= 0).sum()
        self.image_count += len(labels)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Goes back to a state on rank 0 alone, whose sums are those of all ranks."""
        # Version 0.2.0 had no images without a label.
        state_dict = {"num_labelled": state_dict.get("image_count"), **state_dict}
        result = super().load_state_dict(state_dict, strict, assign)
        if ranks.rank() != 0:
            self.reset()
        return result

    def gather(self) -> None:
        """Moves all ranks' sums to rank 0, which writes the checkpoint."""
        ranks.sum_on_first(self.statistics())

    def compute(self) -> dict[str, float]:
        """Returns the means over all ranks' images: "loss", the terms, and "train_top1" in percent.

        The loss is the sum of its terms. Without an image, where every step so far was skipped, the
        means are NaN.
        """
        total = torch.cat([statistic.flatten() for statistic in self.statistics()])
        ranks.sum_over_ranks([total])
        count, *sums, right, labelled = total.tolist()
        means = [value / count if count else math.nan for value in sums]
        terms = dict(zip(self.names, means, strict=True))
        top1 = 100 * right / labelled if labelled else math.nan
        return {"loss": sum(terms.values()), **terms, "train_top1": top1}


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
