"""Working through large tensors in the order and the portions that their memory likes."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_BLOCK = 1 << 19
"""Elements, 2 MB of float32: temporaries of this size stay in a CPU's cache."""


def memory_blocks(features: Tensor) -> list[slice]:
    """Cuts a batch of images so that a chain of elementwise operations stays in the cache.

    On a CPU every large temporary costs more for fresh memory than for its arithmetic. A GPU
    gets one block: there each operation more costs a launch.
    """
    if features.device.type != "cpu" or torch.compiler.is_compiling():
        return [slice(None)]
    num_images = len(features)
    step = max(1, _BLOCK * num_images // max(1, features.numel()))
    return [slice(start, start + step) for start in range(0, num_images, step)]


def take_channels(
    features: Float[Tensor, "batch channels height width"], channels: Int64[Tensor, " taken"]
) -> Float[Tensor, "batch taken height width"]:
    """Returns `features[:, channels]` in the memory order of `features`.

    `index_select` alone would give channels-last features back in the other order, and every
    operation on both would read one of them against the grain.
    """
    rows = features.permute(0, 2, 3, 1)
    if features.is_contiguous() or not rows.is_contiguous():
        return features.index_select(1, channels)
    taken = rows.flatten(0, 2).index_select(1, channels)
    return taken.view(*rows.shape[:3], -1).permute(0, 3, 1, 2)
