"""A probe runs a network once and notes what goes into and comes out of every module.

The network runs in eval mode on one image and is given back as it was. Beside the tensors, the
probe keeps autograd's graph: it knows how they follow from one another, also where modules do
not tell, as in `F.relu(x + shortcut)`.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from mgd.errors import InputError, TapError
from mgd.inside.taps import Side, Tap, TappedModel

Node = Any
"""A node of the autograd graph: the operation that made a tensor."""

RESHAPING = ("View", "Reshape", "Permute", "Transpose", "Clone", "Alias", "Contiguous", "Squeeze")
"""Operations that only lay values out anew, by the start of their node's name."""


@dataclass(frozen=True)
class Reading:
    """What a tap reads from one image."""

    tap: Tap
    channels: int
    height: int
    width: int
    norm: str | None
    """Path of the BatchNorm whose output, plus a shortcut at most, the tap reads."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width


@dataclass(frozen=True)
class Sighting:
    """A tensor that went into or came out of a module at the module's last call."""

    path: str
    side: Side
    tick: int
    """Calls and returns are numbered in the order in which they happen."""
    tensor: Tensor
    node: Node
    version: int

    @property
    def overwritten(self) -> bool:
        """Whether the tensor was written to after it was seen."""
        return bool(self.tensor._version != self.version)


