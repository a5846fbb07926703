"""Faster access to memory: cache-sized blocks, and the channels-last memory format."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_BLOCK = 1 << 19
"""Elements of a block, 2 MB of float32: temporary tensors of this size stay in a CPU's cache."""


def memory_blocks(features: Tensor) -> list[slice]:
    """Cuts a batch into blocks of images that fit into a CPU's cache.

    Use it around a chain of elementwise operations. On a CPU, new memory for a large temporary
    tensor takes longer than the arithmetic. A GPU gets the batch as one block, because there each
    further operation costs a kernel launch.
    """
    if features.device.type != "cpu" or torch.compiler.is_compiling():
        return [slice(None)]
    num_images = len(features)
    step = max(1, _BLOCK * num_images // max(1, features.numel()))
    return [slice(start, start + step) for start in range(0, num_images, step)]


def take_channels(
    features: Float[Tensor, "batch channels height width"], channels: Int64[Tensor, " taken"]
) -> Float[Tensor, "batch taken height width"]:
    """Returns `features[:, channels]` in the memory format of `features`.

    `index_select` alone returns channels-last features in the contiguous format. Operations on
    two tensors of different memory formats are slow.
    """
    rows = features.permute(0, 2, 3, 1)
    if features.is_contiguous() or not rows.is_contiguous():
        return features.index_select(1, channels)
    taken = rows.flatten(0, 2).index_select(1, channels)
    return taken.view(*rows.shape[:3], -1).permute(0, 3, 1, 2)
