"""Positions: which places of a batch count at the points, and how much.

Padding never counts. Beside that, weights may come from boxes, or from what the teacher is sure of.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mgd.errors import InputError
from mgd.inside import Canvas, logits_of
from mgd.tensors.positions import resize_weights

Weights = Tensor | Callable[[Any, Canvas], Tensor] | None
"""Weights over positions: (B, h, w), or a function of the teacher's output and the canvas."""

STRIDE = 4
"""Pixels of a position of the weights made here; the finest maps of detectors have this stride."""


def box_weights(
    boxes: Sequence[Float[Tensor, "_ 4"]],
    canvas: Canvas,
    scores: Sequence[Float[Tensor, " _"]] | None = None,
    outside: float = 0.1,
) -> Float[Tensor, "batch rows columns"]:
    """Makes weights over positions from boxes.

    A position has the score of the best box that touches it, and at least `outside`.

    Args:
        boxes: Of each image, (N, 4): left, top, right, bottom in pixels of the image as it was
            given. An image may have none.
        canvas: Where the images lie; from `Distiller.canvas`.
        scores: Of each image's boxes, (N,), at least 0; `None` is 1.
        outside: The least weight, at least 0.

    Returns:
        (B, rows, columns) on the CPU, a row and a column for each 4 pixels of the canvas.

    Raises:
        InputError: If these are not the boxes of the canvas' images, or `outside` is negative.

    Example:
        >>> import torch, mgd
        >>> canvas = mgd.Canvas((8, 16), image_sizes=((8, 16),), original_sizes=((8, 16),))
        >>> mgd.box_weights([torch.tensor([[0.0, 0.0, 4.0, 8.0]])], canvas, outside=0.5)
        tensor([[[1.0000, 0.5000, 0.5000, 0.5000],
                 [1.0000, 0.5000, 0.5000, 0.5000]]])
    """
    if len(boxes) != len(canvas.image_sizes):
        raise InputError(
            f"`boxes` are those of {len(boxes)} images, but the batch has "
            f"{len(canvas.image_sizes)}; give a tensor (N, 4) for each image, (0, 4) for none"
        )
    if not outside >= 0:
        raise InputError(f"`outside` (={outside}) must be at least 0")
    rows, columns = (-(-side // STRIDE) for side in canvas.size)
    weights = torch.full((len(boxes), rows, columns), float(outside))
    sizes = zip(canvas.image_sizes, canvas.original_sizes, strict=True)
    for number, (image_size, original_size) in enumerate(sizes):
        height, width = (
            side / given for side, given in zip(image_size, original_size, strict=True)
        )
        scale = torch.tensor([width, height, width, height]) / STRIDE
        places = boxes[number].detach().cpu().float() * scale
        places = torch.cat([places[:, :2].floor(), places[:, 2:].ceil()], dim=1).clamp_min(0)
        given = torch.ones(len(places)) if scores is None else scores[number].detach().cpu().float()
        # In rising order, so that the best score is painted last.
        for index in given.argsort().tolist():
            left, top, right, bottom = map(int, places[index].tolist())
            weights[number, top:bottom, left:right] = max(float(given[index]), outside)
    return weights


def score_weights(
    output: Any, canvas: Canvas, outside: float = 0.1
) -> Float[Tensor, "batch rows columns"]:
    """Makes weights over positions from what the teacher found, and how sure it is.

    Args:
        output: Of the teacher: a list of `{"boxes", "scores", ...}` as torchvision's detectors
            return it, or class scores (B, K, H, W), also under `out`, as its segmenters return
            them. From a detector a position has the score of the best box on it; from a segmenter
            the probability of its likeliest class.
        canvas: Where the images lie.
        outside: The least weight, at least 0.

    Raises:
        InputError: For another output.

    Example:
        >>> import torch, mgd
        >>> canvas = mgd.Canvas((4, 8), image_sizes=((4, 8),), original_sizes=((4, 8),))
        >>> found = {"boxes": torch.tensor([[0.0, 0.0, 4.0, 4.0]]), "scores": torch.tensor([0.75])}
        >>> mgd.score_weights([found], canvas)
        tensor([[[0.7500, 0.1000]]])
    """
    if isinstance(output, list) and all({"boxes", "scores"} <= set(each) for each in output):
        boxes, scores = ([each[name] for each in output] for name in ("boxes", "scores"))
        return box_weights(boxes, canvas, scores, outside)
    scores = logits_of(output)
    if scores.dim() != 4:
        raise InputError(
            f"the teacher returned class scores {tuple(scores.shape)}; weights over positions need "
            "detections with boxes and scores, or class scores (B, K, H, W)"
        )
    return scores.float().softmax(1).amax(1).clamp_min(outside)


def place_weights(
    weights: Weights, output: Any, canvas: Canvas, device: torch.device
) -> tuple[Tensor | None, Tensor | None]:
    """Returns the mask of a batch, and its weights with 0 in the padding.

    Args:
        weights: As `Distiller.forward` takes them.
        output: Of the teacher.
        canvas: Where the images lie.
        device: Of the features.

    Returns:
        The mask (B, H, W), `None` without padding; the weights (B, H, W), `None` where they are 1.

    Raises:
        InputError: For weights of another shape, below 0 or not finite.
    """
    mask = None if canvas.is_filled else canvas.mask().to(device)
    if callable(weights) and not isinstance(weights, Tensor):
        weights = weights(output, canvas)
    if weights is None:
        return mask, mask
    num_images = len(canvas.image_sizes)
    if weights.dim() != 3 or len(weights) != num_images:
        raise InputError(
            f"`weights` have shape {tuple(weights.shape)}; needed is (B, h, w) with a weight for "
            f"each place of {num_images} images"
        )
    weights = weights.detach().to(device, torch.float32)
    if not bool((weights.isfinite() & (weights >= 0)).all()):
        raise InputError("`weights` must be finite and at least 0; 0 leaves a position out")
    if mask is None:
        return None, weights
    return mask, resize_weights(weights, canvas.size) * mask
