"""What networks return: a tensor, or tensors nested in tuples, lists and dictionaries."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

# Private, but the one place where libraries such as transformers register their output classes.
from torch.utils._pytree import tree_leaves

from mgd.errors import InputError


def logits_of(output: Any) -> Tensor:
    """Returns the class scores in what a network returned.

    Args:
        output: A tensor, which is returned as it is; an object or mapping with `logits`, as
            Hugging Face's networks return, and torchvision's GoogLeNet and Inception in training
            mode; or a mapping with `out`, as torchvision's segmentation networks return.

    Raises:
        InputError: For anything else.

    Example:
        >>> import torch, mgd
        >>> mgd.logits_of({"logits": torch.zeros(2, 5), "hidden_states": None}).shape
        torch.Size([2, 5])
    """
    if isinstance(output, Tensor):
        return output
    parts = output if isinstance(output, Mapping) else {}
    for scores in (parts.get("logits", getattr(output, "logits", None)), parts.get("out")):
        if isinstance(scores, Tensor):
            return scores
    keys = f" with {', '.join(map(str, parts))}" if parts else ""
    raise InputError(
        f"a network returned a {type(output).__name__}{keys}, in which no class scores are known; "
        "needed is a tensor, or `logits` or `out`: wrap the network in one that returns the tensor"
    )


def tensors_in(output: Any) -> list[Tensor]:
    """Returns every tensor in what a network returned, in a fixed order.

    Example:
        >>> import torch
        >>> len(tensors_in({"logits": torch.zeros(2, 5), "features": [torch.zeros(2, 8)]}))
        2
    """
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def have_same_values(one: Any, other: Any) -> bool:
    """Tells whether two outputs of one network agree, to 0.1 % of each tensor's largest value.

    Values that are infinite or not a number agree with the same values alone.

    Example:
        >>> import torch
        >>> have_same_values((torch.ones(2), None), (torch.ones(2) + 1e-6, None))
        True
    """
    pairs = zip(tensors_in(one), tensors_in(other), strict=True)
    return all(_are_close(first.float(), second.float()) for first, second in pairs)


def _are_close(first: Tensor, second: Tensor) -> bool:
    finite = first[first.isfinite()].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    return torch.allclose(first, second, rtol=1e-3, atol=1e-3 * largest, equal_nan=True)
