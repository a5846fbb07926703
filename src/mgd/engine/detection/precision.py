"""Precision: mean average precision of one detector, every image counted exactly once."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from mgd import ranks
from mgd.data.boxes import Target
from mgd.engine.detection.detectors import Detector
from mgd.engine.loop.supply import Measured
from mgd.errors import import_extra
from mgd.inside import evaluating

Found = dict[str, Tensor]
"""`boxes` (N, 4), `labels` (N,) and `scores` (N,) of an image."""


@dataclass(frozen=True)
class Precisions(Measured):
    """What a measurement of a detector found. Precisions are in percent, as COCO defines them."""

    map: float
    """Mean over the classes, and over overlaps of 0.50 to 0.95."""
    map_50: float
    """At overlaps of at least 0.50."""
    map_75: float
    per_class: tuple[float, ...]
    """`map` of each class; NaN of one that is on no image."""
    images: int
    images_per_second: float
    """Of this process, data loading included."""
    found: tuple[Found, ...] = ()
    """What was found on each image, in the order of the part, where it was asked for."""

    @property
    def best(self) -> dict[str, float]:
        """The precisions of the best epoch; `map` chooses it."""
        return {"map": self.map, "map_50": self.map_50}

    @property
    def as_student(self) -> dict[str, float]:
        """The precisions as those of an epoch."""
        return {
            "valid_map": self.map,
            "valid_map_50": self.map_50,
            "valid_map_75": self.map_75,
        }

    @property
    def as_teacher(self) -> dict[str, float]:
        """The precisions as those of the teacher."""
        return {"teacher_map": self.map, "teacher_map_50": self.map_50}


@torch.inference_mode()
def measure(
    detector: Detector,
    batches: Iterable[tuple[list[Tensor], list[Target]]],
    keep: bool = False,
) -> Precisions:
    """Measures a detector over this rank's shard, together with all ranks.

    Args:
        detector: Run in eval mode, mode given back.
        batches: Images from 0 to 1 on the device, and what is on them. The ranks must have their
            images in turn, as `EvalBatches` deals them out.
        keep: Whether to return what was found.

    Raises:
        MissingPackageError: If pycocotools is not installed.
    """
    start, own = time.perf_counter(), list[tuple[Found, Target]]()
    with evaluating(detector.network):
        for images, targets in batches:
            answers = detector.network(images)
            pairs = zip(answers, targets, strict=True)
            own += [(_plain(one), _plain(other)) for one, other in pairs]
    seconds = time.perf_counter() - start
    shares = ranks.gather_objects(own)
    every = [pair for turn in zip_longest(*shares) for pair in turn if pair is not None]
    found, truth = [one for one, _ in every], [other for _, other in every]
    figures = mean_average_precision(found, truth)
    classes = dict(zip(figures["classes"].tolist(), figures["map_per_class"].tolist(), strict=True))
    known = [classes.get(number + 1, -1.0) for number in range(len(detector.classes))]
    return Precisions(
        map=_percent(figures["map"]),
        map_50=_percent(figures["map_50"]),
        map_75=_percent(figures["map_75"]),
        per_class=tuple(100 * each if each >= 0 else float("nan") for each in known),
        images=len(every),
        images_per_second=len(own) / max(seconds, 1e-9),
        found=tuple(found) if keep else (),
    )


def mean_average_precision(found: Sequence[Found], truth: Sequence[Target]) -> dict[str, Tensor]:
    """Returns COCO's figures, from 0 to 1, by torchmetrics and pycocotools.

    Args:
        found: `boxes`, `labels` and `scores` of each image.
        truth: `boxes`, `labels` and `crowd` of each image; boxes of a crowd count neither way.

    Raises:
        MissingPackageError: If pycocotools is not installed.
    """
    import_extra("pycocotools", "detection", "mean average precision")
    from torchmetrics.detection import MeanAveragePrecision

    # Every rank has all images: nothing is to be shared.
    metric = MeanAveragePrecision(class_metrics=True, sync_on_compute=False)
    metric.warn_on_many_detections = False
    targets = [
        {"boxes": each["boxes"], "labels": each["labels"], "iscrowd": each["crowd"].int()}
        for each in truth
    ]
    metric.update([*found], targets)
    figures: dict[str, Tensor] = metric.compute()
    # Of one class there is a number, of several a list of them.
    for name in ("classes", "map_per_class"):
        figures[name] = figures[name].reshape(-1)
    return figures


def _plain(tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {name: value.detach().cpu() for name, value in tensors.items()}


def _percent(share: Tensor) -> float:
    """Returns a share in percent; without a box on any image there is none: 0."""
    return round(100 * max(float(share), 0.0), 4)
