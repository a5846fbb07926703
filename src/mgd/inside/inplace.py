"""In-place operations write over their input, which a tap may still need.

A tensor tells how often it was written to. An in-place activation module behind a tap can be made
to write elsewhere for a while: its result is the same, and the tap's tensor stays as it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


def in_place_modules(network: nn.Module) -> list[nn.Module]:
    """Returns the modules that write over their input, as `nn.ReLU(inplace=True)` does.

    Example:
        >>> in_place_modules(nn.Sequential(nn.ReLU(inplace=True), nn.ReLU()))
        [ReLU(inplace=True)]
    """
    return [module for module in network.modules() if getattr(module, "inplace", False) is True]


class OutOfPlaceModules:
    """In-place modules that are out-of-place for now; `restore` makes them in-place again.

    Example:
        >>> relu = nn.ReLU(inplace=True)
        >>> changed = OutOfPlaceModules()
        >>> changed.add(relu)
        >>> relu.inplace
        False
        >>> changed.restore()
        >>> relu.inplace
        True
    """

    def __init__(self) -> None:
        # `inplace` is an attribute of many classes without a common base class, hence `Any`.
        self._modules: list[Any] = []

    def __len__(self) -> int:
        return len(self._modules)

    def add(self, module: nn.Module) -> None:
        """Makes an in-place module out-of-place until `restore`."""
        changed: Any = module
        changed.inplace = False
        self._modules.append(changed)

    @contextmanager
    def in_place_again(self) -> Iterator[None]:
        """Makes the modules in-place within the context."""
        self._set_inplace(True)
        try:
            yield
        finally:
            self._set_inplace(False)

    def restore(self) -> None:
        """Makes the modules in-place again and forgets them."""
        self._set_inplace(True)
        self._modules.clear()

    def _set_inplace(self, inplace: bool) -> None:
        for module in self._modules:
            module.inplace = inplace


@contextmanager
def out_of_place(network: nn.Module) -> Iterator[None]:
    """Makes every in-place module of a network out-of-place within the context.

    Example:
        >>> network = nn.Sequential(nn.ReLU(inplace=True))
        >>> with out_of_place(network):
        ...     network[0].inplace
        False
        >>> network[0].inplace
        True
    """
    changed = OutOfPlaceModules()
    try:
        for module in in_place_modules(network):
            changed.add(module)
        yield
    finally:
        changed.restore()


def times_written(tensor: Tensor) -> int:
    """Returns how often a tensor's memory was written to in place, through any view of it.

    Example:
        >>> import torch
        >>> tensor = torch.zeros(2)
        >>> before = times_written(tensor)
        >>> tensor += 1
        >>> times_written(tensor) - before
        1
    """
    return int(tensor._version)  # private, but torch has no public count of in-place writes
