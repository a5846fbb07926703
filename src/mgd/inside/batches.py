"""Batches: where the images and the labels are in what a loader gives, or a network takes."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

IMAGE_KEYS = ("image", "images", "pixel_values", "x")
"""Under the first of these that is there, a batch that is a mapping has its images."""

LABEL_KEYS = ("label", "labels", "target", "targets", "y")
"""The same for its labels."""


def find_images(batch: Any) -> Tensor | None:
    """Returns the images of a batch; `None` where none are known.

    Args:
        batch: A tensor, a tuple or list that starts with one, or a mapping that has one under a
            name in `IMAGE_KEYS`.
    """
    return batch if isinstance(batch, Tensor) else _tensor_in(batch, 0, IMAGE_KEYS)


def find_labels(batch: Any) -> Tensor | None:
    """Returns the labels of a batch; `None` where none are known.

    Args:
        batch: A tuple or list that has them second, or a mapping that has them under a name in
            `LABEL_KEYS`.
    """
    return _tensor_in(batch, 1, LABEL_KEYS)


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


def _tensor_in(batch: Any, place: int, keys: Sequence[str]) -> Tensor | None:
    found = None
    if isinstance(batch, Mapping):
        found = next((batch[key] for key in keys if key in batch), None)
    elif isinstance(batch, (tuple, list)) and len(batch) > place:
        found = batch[place]
    return found if isinstance(found, Tensor) else None
