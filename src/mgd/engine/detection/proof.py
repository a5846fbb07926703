"""Proof of an exported detector: the same boxes as in PyTorch, on the same real images."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from mgd.data.boxes import BoxSplit
from mgd.data.boxes_by_place import load_boxes
from mgd.data.check import Watch, unwatched
from mgd.engine.compare import Clock
from mgd.engine.detection.exporting import read_answer
from mgd.engine.detection.precision import Found
from mgd.engine.export import Measured, chosen, measured_side_by_side
from mgd.engine.options.config import RunConfig
from mgd.errors import InputError

LEAST_SHARE = 0.999
"""Share of the boxes that must be the same. Rounding moves a few over the thresholds for a score
and for an overlap."""
_NEVER = 1e6
"""Cost of a pair that is not the same box."""


@dataclass(frozen=True)
class BoxImages:
    """A random part of the validation images of a data set, always the same."""

    source: str
    """Name of the data set."""
    split: BoxSplit
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def tries(self) -> int:
        """How many images are yielded."""
        return len(self) + 2

    def __iter__(self) -> Iterator[Tensor]:
        """Yields images (3, H, W) from 0 to 1; the first also turned, and at half its size.

        The images of a data set may all be of one size, and a program must not know it.
        """
        for number, index in enumerate(self.indices):
            image = self.split.image(index).float() / 255
            yield image
            if number == 0:
                yield image.transpose(1, 2).contiguous()
                yield image[:, ::2, ::2].contiguous()


def box_images_of(config: RunConfig, number: int) -> BoxImages:
    """Returns images that a detector was chosen on.

    Args:
        config: Of the run, as far as it says which images are its own.
        number: How many to take, at most.

    Raises:
        InputError: If they cannot be found.
    """
    data = config.data.data
    split = load_boxes(data, config.data.bit_depth).valid
    return BoxImages(data, split, tuple(chosen(len(split), number, config.schedule.seed)))


@dataclass(frozen=True, kw_only=True)
class BoxProof:
    """How the boxes of a file compare with those of the detector in PyTorch."""

    source: str
    """Name of the data."""
    images: int
    boxes: int
    """Boxes on all images; where the file finds another number than PyTorch, the larger one."""
    same: int
    """Boxes that both find: of the same class, with corners and score within the tolerance."""
    difference: float
    """Largest difference of these: of a score, or of a corner as a share of the longer side."""
    networks: tuple[Measured, ...]
    """The one in PyTorch first, the file last."""


@torch.inference_mode()
def prove_boxes(
    network: nn.Module,
    source: Path,
    file: Path,
    images: BoxImages,
    tolerance: float,
    *,
    watch: Watch = unwatched,
    clock: Clock = time.perf_counter,
) -> BoxProof:
    """Runs a detector and the file that it was written to on the same images.

    Args:
        network: In eval mode, on the CPU.
        source: The file that it comes from.
        file: Read anew, as its reader would.
        images: At least one.
        tolerance: Largest difference up to which two boxes are the same; see `same_boxes`.
        watch: Passes on the images.
        clock: Returns the time in seconds.

    Raises:
        InputError: If the file cannot be run.
    """
    answer = read_answer(file)
    boxes = same = 0
    difference = 0.0
    firsts: list[Tensor] = []
    for image in watch(images, images.tries):
        firsts = firsts or [image]
        expected, found = network([image])[0], answer(image)
        differences = same_boxes(expected, found, max(image.shape[1:]), tolerance)
        boxes += max(len(expected["labels"]), len(found["labels"]))
        same += len(differences)
        difference = max([difference, *differences])
    steps = [partial(network, firsts), partial(answer, firsts[0])]
    return BoxProof(
        source=images.source,
        images=len(images),
        boxes=boxes,
        same=same,
        difference=difference,
        networks=measured_side_by_side((source, file), steps, clock),
    )


def same_boxes(expected: Found, found: Found, side: int, tolerance: float) -> list[float]:
    """Pairs the boxes that two detectors find on an image, as many as can be paired.

    Args:
        expected, found: What was found.
        side: Longer side of the image, in pixels.
        tolerance: Boxes of the same class are a pair if their scores differ by at most this, and
            their corners by at most this share of `side`.

    Returns:
        The larger of both differences, of each pair.

    Example:
        >>> box = {"boxes": torch.tensor([[0.0, 0, 8, 8]]), "labels": torch.tensor([1])}
        >>> one = {**box, "scores": torch.tensor([0.75])}
        >>> same_boxes(one, {**box, "scores": torch.tensor([0.5])}, side=16, tolerance=0.3)
        [0.25]
    """
    corners = (expected["boxes"][:, None] - found["boxes"][None]).abs().amax(2) / side
    scores = (expected["scores"][:, None] - found["scores"][None]).abs()
    differences = torch.maximum(corners, scores)
    same = expected["labels"][:, None] == found["labels"][None]
    fits = same & (differences <= tolerance)  # never where it is NaN
    costs = np.where(fits.numpy(), differences.numpy(), _NEVER)
    rows, columns = linear_sum_assignment(costs)
    return [cost for cost in costs[rows, columns].tolist() if cost < _NEVER]


def check_boxes(proof: BoxProof, path: Path, tolerance: float) -> None:
    """Checks that the boxes of a file are those of the detector, but for rounding.

    Args:
        proof: Of the file.
        path: Where the file was to be.
        tolerance: Which the proof was made with.

    Raises:
        InputError: If they are not.
    """
    if proof.same < LEAST_SHARE * proof.boxes:
        raise InputError(
            f"'{path}' is not kept: {proof.same} of {proof.boxes} boxes are those of PyTorch (the "
            f"same class, and score and corners within --tolerance {tolerance:g}), and "
            f"{LEAST_SHARE:.1%} must be; choose another --format, or a larger --tolerance if this "
            "is near enough"
        )