class Trace:
    """What a probe saw.

    Args:
        network: The network to run.
        example: Images as the network takes them; the first one is used.
    """

    def __init__(self, network: nn.Module, example: Tensor):
        self.network = network
        self.image_size = (example.shape[-2], example.shape[-1])
        self.modules = dict(network.named_modules())
        self.sightings: dict[tuple[str, Side], Sighting] = {}
        self.makers: dict[Node, list[str]] = {}
        """The modules that return what a node made, the innermost first."""
        self.consumers: dict[Node, list[Node]] = {}
        self.norms: dict[Node, str] = {}
        """The nodes that BatchNorm modules make, ahead of a fused activation."""
        with evaluating(network), _constant_weights(network), ExitStack() as stack:
            stack.enter_context(torch.enable_grad())
            stack.enter_context(_out_of_place(network))
            stack.enter_context(self._watching())
            output = _run(network, example[:1])
        self._link([leaf.grad_fn for leaf in tree_leaves(output) if isinstance(leaf, Tensor)])

    @contextmanager
    def _watching(self) -> Iterator[None]:
        handles = []
        for path, module in self.modules.items():
            handles.append(module.register_forward_pre_hook(partial(self._note_input, path)))
            handles.append(module.register_forward_hook(partial(self._note_output, path)))
        self._ticks = 0
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _note(self, path: str, side: Side, tensor: Any) -> None:
        self._ticks += 1
        if isinstance(tensor, Tensor):
            self.sightings[path, side] = Sighting(
                path, side, self._ticks, tensor, tensor.grad_fn, tensor._version
            )

    def _note_input(self, path: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._note(path, "input", args[0] if args else None)

    def _note_output(
        self, path: str, module: nn.Module, args: tuple[Any, ...], output: Any
    ) -> None:
        self._note(path, "output", output)
        if not isinstance(output, Tensor) or output.grad_fn is None:
            return
        self.makers.setdefault(output.grad_fn, []).append(path)
        if isinstance(module, _BatchNorm):
            node: Node = output.grad_fn
            while node is not None and "BatchNorm" not in node.name():
                node = next(iter(parents_of(node)), None)
            self.norms[node] = path

    def _link(self, nodes: list[Node]) -> None:
        """Follows the graph back from the output to note who reads what."""
        todo, seen = [node for node in nodes if node is not None], set[Node]()
        while todo:
            node = todo.pop()
            if node in seen:
                continue
            seen.add(node)
            for parent in parents_of(node):
                self.consumers.setdefault(parent, []).append(node)
                todo.append(parent)

    def read(self, tap: Tap) -> Reading:
        """Returns what a tap reads.

        Raises:
            TapError: If its module was not called, or has no features there.
        """
        sighting = self.sightings.get((tap.path, tap.side))
        if sighting is None:
            raise TapError(
                f"tap '{tap}' did not fire with a tensor: the network's forward does not call "
                "that module, or passes it something else; choose another module"
            )
        tap = tap.with_layout(sighting.tensor, self.image_size)
        _, channels, height, width = tap.read(sighting.tensor, self.image_size).shape
        norm = _norm_in_front(sighting.node, self.norms)
        if norm is not None and num_features(self.modules[norm]) != channels:
            norm = None
        return Reading(tap, channels, height, width, norm)


def probe(network: nn.Module, taps: list[Tap], example: Tensor) -> list[Reading]:
    """Checks taps and reports what each of them reads.

    Raises:
        TapError: As `TappedModel.check`.
    """
    tapped = TappedModel(network, taps)
    try:
        with evaluating(network):
            tapped.check(example)
    finally:
        tapped.close()
    trace = Trace(network, example)
    return [trace.read(tap) for tap in taps]


def _run(network: nn.Module, images: Tensor) -> Any:
    try:
        # A leaf that needs gradients must not be written to; its product may.
        return network(images.detach().requires_grad_() * 1)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise InputError(
            f"{type(network).__name__} cannot run on an example of shape {tuple(images.shape)}: "
            f"{error}; give images of the size and channels that it takes"
        ) from error


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Puts networks into eval mode and gives every module its own mode back."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _constant_weights(network: nn.Module) -> Iterator[None]:
    """Keeps the weights out of the graph, so that it shows the way of the image alone."""
    learned = [weight for weight in network.parameters() if weight.requires_grad]
    try:
        for weight in learned:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in learned:
            weight.requires_grad_(True)


@contextmanager
def _out_of_place(network: nn.Module) -> Iterator[None]:
    """Makes in-place activation modules spare their input, as `TappedModel.check` does."""
    modules: list[Any] = [m for m in network.modules() if getattr(m, "inplace", False) is True]
    try:
        for module in modules:
            module.inplace = False
        yield
    finally:
        for module in modules:
            module.inplace = True


def parents_of(node: Node) -> list[Node]:
    """Returns the nodes that an operation reads."""
    return [parent for parent, _ in node.next_functions if parent is not None]


def is_reshaping(node: Node) -> bool:
    """Tells whether an operation only lays values out anew."""
    return bool(node.name().removeprefix("Unsafe").startswith(RESHAPING))


def behind_reshaping(node: Node) -> Node:
    """Returns the operation that made the values, before they were laid out anew."""
    while node is not None and is_reshaping(node):
        node = next(iter(parents_of(node)), None)
    return node


def num_features(module: nn.Module) -> int:
    """Returns the channels of a BatchNorm, 0 for anything else."""
    return module.num_features if isinstance(module, _BatchNorm) else 0


def _norm_in_front(node: Node, norms: dict[Node, str]) -> str | None:
    """Finds the BatchNorm in front of a tensor: of several, the one on the main branch.

    Through sums and reshaping a normal distribution stays what the BatchNorm made it, shortcuts
    aside. Behind a residual sum stand two: the shortcut's and the main branch's. The main branch
    is the longer one, so its BatchNorm lies deepest below the input.
    """
    found, todo, seen = [], [node], set()
    while todo:
        current = todo.pop()
        if current is None or current in seen:
            continue
        seen.add(current)
        if current in norms:
            found.append(current)
        elif current.name().startswith("Add") or is_reshaping(current):
            todo.extend(parents_of(current))
    if not found:
        return None
    depths: dict[Node, int] = {}
    return norms[max(found, key=lambda norm: _depth(norm, depths))]


def _depth(node: Node, depths: dict[Node, int]) -> int:
    """Returns the longest way from a node back to the input; networks are too deep to recurse."""
    stack = [node]
    while stack:
        current = stack[-1]
        parents = parents_of(current)
        missing = [parent for parent in parents if parent not in depths]
        if missing:
            stack.extend(missing)
        else:
            depths[current] = 1 + max((depths[parent] for parent in parents), default=0)
            stack.pop()
    return depths[node]
