"""Finding: the boxes on images, by a trained detector from a file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torchvision.transforms import v2

from mgd.data.boxes import as_lists
from mgd.data.decode import BitDepth
from mgd.data.folder import FolderSplit
from mgd.data.loading import EvalBatches, ImageDataset, build_loader
from mgd.engine.detection.detectors import load_detector
from mgd.engine.detection.precision import Found
from mgd.engine.loop.batches import batches_of
from mgd.engine.loop.workers import telling_of_dead_workers
from mgd.engine.tasks.trained import file_of
from mgd.inside import evaluating


@dataclass(frozen=True)
class FoundBox:
    """An object that was found on an image."""

    name: str
    """Of its class."""
    score: float
    """How sure the detector is, from 0 to 1."""
    corners: tuple[float, float, float, float]
    """Left, top, right and bottom edge, in pixels of the image as it is shown upright."""


@dataclass(frozen=True)
class Finding:
    """The objects that were found on one image, the surest first; there may be none."""

    image: str
    """Path of its file."""
    boxes: tuple[FoundBox, ...]


def find_boxes(
    files: Sequence[str],
    model: str | Path,
    *,
    least_score: float = 0.3,
    most: int | None = None,
    batch_size: int = 64,
    workers: int = 0,
    bit_depth: BitDepth = "auto",
) -> Iterator[Finding]:
    """Yields the objects on each image, in the order of the files.

    Args:
        files: Image files.
        model: A run folder of a detector, or a file of its weights that tells its classes.
        least_score: Boxes of which the detector is less sure are left out, from 0 to 1.
        most: How many boxes an image has at most, the surest; `None` for all.
        batch_size: Images at a time.
        workers: Processes that read images; 0 reads in this one.
        bit_depth: How many bits the grey values in 16-bit files have; see `mgd.data.decode`.

    Raises:
        InputError: For a file that cannot be read.
    """
    detector = load_detector(file_of(Path(model)))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = detector.network.to(device)
    split = FolderSplit([(file, -1) for file in files], bit_depth)
    dataset = ImageDataset(split, v2.Identity(), 0)  # the detector resizes its images itself
    loader = build_loader(dataset, EvalBatches(len(files), batch_size), workers, as_lists)
    remaining = iter(files)
    with telling_of_dead_workers(), evaluating(network):
        for images, _ in batches_of(loader):
            shown = [image.to(device).float() / 255 for image in images]
            with torch.inference_mode():
                answers: list[Found] = network(shown)
            for answer in answers:
                boxes = _boxes(answer, detector.classes, least_score)
                yield Finding(next(remaining), tuple(boxes[:most]))


def _boxes(found: Found, classes: Sequence[str], least_score: float) -> list[FoundBox]:
    rows = zip(
        found["labels"].tolist(), found["scores"].tolist(), found["boxes"].tolist(), strict=True
    )
    boxes = [
        FoundBox(classes[label - 1], score, tuple(corners))
        for label, score, corners in rows
        if score >= least_score
    ]
    return sorted(boxes, key=lambda box: -box.score)
