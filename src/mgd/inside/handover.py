"""Handover: the maps that the backbone of a detector or segmenter hands to its heads."""

from collections import OrderedDict
from itertools import pairwise
from typing import Any

from torch import Tensor
from torch.autograd.graph import Node


class Handover:
    """The dictionaries of maps that the modules inside a network returned in one forward.

    Example:
        >>> import torch
        >>> fine = torch.zeros(1, 8, 4, 4, requires_grad=True).exp()
        >>> coarse = fine[..., ::2, ::2]
        >>> handover = Handover()
        >>> handover.note("backbone", {"0": fine, "1": coarse})
        >>> handover.trunk, handover.levels == [fine.grad_fn, coarse.grad_fn]
        ('backbone', True)
    """

    def __init__(self) -> None:
        self._noted: list[tuple[str, list[Tensor]]] = []

    def note(self, path: str, output: Any) -> None:
        """Looks at what a module returned.

        Args:
            path: Of the module; "" is the network itself, whose output goes to no head.
            output: Anything.
        """
        # Subclasses of dictionaries are the outputs of whole networks, as those of transformers.
        if path and type(output) in (dict, OrderedDict):
            maps = list(output.values())
            if maps and all(isinstance(each, Tensor) and each.dim() == 4 for each in maps):
                self._noted.append((path, maps))

    @property
    def trunk(self) -> str:
        """Path of the outermost module that returned maps; "" where there is none."""
        paths = [path for path, _ in self._noted]
        return min(paths, key=lambda path: path.count("."), default="")

    @property
    def levels(self) -> list[Node]:
        """The operations that made the levels of a feature pyramid, from fine to coarse.

        A pyramid is a dictionary of maps of equal channels, each smaller than the one before.
        """
        return [each.grad_fn for each in self._pyramid[1] if each.grad_fn is not None]

    def is_in_trunk(self, path: str) -> bool:
        """Tells whether a module is none of a head or pyramid; without a trunk each is in it."""
        pyramid = self._pyramid[0]
        is_behind = pyramid not in ("", self.trunk) and path.startswith(f"{pyramid}.")
        return path.startswith(f"{self.trunk}.") and not is_behind if self.trunk else True

    @property
    def _pyramid(self) -> tuple[str, list[Tensor]]:
        """Path of the innermost module that returns the pyramid, and its levels."""
        for path, maps in self._noted:
            areas = [each.shape[2] * each.shape[3] for each in maps]
            is_falling = all(area > next_area for area, next_area in pairwise(areas))
            if len(maps) > 1 and is_falling and len({each.shape[1] for each in maps}) == 1:
                return path, maps
        return "", []
