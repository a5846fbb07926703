"""What networks return: a tensor, or tensors nested in tuples, lists and dictionaries."""

from typing import Any

import torch
from torch import Tensor

# Private, but the one place where libraries such as transformers register their output classes.
from torch.utils._pytree import tree_leaves


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

    Example:
        >>> import torch
        >>> have_same_values((torch.ones(2), None), (torch.ones(2) + 1e-6, None))
        True
    """
    pairs = zip(tensors_in(one), tensors_in(other), strict=True)
    return all(
        torch.allclose(first, second, 1e-3, 1e-3 * float(first.abs().max()), equal_nan=True)
        for first, second in pairs
    )
