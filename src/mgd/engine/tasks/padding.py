"""Padding: shortcuts that add channels of zeros, which torch-pruning does not follow by itself."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch.overrides import TorchFunctionMode


class Padding(NamedTuple):
    """Channels of zeros around others, which are those from `start` up to `stop`."""

    start: int
    stop: int


class Paddings(TorchFunctionMode):
    """Records the operations that put channels of zeros around maps (B, C, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Any, Padding]] = []
        """Each with autograd's object of the operation."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # As autograd keeps them: two widths for each axis, from the last axis on.
        widths: tuple[int, ...] = getattr(getattr(result, "grad_fn", None), "_saved_pad", ())
        if len(widths) == 6:
            start = widths[4]
            self.found.append((result.grad_fn, Padding(start, start + args[0].shape[1])))
        return result

    def of(self, node: Any) -> Padding | None:
        """Returns the padding of a node of torch-pruning's graph; `None` of any other operation."""
        return next((pad for made, pad in self.found if made is node.grad_fn), None)


def follow(paddings: Paddings, tp: Any, graph: Any) -> None:
    """Tells torch-pruning where channels are behind a padding; it would take them as unmoved."""
    # It has no public way for it.
    mapping = tp.dependency.index_mapping._ConcatIndexMapping
    for node in graph.module2node.values():
        if (pad := paddings.of(node)) is None:
            continue
        for dependency in node.dependencies:
            if dependency.target in node.inputs:
                dependency.index_mapping[1] = mapping(pad, reverse=True)
        for source in node.inputs:
            for dependency in source.dependencies:
                if dependency.target is node:
                    dependency.index_mapping[1] = mapping(pad)
