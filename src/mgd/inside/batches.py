"""Batches: where the images and the labels are in what a loader gives, or a network takes."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from torch import Tensor

IMAGE_KEYS = ("image", "images", "pixel_values", "x")
"""Under the first of these that is there, a batch that is a mapping has its images."""

LABEL_KEYS = ("label", "labels", "target", "targets", "y")
"""The same for its labels."""


def find_images(batch: Any) -> Tensor | Sequence[Tensor] | None:
    """Returns the images of a batch; `None` where none are known.

    Args:
        batch: Images; or a tuple or list that starts with them, or a mapping that has them under
            a name in `IMAGE_KEYS`. Images are a tensor, or a list of images (C, H, W), as
            detectors take them.

    Example:
        >>> import torch
        >>> from mgd.inside import find_images
        >>> images = [torch.zeros(3, 8, 6), torch.zeros(3, 4, 9)]
        >>> find_images((images, [{"boxes": torch.zeros(0, 4)}] * 2)) is images
        True
    """
    if isinstance(batch, Tensor) or _is_image_list(batch):
        return batch
    found = _part_of(batch, 0, IMAGE_KEYS)
    return found if isinstance(found, Tensor) or _is_image_list(found) else None


def find_labels(batch: Any) -> Tensor | None:
    """Returns the labels of a batch; `None` where none are known.

    Args:
        batch: A tuple or list that has them second, or a mapping that has them under a name in
            `LABEL_KEYS`.
    """
    if _is_image_list(batch):
        return None
    found = _part_of(batch, 1, LABEL_KEYS)
    return found if isinstance(found, Tensor) else None


def described(batch: Any) -> str:
    """Says of what kind a batch is, for a message.

    Example:
        >>> from mgd.inside.batches import described
        >>> print(described({"pixels": 1}), described([]), described(["a.png", 3]), sep="; ")
        a dict with pixels; a list that starts with a NoneType; a list that starts with a str
    """
    kind = f"a {type(batch).__name__}"
    if isinstance(batch, Mapping):
        return f"{kind} with {', '.join(map(str, batch))}"
    if isinstance(batch, (tuple, list)):
        return f"{kind} that starts with a {type(batch[0] if batch else None).__name__}"
    return kind


def _is_image_list(value: Any) -> TypeGuard[Sequence[Tensor]]:
    is_list = isinstance(value, (tuple, list)) and len(value) > 0
    return is_list and all(isinstance(each, Tensor) and each.dim() == 3 for each in value)


def _part_of(batch: Any, place: int, keys: Sequence[str]) -> Any:
    if isinstance(batch, Mapping):
        return next((batch[key] for key in keys if key in batch), None)
    if isinstance(batch, (tuple, list)) and len(batch) > place:
        return batch[place]
    return None
