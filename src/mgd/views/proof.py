"""Proof that a view shows a network the same images as the library that published it."""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from mgd.errors import InputError

Show = Callable[[Tensor], Tensor]
"""uint8 (3, H, W) -> what the network sees, (C, size, size)."""

MOST_DIFFERENCE = 0.05
"""Mean difference, in standard deviations of what the network sees, up to which two are equal.

The image processors of transformers 5.24 that a view fits make at most 0.04, by other roundings; of
the others, each makes at least 0.4.
"""


def prove(ours: Show, theirs: Show) -> None:
    """Compares what two show of a wide image, and of a tall one that has to be enlarged.

    Raises:
        InputError: If they differ, or the second cannot show one image.
    """
    for height, width in ((360, 480), (96, 72)):
        image = _scene(height, width)
        try:
            other = torch.as_tensor(theirs(image)).float()
        except Exception as error:  # another library's code, which may raise anything
            reason = (str(error).splitlines() or [""])[0]
            raise InputError(f"its own code fails on an image ({reason})") from error
        seen = ours(image)
        if seen.shape != other.shape:
            raise InputError(
                f"it makes {list(other.shape)} of an image of {width} x {height}, not "
                f"{list(seen.shape)}"
            )
        if not difference(seen, other) <= MOST_DIFFERENCE:
            raise InputError(
                f"its values of an image of {width} x {height} differ by "
                f"{difference(seen, other):.2f} standard deviations from {ours}"
            )


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Returns the mean difference in standard deviations, at the best shift of up to one pixel.

    Where an odd number of pixels is cut off, libraries do not agree on the side of the last one.
    """
    inner = theirs[:, 1:-1, 1:-1]
    shifts = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    moved = (ours.roll(shift, (1, 2))[:, 1:-1, 1:-1] for shift in shifts)
    least = min(float((one - inner).abs().mean()) for one in moved)
    return least / max(float(theirs.std()), 1e-6)


@cache
def _scene(height: int, width: int) -> Tensor:
    """Returns a random image with coarse and fine detail, as a photograph has, and no symmetry."""
    dice = torch.Generator().manual_seed(0)
    scene = torch.zeros(1, 3, height, width)
    for size in (4, 12, 36, 108, 324):
        detail = torch.rand(1, 3, size, size, generator=dice)
        scene += F.interpolate(detail, (height, width), mode="bilinear")
    return scene[0].mul(51).to(torch.uint8)
